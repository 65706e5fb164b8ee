"""The route table: those of every resource. The application and the OpenAPI document are both made from it."""

from api.resources import accounts, disputes, packets, receipts, retraction, status, transfers, wallets, withdrawals

# The path of a claim comes first: routes are tried in this order.
ROUTES = (
    *packets.ROUTES,
    *retraction.ROUTES,
    *transfers.ROUTES,
    *wallets.ROUTES,
    *withdrawals.ROUTES,
    *receipts.ROUTES,
    *disputes.ROUTES,
    *accounts.ROUTES,
    *status.ROUTES,
)
