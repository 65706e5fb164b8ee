"""Payment passwords, and money that leaves a wallet for a bank."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import WITH_PASSWORD
from api.payloads import Fen, NewestFirstQuery, Payload
from engine import errors
from engine.wallets.withdrawals import Withdrawal, WithdrawalsPage

SixDigits = Annotated[str, Field(pattern=r"^[0-9]{6}$", description="Six digits", examples=["135790"])]


class PaymentPasswordBody(Payload):
    """A payment password to set. If there is one already, changing it needs the current one."""

    password: SixDigits = Field(repr=False)  # a printed body must not contain it
    current_password: SixDigits | None = Field(None, repr=False, description="Required if a password is set")


class WithdrawalBody(Payload):
    """A withdrawal. Its fee comes on top of the amount."""

    amount_fen: Annotated[Fen, Field(description="In fen, without the fee")]
    bank_account: Annotated[str, Field(pattern=r"^[0-9A-Z]{8,34}$", description="8 to 34 digits and capital letters")]
    payment_password: SixDigits = Field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPasswordAnswer:
    """When the password was set."""

    user_id: str
    set_at_ms: int


async def set_payment_password(call: Call) -> Answer:
    """Set or change a user's payment password."""
    user_id, body = call.path["user_id"], call.body
    call.caller.must_be(user_id)
    set_at_ms = await call.engine.payment_passwords.put(user_id, body.password, body.current_password)
    return as_json(PaymentPasswordAnswer(user_id=user_id, set_at_ms=set_at_ms))


async def withdraw(call: Call) -> Answer:
    """Withdraw from a wallet to a bank."""
    user_id, body = call.path["user_id"], call.body
    call.caller.must_be(user_id)
    withdrawal, replayed = await call.engine.withdrawals.withdraw(
        user_id,
        body.amount_fen,
        body.bank_account,
        body.payment_password,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return as_json(withdrawal, 201, *([(b"idempotency-replayed", b"true")] if replayed else []))


async def list_withdrawals(call: Call) -> Answer:
    """Return a user's withdrawals, newest first."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.withdrawals.of(user_id, after=call.query.after, limit=call.query.limit))


async def get_withdrawal(call: Call) -> Answer:
    """Return a withdrawal as it is now."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.withdrawals.get(user_id, int(call.path["withdrawal_id"])))


_OWNER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/payment-password",
        endpoint=set_payment_password,
        summary="Set a payment password; changing it needs the current one.",
        access=_OWNER,
        body=PaymentPasswordBody,
        answer=PaymentPasswordAnswer,
        may_be_repeated=False,  # after it was carried out, the current password is another: a wrong try
        problems=(*WITH_PASSWORD, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/withdrawals",
        endpoint=withdraw,
        summary="Withdraw to a bank account: the amount and its fee are held until the bank accepts or refuses.",
        access=_OWNER,
        body=WithdrawalBody,
        moves_money=True,
        answer=Withdrawal,
        status=201,
        problems=(
            errors.FrozenError,
            errors.AddressNotAllowedError,
            errors.InsufficientFundsError,
            *WITH_PASSWORD,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/withdrawals",
        endpoint=list_withdrawals,
        summary="A user's withdrawals, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=WithdrawalsPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/withdrawals/{withdrawal_id}",
        endpoint=get_withdrawal,
        summary="A withdrawal: processing, settled or failed.",
        access=ANY_TOKEN,
        answer=Withdrawal,
        problems=(errors.UnknownWithdrawalError, errors.UnavailableError),
    ),
)
