"""Payment passwords and withdrawals."""

from api import withdrawals
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.failures import WITH_PASSWORD
from api.payloads import PageQuery
from api.withdrawals import PaymentPasswordAnswer, PaymentPasswordBody, WithdrawalBody
from engine import errors
from engine.wallets.withdrawals import Withdrawal, WithdrawalsPage

_OWNER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/payment-password",
        endpoint=withdrawals.set_payment_password,
        summary="Set a payment password; changing it needs the current one.",
        access=_OWNER,
        body=PaymentPasswordBody,
        answer=PaymentPasswordAnswer,
        problems=(*WITH_PASSWORD, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/withdrawals",
        endpoint=withdrawals.withdraw,
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
        endpoint=withdrawals.list_withdrawals,
        summary="A user's withdrawals, newest first.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=WithdrawalsPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/withdrawals/{withdrawal_id}",
        endpoint=withdrawals.get_withdrawal,
        summary="A withdrawal: processing, settled or failed.",
        access=ANY_TOKEN,
        answer=Withdrawal,
        problems=(errors.UnknownWithdrawalError, errors.UnavailableError),
    ),
)
