"""Papers over single transactions."""

from api import receipts
from api.auth import ANY_TOKEN
from api.dispatch import Operation
from engine.receipts import Receipt

ROUTES = (
    Operation(
        method="GET",
        path="/v1/transactions/{number}/receipt",
        endpoint=receipts.get_receipt,
        summary="What the ledger says of a packet or transfer, with a hash that `hongbao verify` checks; or as a page.",
        access=ANY_TOKEN,
        query=receipts.ReceiptQuery,
        has_page=True,
        answer=Receipt,
        problems=(404, 409, 503),
    ),
)
