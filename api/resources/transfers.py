"""Transfers between two people, and when they arrive."""

from typing import Annotated

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import CLAIMING, SENDING, WITH_PASSWORD
from api.payloads import TEXT, AssetCode, Fen, Payload, UserId
from engine import errors
from engine.transfers.transfers import Transfer


class TransferBody(Payload):
    """A transfer. Without both times, the sender's own choice applies (arrival-delay)."""

    to: Annotated[UserId, Field(description="Who receives it")]
    amount_fen: Annotated[
        Fen, Field(description="In fen, at most HONGBAO_TRANSFER_FEN_MAX; of another asset: in its smallest unit")
    ]
    confirm_within_s: Annotated[
        int | None,
        Field(
            description="Refunded if it is not confirmed by then: HONGBAO_TRANSFER_CONFIRM_S_SHORT or "
            "HONGBAO_TRANSFER_CONFIRM_S"
        ),
    ] = None
    arrives_after_s: Annotated[
        int | None,
        Field(
            description="Arrives by itself after this delay: HONGBAO_TRANSFER_DELAY_S_SHORT or "
            "HONGBAO_TRANSFER_DELAY_S_LONG; not with confirm_within_s"
        ),
    ] = None
    note: Annotated[str, Field(description=TEXT)] = ""
    asset: AssetCode = None


class ArrivalDelayBody(Payload):
    """The delay after which a user's transfers arrive."""

    arrives_after_s: Annotated[
        int,
        Field(
            description="0: the recipient confirms; or HONGBAO_TRANSFER_DELAY_S_SHORT, or HONGBAO_TRANSFER_DELAY_S_LONG"
        ),
    ]
    payment_password: Annotated[str | None, Field(description="Required for the longest delay")] = None


class ArrivalDelayAnswer(Payload):
    """The delay that is in force."""

    user_id: str
    arrives_after_s: int


async def send_transfer(call: Call) -> Answer:
    """Pay for a transfer."""
    body: TransferBody = call.body
    transfer, replayed = await call.engine.transfers.send(
        call.caller.user,
        body.to,
        body.amount_fen,
        note=body.note,
        asset=(await call.engine.assets.named(body.asset)).code,
        confirm_within_s=body.confirm_within_s,
        arrives_after_s=body.arrives_after_s,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(transfer, 201, *([(b"idempotency-replayed", b"true")] if replayed else []))


async def get_transfer(call: Call) -> Answer:
    """Return a transfer to its sender or recipient."""
    user_id = None if call.caller.sees_all else call.caller.user
    return as_json(await call.engine.transfers.get(call.path["transfer_id"], user_id))


async def confirm_transfer(call: Call) -> Answer:
    """Confirm a transfer."""
    return as_json(await call.engine.transfers.confirm(call.path["transfer_id"], call.caller.user))


async def cancel_transfer(call: Call) -> Answer:
    """Cancel a transfer."""
    return as_json(await call.engine.transfers.cancel(call.path["transfer_id"], call.caller.user))


async def get_arrival_delay(call: Call) -> Answer:
    """Return a user's choice."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json({"user_id": user_id, "arrives_after_s": await call.engine.delays.of(user_id)})


async def choose_arrival_delay(call: Call) -> Answer:
    """Choose when a user's transfers arrive."""
    user_id, body = call.path["user_id"], call.body
    call.caller.must_be(user_id)
    await call.engine.delays.choose(user_id, body.arrives_after_s, body.payment_password)
    return as_json({"user_id": user_id, "arrives_after_s": body.arrives_after_s})


_SENDER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/transfers",
        endpoint=send_transfer,
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
        endpoint=get_transfer,
        summary="A transfer, for its sender and its recipient.",
        access=ANY_TOKEN,
        answer=Transfer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/confirmation",
        endpoint=confirm_transfer,
        summary="Confirm a transfer: its recipient takes the money.",
        access=Access(("claim", "act"), for_user=True),
        answer=Transfer,
        problems=(errors.NotArrivedError, errors.TransferEndedError, *CLAIMING),
    ),
    Operation(
        method="POST",
        path="/v1/transfers/{transfer_id}/cancellation",
        endpoint=cancel_transfer,
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
        endpoint=get_arrival_delay,
        summary="The delay after which the user's transfers arrive.",
        access=ANY_TOKEN,
        answer=ArrivalDelayAnswer,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/arrival-delay",
        endpoint=choose_arrival_delay,
        summary="Choose the delay after which the user's transfers arrive; a few times per month.",
        access=_SENDER,
        body=ArrivalDelayBody,
        answer=ArrivalDelayAnswer,
        may_be_repeated=False,  # a wrong payment password would count as two tries
        problems=(errors.TooManyChangesError, *WITH_PASSWORD, errors.UnavailableError),
    ),
)
