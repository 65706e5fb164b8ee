"""Wallets and a user's records."""

from api import wallets
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.payloads import DepositAnswer, DepositBody, PageQuery, RecordsQuery, StatementQuery
from engine import errors
from engine.records import PacketsPage, TransfersPage, Wallet

ROUTES = (
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}",
        endpoint=wallets.get_wallet,
        summary="A user's balance.",
        access=ANY_TOKEN,
        answer=Wallet,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/transfers",
        endpoint=wallets.list_transfers,
        summary="A wallet's ledger entries, newest first.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=TransfersPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/statement.csv",
        endpoint=wallets.get_statement,
        summary="A wallet's ledger entries of some days, with closing totals, in the columns of a fund bill.",
        access=ANY_TOKEN,
        query=StatementQuery,
        answer=None,
        media_type="text/csv",
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/deposits",
        endpoint=wallets.deposit,
        summary="Deposit money from outside into a wallet.",
        access=Access(("admin",)),
        body=DepositBody,
        moves_money=True,
        answer=DepositAnswer,
        status=201,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/packets",
        endpoint=wallets.list_packets,
        summary="The packets a user sent or received, newest first.",
        access=ANY_TOKEN,
        query=RecordsQuery,
        answer=PacketsPage,
        problems=(errors.UnavailableError,),
    ),
)
