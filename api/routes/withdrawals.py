"""Payment passwords and withdrawals."""

from api import withdrawals
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.payloads import PageQuery
from api.withdrawals import PaymentPasswordAnswer, PaymentPasswordBody, WithdrawalBody
from engine.withdrawals import Withdrawal, WithdrawalsPage

_OWNER = Access(("send", "act"), for_user=True)

ROUTES = (
    Operation(
        method="PUT",
        path="/v1/wallets/{user_id}/payment-password",
        endpoint=withdrawals.set_payment_password,
        summary="Set a payment password; one that is set is changed with the current one.",
        access=_OWNER,
        body=PaymentPasswordBody,
        answer=PaymentPasswordAnswer,
        problems=(403, 409, 423, 503),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/withdrawals",
        endpoint=withdrawals.withdraw,
        summary="Withdraw to a bank account: the amount and its fee are held until the bank has it, or refuses it.",
        access=_OWNER,
        body=WithdrawalBody,
        moves_money=True,
        answer=Withdrawal,
        status=201,
        problems=(403, 409, 423, 503),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/withdrawals",
        endpoint=withdrawals.list_withdrawals,
        summary="A user's withdrawals, newest first.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=WithdrawalsPage,
        problems=(403, 503),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/withdrawals/{withdrawal_id}",
        endpoint=withdrawals.get_withdrawal,
        summary="A withdrawal: processing, settled or failed.",
        access=ANY_TOKEN,
        answer=Withdrawal,
        problems=(403, 404, 503),
    ),
)
