"""Receipts, as JSON or as a page to print."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import HTML, Answer, as_json
from api.auth import ANY_TOKEN
from api.dispatch import Call, Operation
from api.resources.receipt_page import CONTENT_POLICY, page_of
from engine import errors
from engine.wallets.receipts import Receipt

_PARTS_MAX = 20


class ReceiptQuery(BaseModel):
    """A receipt's format. Without it the header Accept decides. JSON is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Annotated[Literal["json", "html"] | None, Field(description="html: a page to print")] = None


async def get_receipt(call: Call) -> Answer:
    """Return the receipt of a packet or transfer to its sender, a recipient or an admin."""
    caller = call.caller
    receipt = await call.engine.receipts.of(call.path["number"], caller.user_id, sees_all=caller.sees_all)
    if call.query.format == "html" or (call.query.format is None and prefers_page(call.accept)):
        policy = (b"content-security-policy", CONTENT_POLICY.encode())
        return Answer(200, page_of(receipt), (*HTML, policy, (b"vary", b"accept")))
    return as_json(receipt, 200, (b"vary", b"accept"))


def prefers_page(accept: str) -> bool:
    """Whether a header Accept prefers HTML to JSON."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(",")[:_PARTS_MAX]:
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in weights:
            weights[name] = _weight(parameters)
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: list[str]) -> float:
    """The value of ``q``: 1 without it, 0 if it cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            return float(value) if value.replace(".", "", 1).isdecimal() and value.isascii() else 0.0
    return 1.0


ROUTES = (
    Operation(
        method="GET",
        path="/v1/transactions/{number}/receipt",
        endpoint=get_receipt,
        summary="The receipt of a packet or transfer, with a hash that `hongbao verify` checks; as JSON or as a page.",
        access=ANY_TOKEN,
        query=ReceiptQuery,
        has_page=True,
        answer=Receipt,
        problems=(errors.NotSettledError, errors.NotInLedgerError, errors.UnavailableError),
    ),
)
