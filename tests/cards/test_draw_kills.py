"""Sweepers are killed in the middle of a draw: each completer has one share all the same, to the fen."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.cards.draws import draw_key
from engine.cards.views import CardSetState
from engine.engine import Engine
from engine.settings import Settings
from tests.support.collectors import end, make
from tests.support.scenes import assert_books_balance, kill
from tests.support.waiting import wait_until
from tests.support.warm import Forked, warm

pytestmark = pytest.mark.long

_SWEEP = """
import asyncio, sys
import uvloop
from engine.running.processes import run_sweeper
from engine.settings import Settings
uvloop.run(run_sweeper(Settings.model_validate_json(sys.argv[1]), asyncio.Event()))
"""
USERS = 45_000
POOL_FEN = 9_000_077


@contextmanager
def sweeper_process(settings: Settings) -> Iterator[Forked]:
    """A sweeper as a process of its own, killed at the end of the block."""
    process = warm().start(_SWEEP, settings.model_dump_json())
    try:
        yield process
    finally:
        kill(process)


async def completed_by_many(engine: Engine) -> str:
    """A set that so many users have completed. They are written down past the use case, which takes minutes."""
    made = await make(engine, (USERS, USERS), pool_fen=POOL_FEN)
    known = await engine.collecting._register.known(made.set_id)
    users = [f"user{number}" for number in range(USERS)]
    keys = [draw_key(known.seed, known.set_id, user) for user in users]
    await engine.pool.execute(
        "INSERT INTO accounts (account_id, kind, owner)"
        " SELECT nextval('wallet_ids'), 'wallet', owner FROM unnest($1::text[]) AS owner",
        users,
    )
    await engine.pool.execute(
        "INSERT INTO card_completions (set_id, user_id, draw_key, wild, completed_at_ms)"
        " SELECT $1, user_id, draw_key, 0, 1 FROM unnest($2::text[], $3::bytea[]) AS made (user_id, draw_key)",
        known.number,
        users,
        keys,
    )
    return made.set_id


async def test_sweepers_that_are_killed_in_the_middle_draw_each_share_once(engine: Engine, settings: Settings) -> None:
    set_id = await completed_by_many(engine)
    await end(engine, set_id)

    async def drawn() -> int:
        count: int = await engine.pool.fetchval("SELECT drawn FROM card_sets WHERE set_id = $1", int(set_id))
        return count

    interrupted = 0
    for more in (1, 10_001, 30_001):

        async def has_come_so_far(more: int = more) -> bool:
            return await drawn() >= more

        with sweeper_process(settings), sweeper_process(settings):
            await wait_until(has_come_so_far, timeout_s=60, what="a part of the draw")
        interrupted += await drawn() < USERS
    assert interrupted > 0
    with sweeper_process(settings):

        async def is_settled() -> bool:
            return (await engine.card_views.get(set_id)).state is CardSetState.SETTLED

        await wait_until(is_settled, timeout_s=60, what="the rest of the draw")
    (row,) = await engine.pool.fetch(
        "SELECT count(*), count(DISTINCT user_id) AS users, count(DISTINCT transfer_id) AS entries,"
        " sum(share_fen) AS fen, count(*) FILTER (WHERE share_fen = balance_fen) AS paid,"
        " min(number) AS first, max(number) AS last"
        " FROM card_shares LEFT JOIN accounts ON kind = 'wallet' AND owner = user_id"
    )
    assert tuple(row) == (USERS, USERS, USERS, POOL_FEN, USERS, 0, USERS - 1)
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'pool_share'") == USERS
    await assert_books_balance(engine.pool)
