"""What becomes of a fundraiser when its time is over: it is paid out, or every gift goes back.

Each step is one transaction that looks again at what it finds locked. So a crash anywhere leaves each gift either held
or returned, and several sweepers at once do nothing twice.
"""

import asyncio

import asyncpg
import structlog

from engine.errors import HongbaoError
from engine.ledger.database import Connection
from engine.ledger.money import move
from engine.loops import PASSING, every, outlived
from engine.queries import load

LOG = structlog.get_logger()
SQL, MONEY = load("fundraising"), load("money")
INTERVAL_S = 1.0
"""How often the sweeper looks for fundraisers whose time is over."""
RETURNED_AT_ONCE = 200
"""How many gifts one transaction returns: the wallets of so many users are locked for some 50 ms."""
_PAGE = 100
_SHORT = "A fund holds less than its gifts and matches: audit the books."


class FundShortError(HongbaoError):
    """A fund holds less than its rows say. Nothing was done, and everything else goes on."""

    code = "fund_short"


async def follow_fundraisers(pool: asyncpg.Pool, stop: asyncio.Event) -> None:
    """Decide and settle fundraisers, again and again until ``stop`` is set. Failures are logged and retried."""
    after = 0

    async def once() -> bool:
        nonlocal after
        after, has_more = await settle_some(pool, after=after)
        return has_more

    await every("fundraisers", INTERVAL_S, stop, once)


async def settle_some(pool: asyncpg.Pool, *, after: int = 0) -> tuple[int, bool]:
    """Do the next step of some fundraisers. Returns ``after`` of the next page (0: begin anew), and if there is more.

    One that fails is left for the next time, and does not keep the others waiting. Raises asyncpg's errors.
    """
    has_more = False
    for row in await pool.fetch(SQL["to_decide"], _PAGE):
        await pool.fetchval(SQL["decide"], row["fundraiser_id"])
    rows = await pool.fetch(SQL["to_settle"], after, _PAGE)
    for row in rows:
        number = row["fundraiser_id"]
        try:
            has_more |= await (pay_out(pool, number) if row["state"] == "paying" else give_back(pool, number))
        except PASSING as error:
            outlived("fundraisers", error, fundraiser_id=number)
    is_last = len(rows) < _PAGE
    return 0 if is_last else rows[-1]["fundraiser_id"], has_more or not is_last


async def pay_out(pool: asyncpg.Pool, number: int) -> bool:
    """Pay all of a fundraiser to its beneficiary, and what is left of the matches to their merchants. Returns False."""
    async with pool.acquire() as connection, connection.transaction():
        wallets = await _lock_parties(connection, number)
        row = await connection.fetchrow(SQL["lock"], number)
        if row is None or row["state"] != "paying":
            return False
        at_ms, transfer_id = row["now_ms"], None
        if raised_fen := row["given_fen"] + row["matched_fen"]:
            transfer_id = await _moved(
                connection,
                "fund_payout",
                payer=row["account_id"],
                payee=wallets[row["beneficiary"]],
                amount_fen=raised_fen,
                at_ms=at_ms,
            )
        for match in await connection.fetch(SQL["matches"], number):
            rest = await _return_rest(connection, match, wallets[match["merchant"]], at_ms)
            await connection.execute(SQL["end_match"], match["match_id"], rest, None)
        await connection.execute(SQL["set_paid_out"], number, transfer_id, at_ms)
    LOG.info("fundraiser_paid_out", fundraiser_id=number, paid_fen=raised_fen)
    return False


async def give_back(pool: asyncpg.Pool, number: int) -> bool:
    """Return some gifts of a fundraiser to their givers, or after the last gift the matches.

    Returns whether it returned gifts: then there may be more.
    """
    returned = await _return_gifts(pool, number)
    return True if returned else await _return_matches(pool, number)


async def _return_gifts(pool: asyncpg.Pool, number: int) -> int:
    async with pool.acquire() as connection, connection.transaction():
        gifts = await connection.fetch(SQL["gifts_to_return"], number, RETURNED_AT_ONCE)
        if not gifts:
            return 0
        wallets = await _lock_wallets(connection, {gift["giver"] for gift in gifts})
        row = await connection.fetchrow(SQL["lock"], number)
        if row is None or row["state"] != "returning":
            return 0
        moved = await connection.fetch(
            SQL["return_gifts"],
            *([gift["gift_id"] for gift in gifts], row["account_id"], row["now_ms"]),
            [wallets[gift["giver"]] for gift in gifts],
        )
        if len(moved) != len(gifts) or any(gift["return_transfer_id"] is None for gift in moved):
            raise FundShortError(_SHORT)
        await connection.execute(SQL["count_returned"], number, len(moved), sum(gift["amount_fen"] for gift in moved))
    return len(gifts)


async def _return_matches(pool: asyncpg.Pool, number: int) -> bool:
    async with pool.acquire() as connection, connection.transaction():
        wallets = await _lock_parties(connection, number)
        row = await connection.fetchrow(SQL["lock"], number)
        if row is None or row["state"] != "returning":
            return False
        if not await connection.fetchval(SQL["are_all_returned"], number):
            return False  # another sweeper is returning some at this moment
        at_ms = row["now_ms"]
        for match in await connection.fetch(SQL["matches"], number):
            payee, matched = wallets[match["merchant"]], None
            if match["matched_fen"]:
                matched = await _moved(
                    connection,
                    "match_return",
                    payer=row["account_id"],
                    payee=payee,
                    amount_fen=match["matched_fen"],
                    at_ms=at_ms,
                )
            rest = await _return_rest(connection, match, payee, at_ms)
            await connection.execute(SQL["end_match"], match["match_id"], rest, matched)
        await connection.execute(SQL["set_returned"], number, at_ms)
    LOG.info("fundraiser_returned", fundraiser_id=number)
    return False


async def _return_rest(connection: Connection, match: asyncpg.Record, payee: int, at_ms: int) -> int | None:
    """Return what is left of a match's budget. None if nothing is left."""
    rest_fen = match["budget_fen"] - match["matched_fen"]
    if rest_fen == 0:
        return None
    return await _moved(
        connection, "match_return", payer=match["account_id"], payee=payee, amount_fen=rest_fen, at_ms=at_ms
    )


async def _moved(connection: Connection, kind: str, *, payer: int, payee: int, amount_fen: int, at_ms: int) -> int:
    transfer_id = await move(connection, kind, payer=payer, payee=payee, amount_fen=amount_fen, at_ms=at_ms)
    if transfer_id is None:
        raise FundShortError(_SHORT)
    return transfer_id


async def _lock_parties(connection: Connection, number: int) -> dict[str, int]:
    """Lock the wallets of a fundraiser's beneficiary and merchants. Returns their accounts."""
    owners = {row["owner"] for row in await connection.fetch(SQL["parties"], number)}
    for owner in owners:  # nobody may have paid the beneficiary yet
        await connection.execute(MONEY["create_wallet"], owner)
    return await _lock_wallets(connection, owners)


async def _lock_wallets(connection: Connection, owners: set[str]) -> dict[str, int]:
    """Lock wallets in the order of their ids, as everybody does. Returns their accounts."""
    return {row["owner"]: row["account_id"] for row in await connection.fetch(SQL["lock_wallets"], list(owners))}
