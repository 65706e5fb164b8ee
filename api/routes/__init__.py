"""The route table, a module a part. The application and the OpenAPI document are both made from it."""

from api.routes import packets, receipts, status, wallets

# The path of a claim comes first: routes are tried in this order.
ROUTES = (*packets.ROUTES, *wallets.ROUTES, *receipts.ROUTES, *status.ROUTES)
