"""The draw: completers are put in an order that the seed decides, and the pool is split among them, part by part.

Each part is one transaction, which also notes how far the draw is. So it goes on where it was after a crash, and
several sweepers take turns. Nobody can complete a set once its completers have been counted.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import structlog

from engine.cards import draws, offers
from engine.cards.draws import shares
from engine.cards.register import SQL
from engine.cards.terms import Payout
from engine.errors import OperatorError
from engine.ledger.chain import transfer_hash
from engine.ledger.database import Connection
from engine.ledger.money import lock_wallet, move, now_ms
from engine.loops import PASSING, every, outlived
from engine.records import SplitKind

LOG = structlog.get_logger()
INTERVAL_S = 1.0
"""How often the sweeper looks for sets to draw, and for offers whose time is over."""
_SETS_AT_ONCE = 20
_COUNT_S_MAX = 600.0
"""To count ten million completers on a slow disk. Nobody waits for it."""


class _Part(NamedTuple):
    """Some completers in their order, and their shares."""

    first: int
    user_ids: list[str]
    amounts_fen: list[int]


async def follow_card_sets(pool: asyncpg.Pool, stop: asyncio.Event) -> None:
    """Draw sets and end offers, again and again until ``stop`` is set. Failures are logged and retried."""

    async def once() -> bool:
        has_more = await offers.expire(pool)
        return await draw_due(pool) or has_more

    await every("card_sets", INTERVAL_S, stop, once)


async def draw_due(pool: asyncpg.Pool) -> bool:
    """Go a step on with each set whose time has come. Returns whether there is more to do at once.

    Raises asyncpg's errors if it cannot look for them.
    """
    has_more = False
    for row in await pool.fetch(SQL["at_work"], _SETS_AT_ONCE):
        try:
            has_more = await step(pool, row["set_id"]) or has_more
        except PASSING as error:  # one set failed: the others go on
            outlived("card_sets", error, set_id=row["set_id"])
    return has_more


async def step(pool: asyncpg.Pool, set_id: int) -> bool:
    """One step of a set, in one transaction. Returns whether another can follow at once. Raises asyncpg's errors.

    The set's row is locked first: completions and payments of shares hold it together, and wait, or are waited for.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = (await connection.fetch(SQL["lock_set"], set_id))[0]
        at_ms = await now_ms(connection)
        match row["state"]:
            case "collecting" if at_ms >= row["draws_at_ms"]:
                return await _close(connection, row, at_ms)
            case "drawing":
                return await _draw_part(connection, row, at_ms)
            case "drawn" if at_ms >= row["drawn_at_ms"] + row["claim_seconds"] * 1000:
                await _settle(connection, row, at_ms)
        return False


async def _close(connection: Connection, row: asyncpg.Record, at_ms: int) -> bool:
    """Count the completers. From now on there are no others. Without any, the pool goes back."""
    completers = await connection.fetchval(SQL["completers"], row["set_id"], timeout=_COUNT_S_MAX)
    await connection.execute(SQL["close"], row["set_id"], completers)
    LOG.info("card_set_closed", set_id=row["set_id"], completers=completers)
    if not completers:
        await connection.execute(SQL["all_drawn"], row["set_id"], at_ms)
        await _settle(connection, row, at_ms)
    return bool(completers)


async def _draw_part(connection: Connection, row: asyncpg.Record, at_ms: int) -> bool:
    """Draw the next part and, if shares are paid at once, pay it. Returns whether there are more."""
    set_id, completers, first = row["set_id"], row["completers"], row["drawn"]
    found = await connection.fetch(SQL["next_completers"], set_id, row["drawn_key"] or b"", draws.PART)
    if len(found) != min(draws.PART, completers - first):
        raise OperatorError(f"Set of cards {set_id} has other completers than were counted: run `hongbao audit`.")
    terms = (SplitKind(row["split"]), row["pool_fen"], completers, row["min_fen"], row["seed"], str(set_id), first)
    part = _Part(first, [completer["user_id"] for completer in found], await asyncio.to_thread(shares, *terms))
    numbers: list[int | None] = [None] * len(found)
    if row["payout"] == Payout.AT_ONCE:
        numbers = list(await _pay(connection, row["pool_account"], part, at_ms))
    places = list(range(first, first + len(found)))
    paid_at_ms = [None if number is None else at_ms for number in numbers]
    await connection.execute(SQL["add_shares"], set_id, part.user_ids, places, part.amounts_fen, numbers, paid_at_ms)
    drawn = first + len(found)
    await connection.execute(SQL["note_drawn"], set_id, drawn, found[-1]["draw_key"])
    if drawn < completers:
        return True
    await connection.execute(SQL["all_drawn"], set_id, at_ms)
    LOG.info("card_set_drawn", set_id=set_id, completers=completers)
    if row["payout"] == Payout.AT_ONCE:
        await connection.execute(SQL["settle"], set_id, 0)
    return False


async def _pay(connection: Connection, pool_account: int, part: _Part, at_ms: int) -> Sequence[int]:
    """Pay a part's shares from the pool, as many entries as users, in a few statements. Returns the entries' numbers.

    As everywhere: accounts are locked in the order of their ids, then entries get their numbers, and each entry's hash
    covers the one before it of the account that pays.
    """
    wallets = {row["owner"]: row["account_id"] for row in await connection.fetch(SQL["wallets"], part.user_ids)}
    if len(wallets) != len(part.user_ids):
        raise OperatorError("A completer of a set of cards has no wallet: run `hongbao audit`.")
    payees = [wallets[user_id] for user_id in part.user_ids]
    locked = await connection.fetch(SQL["lock_accounts"], [], [], [pool_account, *payees])
    pool = next(row for row in locked if row["account_id"] == pool_account)
    total_fen = sum(part.amounts_fen)
    await connection.execute(SQL["pay"], payees, part.amounts_fen)
    numbers = sorted(row["transfer_id"] for row in await connection.fetch(SQL["entry_numbers"], len(payees)))
    await connection.execute(SQL["add_entries"], pool_account, at_ms, numbers, payees, part.amounts_fen)
    hashes, head = [], pool["hash"]
    for payee, amount_fen in zip(payees, part.amounts_fen, strict=True):
        head = transfer_hash(head, ("pool_share", pool_account, payee, amount_fen, at_ms))
        hashes.append(head)
    await connection.execute(SQL["add_hashes"], numbers, hashes)
    await connection.execute(SQL["take_from_pool"], pool_account, total_fen, head)
    return numbers


async def _settle(connection: Connection, row: asyncpg.Record, at_ms: int) -> None:
    """Give what is left of the pool back to the owner."""
    pool = (await connection.fetch(SQL["lock_accounts"], [], [], [row["pool_account"]]))[0]
    returned_fen = pool["balance_fen"]
    if returned_fen:
        wallet = await lock_wallet(connection, row["owner"])
        await move(
            connection,
            "pool_return",
            payer=row["pool_account"],
            payee=wallet.account_id,
            amount_fen=returned_fen,
            at_ms=at_ms,
        )
    await connection.execute(SQL["settle"], row["set_id"], returned_fen)
    LOG.info("card_set_settled", set_id=row["set_id"], returned_fen=returned_fen)
