"""Wallets and a user's records."""

from api import wallets
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.payloads import DepositAnswer, DepositBody, PageQuery, RecordsQuery, StatementQuery
from engine.records import PacketsPage, TransfersPage, Wallet

ROUTES = (
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}",
        endpoint=wallets.get_wallet,
        summary="What a user holds.",
        access=ANY_TOKEN,
        answer=Wallet,
        problems=(403, 503),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/transfers",
        endpoint=wallets.list_transfers,
        summary="A wallet's movements, newest first.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=TransfersPage,
        problems=(403, 503),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/statement.csv",
        endpoint=wallets.get_statement,
        summary="A wallet's movements of some days, with closing totals, in the columns of a fund bill.",
        access=ANY_TOKEN,
        query=StatementQuery,
        answer=None,
        media_type="text/csv",
        problems=(403, 503),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/deposits",
        endpoint=wallets.deposit,
        summary="Put money from outside into a wallet.",
        access=Access(("admin",)),
        body=DepositBody,
        moves_money=True,
        answer=DepositAnswer,
        status=201,
        problems=(409, 503),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/packets",
        endpoint=wallets.list_packets,
        summary="The packets a user sent or received, newest first.",
        access=ANY_TOKEN,
        query=RecordsQuery,
        answer=PacketsPage,
        problems=(403, 503),
    ),
)
