"""Transfers between two people."""

from api import transfers
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.transfers import ArrivalDelayAnswer, ArrivalDelayBody, TransferBody
from engine.records import Transfer

_SENDER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/transfers",
        endpoint=transfers.send_transfer,
        summary="Transfer money to one person: it waits to be confirmed, or arrives after a delay.",
        access=_SENDER,
        body=TransferBody,
        moves_money=True,
        answer=Transfer,
        status=201,
        problems=(409, 503),
    ),
    Operation(
        method="GET",
        path="/v1/transfers/{transfer_id}",
        endpoint=transfers.get_transfer,
        summary="A transfer, for the two it is between.",
        access=ANY_TOKEN,
        answer=Transfer,
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/confirmation",
        endpoint=transfers.confirm_transfer,
        summary="Take a transfer that waits for its recipient.",
        access=Access(("claim", "act"), for_user=True),
        answer=Transfer,
        problems=(403, 404, 409, 503),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/cancellation",
        endpoint=transfers.cancel_transfer,
        summary="Call a transfer off that has not arrived, or that nobody has confirmed yet.",
        access=_SENDER,
        answer=Transfer,
        problems=(403, 404, 409, 503),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/arrival-delay",
        endpoint=transfers.get_arrival_delay,
        summary="After how long what the user transfers arrives.",
        access=ANY_TOKEN,
        answer=ArrivalDelayAnswer,
        problems=(403, 503),
    ),
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/arrival-delay",
        endpoint=transfers.choose_arrival_delay,
        summary="Choose when the user's transfers arrive; a few times a month.",
        access=_SENDER,
        body=ArrivalDelayBody,
        answer=ArrivalDelayAnswer,
        problems=(403, 409, 423, 503),
    ),
)
