"""Epochs: a lane is begun once, and one that Redis has lost is not quietly begun again."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from engine.errors import RecoveringError
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import lane_token_of
from engine.lanes.reader import LaneStatus
from engine.lanes.store import Store
from engine.lanes.topology import Topology
from engine.ledger.database import database_pool
from engine.records import Outcome
from engine.recovery import epochs
from engine.recovery.fencing import REBUILDING, run_id
from tests.support.waiting import wait_until


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await database_pool(database_url, connections_max=4, timeout_s=10)
    yield pool
    await pool.close()


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(Topology.of_one(redis), {})


async def test_every_lane_gets_an_epoch_of_its_own_that_both_sides_know(pool: asyncpg.Pool, store: Store) -> None:
    begun = await epochs.begin(pool, store, 3)
    assert len(set(begun.epochs.values())) == 3
    for lane, epoch in begun.epochs.items():
        assert await store.lane_status(lane) == LaneStatus(epoch=epoch, position=0, applied=0)
    assert [*(await epochs.fenced(pool, store)).values()] == []


async def test_processes_that_start_at_once_agree(pool: asyncpg.Pool, store: Store) -> None:
    first, *others = await asyncio.gather(*(epochs.begin(pool, store, 5) for _ in range(8)))
    assert all(other == first for other in others)
    assert [*(await epochs.fenced(pool, store)).values()] == []


async def test_lanes_are_added_to_those_that_are_there(pool: asyncpg.Pool, store: Store) -> None:
    two = await epochs.begin(pool, store, 2)
    four = await epochs.begin(pool, store, 4)
    assert {lane: four.epochs[lane] for lane in two.epochs} == two.epochs
    assert await epochs.begin(pool, store, 1) == four  # none is taken away


async def test_a_crash_between_redis_and_the_ledger_is_made_good(pool: asyncpg.Pool, store: Store) -> None:
    await pool.execute(epochs.SQL["add_lanes"], ["the-epoch"])
    await store.begin_lane(0, "the-epoch")  # and died before it could mark the lane as begun
    assert (await epochs.begin(pool, store, 1)).epochs == {0: "the-epoch"}
    assert await pool.fetchval("SELECT begun FROM lanes") is True
    assert [*(await epochs.fenced(pool, store)).values()] == []


async def test_a_lane_that_redis_has_lost_is_not_begun_again(pool: asyncpg.Pool, store: Store, redis: Redis) -> None:
    begun = await epochs.begin(pool, store, 2)
    await command(redis, "FLUSHALL")
    assert await epochs.begin(pool, store, 2) == begun
    assert await store.lane_status(0) is None
    assert [*(await epochs.fenced(pool, store)).values()] == [
        f"Lane {lane} is fenced: Redis has lost it." for lane in (0, 1)
    ]
    with pytest.raises(RecoveringError):
        await Store(Topology.of_one(redis), begun.epochs).claim(0, {new_packet_number(0): ["bob"]}, backlog_max=10)


async def test_a_lane_of_another_epoch_is_named_and_refuses(pool: asyncpg.Pool, store: Store, redis: Redis) -> None:
    begun = await epochs.begin(pool, store, 2)
    await command(redis, "HSET", keys.lane(1), "epoch", "another")
    assert [*(await epochs.fenced(pool, store)).values()] == [
        "Lane 1 is fenced: Redis and the ledger disagree about its epoch."
    ]
    knowing = Store(Topology.of_one(redis), begun.epochs)
    with pytest.raises(RecoveringError):
        await knowing.claim(1, {new_packet_number(1): ["bob"]}, backlog_max=10)
    (other_lane,) = (await knowing.claim(0, {new_packet_number(0): ["bob"]}, backlog_max=10)).results
    assert other_lane.outcome is Outcome.MISSING


async def test_a_lane_that_is_being_rebuilt_or_was_not_verified_on_this_server_is_named(
    pool: asyncpg.Pool, store: Store, redis: Redis
) -> None:
    begun = await epochs.begin(pool, store, 2)
    await command(redis, "HSET", keys.lane(0), "epoch", REBUILDING + begun.epochs[0])
    await command(redis, "HSET", keys.lane(1), "epoch", lane_token_of(begun.epochs[1], "another-server"))
    assert [*(await epochs.fenced(pool, store)).values()] == [
        "Lane 0 is fenced: it is being rebuilt from the ledger.",
        "Lane 1 is fenced: Redis was restarted and is not compared with the ledger yet.",
    ]
    await command(redis, "HSET", keys.lane(1), "epoch", lane_token_of(begun.epochs[1], await run_id(redis)))
    assert len([*(await epochs.fenced(pool, store)).values()]) == 1


class TestWatch:
    """What a process learns of lanes that change under it."""

    @pytest.fixture
    async def watched(
        self, pool: asyncpg.Pool, store: Store, redis: Redis
    ) -> AsyncIterator[tuple[epochs.Known, list[int]]]:
        """The epochs a process knows, and the lanes it was told to forget, after the first look."""
        known, forgotten = await epochs.begin(pool, store, 2), list[int]()
        watch = epochs.Watch(pool, known, forgotten.append, Topology.of_one(redis))
        store.on_fenced = watch.wake
        watch.start()
        await wait_until(lambda: sorted(forgotten) == [0, 1], what="the first look")
        forgotten.clear()
        yield known, forgotten
        await watch.stop()

    async def test_a_new_epoch_is_learnt_and_its_lane_forgotten(
        self, pool: asyncpg.Pool, redis: Redis, watched: tuple[epochs.Known, list[int]]
    ) -> None:
        known, forgotten = watched
        await pool.execute("UPDATE lanes SET epoch = 'new' WHERE lane = 1")
        await command(redis, "HSET", keys.lane(1), "epoch", REBUILDING + "new")
        await wait_until(lambda: known.epochs[1] == "new", what="learning the epoch")
        assert forgotten == [1]
        forgotten.clear()
        await command(redis, "HSET", keys.lane(1), "epoch", "new@server")
        await wait_until(lambda: forgotten == [1], what="forgetting the lane")

    async def test_a_lane_that_refuses_is_looked_at_soon(
        self, pool: asyncpg.Pool, store: Store, watched: tuple[epochs.Known, list[int]]
    ) -> None:
        known, _ = watched
        await pool.execute("UPDATE lanes SET epoch = 'new' WHERE lane = 1")
        store.on_fenced(1)
        await wait_until(lambda: known.epochs[1] == "new", what="learning the epoch")

    @pytest.mark.long
    @pytest.mark.parametrize("what", ["read", "lane_tokens"])
    async def test_it_outlives_what_nobody_foresaw(
        self, pool: asyncpg.Pool, redis: Redis, watched: tuple[epochs.Known, list[int]], what: str
    ) -> None:
        """A process that no longer looks would believe a server that was replaced for as long as it lives."""
        known, forgotten = watched
        failures = []

        async def fail(*_arguments: object) -> None:
            failures.append("failed")
            raise ZeroDivisionError

        with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
            patch.setattr(epochs, what, fail)
            await wait_until(lambda: len(failures) > 1, what="failing twice")
        assert [log["error_type"] for log in logs if log["event"] == "epochs_not_read"] == ["ZeroDivisionError"]
        await pool.execute("UPDATE lanes SET epoch = 'new' WHERE lane = 1")
        await command(redis, "HSET", keys.lane(1), "epoch", "new@server")
        await wait_until(lambda: known.epochs[1] == "new" and forgotten, what="learning the epoch")

    async def test_another_server_makes_it_forget(self, redis: Redis, watched: tuple[epochs.Known, list[int]]) -> None:
        known, forgotten = watched
        await command(redis, "HSET", keys.lane(0), "epoch", lane_token_of(known.epochs[0], "another-server"))
        await wait_until(lambda: forgotten == [0], what="forgetting the lane")


async def test_a_lane_that_was_set_back_is_named(pool: asyncpg.Pool, store: Store) -> None:
    await epochs.begin(pool, store, 1)
    await pool.execute("UPDATE lanes SET position = 5")
    assert [*(await epochs.fenced(pool, store)).values()] == ["Lane 0 is behind the ledger in Redis: it was set back."]
