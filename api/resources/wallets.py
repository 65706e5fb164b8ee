"""Wallets and a user's records."""

from api.answers import Answer, Streamed, as_csv_file, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import AssetQuery, DepositAnswer, DepositBody, EntriesQuery, RecordsQuery, StatementQuery
from engine import errors
from engine.calendar.china_time import today
from engine.packets.views import PacketsPage
from engine.wallets.assets import Issued
from engine.wallets.wallets import Deposit, TransfersPage, Wallet


async def get_wallet(call: Call) -> Answer:
    """Return a user's balance."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.wallets.get(user_id, await call.engine.assets.named(call.query.asset)))


async def list_transfers(call: Call) -> Answer:
    """Return a wallet's entries, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    known = await call.engine.assets.named(query.asset)
    page = await call.engine.wallets.transfers(user_id, after=query.after, limit=query.limit, asset=known.code)
    return as_json(page)


async def get_statement(call: Call) -> Streamed:
    """Return a wallet's entries over some days as a file for spreadsheets, with closing totals."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    known = await call.engine.assets.named(query.asset)
    last = query.to or max(today(), query.first or today())
    statement = await call.engine.statements.of(user_id, query.first or last.replace(day=1), last, known)
    state = b"provisional" if statement.is_provisional else b"closed"
    return await as_csv_file(statement.file_name, statement.as_csv(), (b"hongbao-statement", state))


async def deposit(call: Call) -> Answer:
    """Put money from outside into a wallet, or issue some of another asset."""
    user_id, body = call.path["user_id"], call.body
    key, request_hash = call.idempotency_key, call.request_hash
    known = await call.engine.assets.named(body.asset)
    deposited: Deposit | Issued
    if known.code is None:
        deposited = await call.engine.wallets.deposit(
            user_id, body.amount_fen, idempotency_key=key, request_hash=request_hash
        )
    else:
        deposited = await call.engine.assets.issue(
            user_id, body.amount_fen, known, idempotency_key=key, request_hash=request_hash
        )
    answer = {
        "transfer_id": deposited.transfer_id,
        "user_id": deposited.user_id,
        "amount_fen": deposited.amount_fen,
        "balance_fen": deposited.balance_fen,
        "asset": known.asset,
    }
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if deposited.replayed else []))


async def list_packets(call: Call) -> Answer:
    """Return the packets that a user sent or received, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    known = await call.engine.assets.named(query.asset)
    page = await call.engine.views.records(
        user_id, role=query.role, after=query.after, limit=query.limit, asset=known.code
    )
    return as_json(page)


ROUTES = (
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}",
        endpoint=get_wallet,
        summary="A user's balance of the ledger's currency, or of another asset.",
        access=ANY_TOKEN,
        query=AssetQuery,
        answer=Wallet,
        problems=(errors.UnavailableError,),
    ),
    Operation(
        method="GET",
        path="/v1/wallets/{user_id}/transfers",
        endpoint=list_transfers,
        summary="A wallet's ledger entries, newest first.",
        access=ANY_TOKEN,
        query=EntriesQuery,
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
        summary="Deposit money from outside into a wallet, or issue some of another asset to its user.",
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
