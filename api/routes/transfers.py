"""Transfers between two people."""

from api import transfers
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.failures import CLAIMING, SENDING, WITH_PASSWORD
from api.transfers import ArrivalDelayAnswer, ArrivalDelayBody, TransferBody
from engine import errors
from engine.records import Transfer

_SENDER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/transfers",
        endpoint=transfers.send_transfer,
        summary="Transfer money to one person: they confirm it, or it arrives after a delay.",
        access=_SENDER,
        body=TransferBody,
        moves_money=True,
        answer=Transfer,
        status=201,
        problems=(*SENDING,),
    ),
    Operation(
        method="GET",
        path="/v1/transfers/{transfer_id}",
        endpoint=transfers.get_transfer,
        summary="A transfer, for its sender and its recipient.",
        access=ANY_TOKEN,
        answer=Transfer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/confirmation",
        endpoint=transfers.confirm_transfer,
        summary="Confirm a transfer: its recipient takes the money.",
        access=Access(("claim", "act"), for_user=True),
        answer=Transfer,
        problems=(errors.FrozenError, errors.NotArrivedError, errors.TransferEndedError, *CLAIMING),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/cancellation",
        endpoint=transfers.cancel_transfer,
        summary="Cancel a transfer that has not arrived, or that its recipient has not confirmed yet.",
        access=_SENDER,
        answer=Transfer,
        problems=(
            errors.NotSenderError,
            errors.FrozenError,
            errors.NotCancellableError,
            errors.RecoveringError,
            errors.OpeningError,
            errors.UnconfirmedError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/arrival-delay",
        endpoint=transfers.get_arrival_delay,
        summary="The delay after which the user's transfers arrive.",
        access=ANY_TOKEN,
        answer=ArrivalDelayAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/arrival-delay",
        endpoint=transfers.choose_arrival_delay,
        summary="Choose the delay after which the user's transfers arrive; a few times per month.",
        access=_SENDER,
        body=ArrivalDelayBody,
        answer=ArrivalDelayAnswer,
        problems=(errors.TooManyChangesError, *WITH_PASSWORD, errors.UnavailableError),
    ),
)
