"""Receipts of single transactions."""

from api import receipts
from api.auth import ANY_TOKEN
from api.dispatch import Operation
from engine import errors
from engine.wallets.receipts import Receipt

ROUTES = (
    Operation(
        method="GET",
        path="/v1/transactions/{number}/receipt",
        endpoint=receipts.get_receipt,
        summary="The receipt of a packet or transfer, with a hash that `hongbao verify` checks; as JSON or as a page.",
        access=ANY_TOKEN,
        query=receipts.ReceiptQuery,
        has_page=True,
        answer=Receipt,
        problems=(errors.NotSettledError, errors.NotInLedgerError, errors.UnavailableError),
    ),
)
