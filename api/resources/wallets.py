"""Wallets and a user's records."""

from api.answers import Answer, Streamed, as_csv_file, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import DepositAnswer, DepositBody, NewestFirstQuery, RecordsQuery, StatementQuery
from engine import errors
from engine.calendar.china_time import today
from engine.packets.views import PacketsPage
from engine.wallets.wallets import TransfersPage, Wallet


async def get_wallet(call: Call) -> Answer:
    """Return a user's balance."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.wallets.get(user_id))


async def list_transfers(call: Call) -> Answer:
    """Return a wallet's entries, newest first."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.wallets.transfers(user_id, after=call.query.after, limit=call.query.limit))


async def get_statement(call: Call) -> Streamed:
    """Return a wallet's entries over some days as a file for spreadsheets, with closing totals."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    last = query.to or max(today(), query.first or today())
    statement = await call.engine.statements.of(user_id, query.first or last.replace(day=1), last)
    state = b"provisional" if statement.is_provisional else b"closed"
    return await as_csv_file(statement.file_name, statement.as_csv(), (b"hongbao-statement", state))


async def deposit(call: Call) -> Answer:
    """Put money from outside into a wallet."""
    deposited = await call.engine.wallets.deposit(
        call.path["user_id"],
        call.body.amount_fen,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = {
        "transfer_id": deposited.transfer_id,
        "user_id": deposited.user_id,
        "amount_fen": deposited.amount_fen,
        "balance_fen": deposited.balance_fen,
    }
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if deposited.replayed else []))


async def list_packets(call: Call) -> Answer:
    """Return the packets that a user sent or received, newest first."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    query = call.query
    return as_json(await call.engine.views.records(user_id, role=query.role, after=query.after, limit=query.limit))


ROUTES = (
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}",
        endpoint=get_wallet,
        summary="A user's balance.",
        access=ANY_TOKEN,
        answer=Wallet,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/transfers",
        endpoint=list_transfers,
        summary="A wallet's ledger entries, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=TransfersPage,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/statement.csv",
        endpoint=get_statement,
        summary="A wallet's ledger entries of some days as booked, with closing totals, in the columns of a fund bill. "
        "A file that includes today is provisional, and says so in its name and in the header Hongbao-Statement.",
        access=ANY_TOKEN,
        query=StatementQuery,
        answer=None,
        media_type="text/csv",
        problems=(errors.DayNotClosedError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/wallets/{user_id}/deposits",
        endpoint=deposit,
        summary="Deposit money from outside into a wallet.",
        access=Access(("admin",)),
        body=DepositBody,
        moves_money=True,
        answer=DepositAnswer,
        status=201,
        problems=(errors.LimitExceededError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/packets",
        endpoint=list_packets,
        summary="The packets a user sent or received, newest first.",
        access=ANY_TOKEN,
        query=RecordsQuery,
        answer=PacketsPage,
        problems=(errors.UnavailableError,),
    ),
)
