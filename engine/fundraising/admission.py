"""What a gift and a match have in common: who may pay now, and a fundraiser that still takes something."""

from typing import NamedTuple

from engine.errors import FundraiserEndedError, InsufficientFundsError, UnknownFundraiserError
from engine.ledger.database import Connection
from engine.ledger.money import lock_wallet, now_ms
from engine.queries import load
from engine.records import SplitKind, Terms
from engine.risk import limits, watch
from engine.settings import Settings

SQL = load("fundraising")
TOO_LITTLE = "The wallet holds less than the amount."


class Locked(NamedTuple):
    """A fundraiser that is open, locked until the transaction ends. ``now_ms``: since when, by Postgres's clock."""

    account_id: int
    match_count: int
    now_ms: int


async def admit(
    connection: Connection, settings: Settings, user_id: str, amount_fen: int, *, what: str, address: str, field: str
) -> int:
    """Admit a user who pays into a fund, as for a packet of one share. Returns their wallet's account, locked.

    ``what``: the kind of movement, for alerts; ``field``: the field with the amount. Raises as ``limits.admit`` does.
    """
    terms = Terms(
        total_fen=amount_fen,
        count=1,
        split=SplitKind.EQUAL,
        min_fen=amount_fen,
        max_fen=amount_fen,
        ttl_s=0,
        greeting="",
        recipients=(),
    )
    at_ms = await now_ms(connection)
    try:
        await limits.admit(connection, settings, user_id, terms, address=address, at_ms=at_ms)
    except InsufficientFundsError:
        raise InsufficientFundsError(TOO_LITTLE, field) from None
    await watch.look(connection, settings, user_id, amount_fen, what=what, address=address, at_ms=at_ms)
    return (await lock_wallet(connection, user_id)).account_id


async def lock_open(connection: Connection, fundraiser_id: str) -> Locked:
    """Lock a fundraiser's row, after the payer's wallet. All who give to it take turns from here on.

    Raises UnknownFundraiserError, FundraiserEndedError.
    """
    row = await connection.fetchrow(SQL["lock"], int(fundraiser_id))
    if row is None:
        raise UnknownFundraiserError("No fundraiser has this number.")
    if row["state"] != "open" or row["now_ms"] >= row["ends_at_ms"]:
        raise FundraiserEndedError("The fundraiser has ended.")
    return Locked(row["account_id"], row["match_count"], row["now_ms"])
