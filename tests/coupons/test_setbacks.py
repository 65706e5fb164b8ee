"""What a lost lane, a killed persister or a change in quarantine does to coupons: none is given twice, none is lost."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.engine import Engine
from engine.events import Change
from engine.ids import lane_of
from engine.ledger.posting import Ledger
from engine.persisting.quarantine import Quarantine
from engine.settings import Settings
from tests.support.books import claim as claimed
from tests.support.books import expired, opening
from tests.support.coupons import claim, drop, make_batch, problems, statement, with_keys
from tests.support.lost_lanes import lose_lane, mended
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    kill,
    let_time_run_out,
    persister_process,
    persisting,
    settled,
    sweeping,
)

pytestmark = pytest.mark.long


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


async def test_a_lane_that_was_lost_goes_on_with_the_coupons_that_are_left(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 8, codes=[f"code-{number}" for number in range(8)])
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 6)
        codes = [(await claim(engine, packet_id, user)).code for user in ("ada", "bob")]
        await caught_up(engine)
    await lose_lane(engine, lane_of(packet_id))
    await mended(engine, lane_of(packet_id))
    async with Engine.open(settings) as later, persisting(settings), sweeping(settings):
        assert (await claim(later, packet_id, "ada")).code == codes[0]
        codes += [(await claim(later, packet_id, user)).code for user in ("cid", "dan")]
        await let_time_run_out(later, packet_id)
        await settled(later, packet_id)
        again = await drop(later, batch_id, 4)
        codes += [(await claim(later, again, user)).code for user in "efgh"]
        assert sorted(map(str, codes)) == [f"code-{number}" for number in range(8)]
        assert await problems(later) == []


async def test_a_persister_that_is_killed_gives_no_coupon_twice(engine: Engine, settings: Settings) -> None:
    keyless = settings.model_copy(update={"coupon_keys": None})  # it needs none
    batch_id = await make_batch(engine, 300)
    packet_id = await drop(engine, batch_id, 300)
    users = [f"user{number}" for number in range(300)]
    for part in range(3):
        with persister_process(keyless) as process:
            answers = await engine.claims.claim_many(
                [(packet_id, user) for user in users[part * 100 : part * 100 + 100]]
            )
            kill(process)
        assert len(answers) == 100
    async with persisting(settings):
        await caught_up(engine)
        codes = {(await claim(engine, packet_id, user)).code for user in users}
        assert len(codes) == 300
        assert await problems(engine) == []


async def apply(engine: Engine, packet_id: str, *changes: Change) -> None:
    """Apply changes to the ledger as a persister would, as the first of the packet's lane."""
    numbered = [change._replace(position=position) for position, change in enumerate(changes, start=1)]
    connection = await asyncpg.connect(engine.settings.database_url)
    await Ledger().apply(connection, lane_of(packet_id), 0, len(numbered), numbered)
    await connection.close()


async def test_a_claim_in_quarantine_keeps_its_coupon_and_the_rest_is_free(engine: Engine, settings: Settings) -> None:
    """As after a lane was rebuilt while a claim waited: the shares that are left are not the last ones."""
    batch_id = await make_batch(engine, 5)
    packet_id = await drop(engine, batch_id, 5)
    number = int(packet_id)
    await apply(
        engine,
        packet_id,
        opening(number),
        claimed(number, "ada", 0, 1),
        claimed(number, "ada", 3, 1),  # set aside: ada has a share
        claimed(number, "bob", 1, 1),
        expired(number, 2, 2),
    )
    free = await engine.pool.fetch("SELECT first_number, count FROM coupon_free ORDER BY first_number")
    assert [tuple(row) for row in free] == [(3, 1), (5, 1)]
    assert (await statement(engine, batch_id)).in_packets == 1  # what waits
    async with Quarantine.open(settings) as quarantine:
        (row,) = [row async for row in quarantine.rows()]
        result = await quarantine.write_off(row.quarantine_id, by="root", reason="ada has one")
        assert result.resolved, result.sentence
    found = await statement(engine, batch_id)
    assert (found.unsent, found.held, found.in_packets, found.written_off) == (2, 2, 0, 1)
    await assert_books_balance(engine.pool)
    held = [row["number"] for row in await engine.pool.fetch("SELECT number FROM coupons ORDER BY number")]
    assert held == [1, 2]
    again = await drop(engine, batch_id, 2)
    ranges = await engine.pool.fetch("SELECT first_number FROM coupon_ranges WHERE packet_id = $1", int(again))
    assert sorted(row["first_number"] for row in ranges) == [3, 5]


async def test_an_end_that_is_written_off_takes_its_coupons_away(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 5)
    packet_id = await drop(engine, batch_id, 5)
    number = int(packet_id)
    await apply(engine, packet_id, opening(number), claimed(number, "ada", 0, 1), expired(number, 9, 9))
    async with Quarantine.open(settings) as quarantine:
        (row,) = [row async for row in quarantine.rows()]
        assert (await quarantine.write_off(row.quarantine_id, by="root", reason="odd")).resolved
    found = await statement(engine, batch_id)
    assert (found.unsent, found.held, found.in_packets, found.written_off) == (0, 1, 0, 4)
