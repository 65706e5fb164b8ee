"""The persister: what is in the stream comes into the ledger once; what it must not follow, it fences."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.engine import Engine
from engine.errors import RecoveringError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.entries import Entry
from engine.lanes.stream import EventStream
from engine.ledger.posting import Applied, Ledger
from engine.loops import stopped_within
from engine.observability import metrics
from engine.persisting import persister
from engine.records import Outcome
from engine.recovery import epochs, gate
from engine.recovery.fencing import fence_to_move
from engine.settings import Settings
from tests.support.scenes import (
    assert_books_balance,
    assert_settled_keys_expire,
    caught_up,
    changed,
    checkpoints,
    claimed,
    packet_keys,
    persisting,
    positions,
    send,
    send_in,
    settled,
)
from tests.support.waiting import wait_until

BATCH_MAX = 20


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One lane, so that a test knows which, and small batches."""
    monkeypatch.setattr("engine.persisting.persister.BATCH_MAX", BATCH_MAX)
    return changed(settings, lanes=1)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """An engine; whatever the test did, a settled packet may not stay in Redis for good."""
    async with Engine.open(settings) as engine:
        yield engine
        await assert_settled_keys_expire(engine)


async def claim_all(engine: Engine, packet_id: str, count: int) -> dict[str, int]:
    """``count`` users claim at once; what each was told it has."""
    users = [f"user{number}" for number in range(count)]
    results = await asyncio.gather(*(engine.claims.claim(packet_id, user) for user in users))
    return {user: result.amount_fen for user, result in zip(users, results, strict=True) if result.amount_fen}


async def backends(engine: Engine, query: str = "advisory") -> list[int]:
    """The processes of Postgres that hold a lane's lease."""
    rows = await engine.pool.fetch(f"SELECT pid FROM pg_locks WHERE locktype = '{query}' AND granted AND objsubid = 2")
    return [row["pid"] for row in rows]


async def test_what_was_claimed_is_in_the_wallets(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, total_fen=10_000, count=50)
    async with persisting(settings):
        told = await claim_all(engine, sent.packet_id, 80)
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    assert len(told) == 50
    assert sum(told.values()) == 10_000
    assert await claimed(engine.pool, sent.packet_id) == told
    for user, amount_fen in told.items():
        assert (await engine.wallets.get(user)).balance_fen == amount_fen
    assert await engine.redis.xlen(keys.events(0)) == 0
    await assert_books_balance(engine.pool)


async def test_a_packets_keys_stay_until_the_ledger_has_its_end_and_then_expire(
    engine: Engine, settings: Settings
) -> None:
    sent = await send(engine, count=3, recipients=["user0", "user1", "user2"])
    await claim_all(engine, sent.packet_id, 3)
    names = (await packet_keys(engine))[sent.packet_id]
    assert sorted(names) == sorted(
        [keys.packet(sent.packet_id), keys.claims(sent.packet_id), keys.recipients(sent.packet_id)]
    )
    assert [await engine.redis.pttl(name) for name in names] == [-1, -1, -1]
    async with persisting(settings):
        await caught_up(engine)
    kept_ms = settings.settled_retention_s * 1_000
    for name in names:
        assert kept_ms - 60_000 < await engine.redis.pttl(name) <= kept_ms


async def test_a_stop_leaves_nothing_behind(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, total_fen=10_000, count=500)
    told = await claim_all(engine, sent.packet_id, 400)
    async with persisting(settings):
        pass
    assert await claimed(engine.pool, sent.packet_id) == told
    assert await checkpoints(engine) == await positions(engine) == {0: 401}


async def test_a_stop_waits_calmly_for_a_lane_that_is_being_moved(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await send(engine, total_fen=10_000, count=500)
    told = await claim_all(engine, sent.packet_id, 400)
    status = await engine.store.lane_status(0)
    assert status is not None
    await fence_to_move(engine.redis, 0, status, await engine.store.now_ms(0) + 1_000)
    looks, real = 0, gate.verify

    async def counted(*arguments: Any) -> tuple[int, str]:  # noqa: ANN401  # those of ``verify``
        nonlocal looks
        looks += 1
        return await real(*arguments)

    monkeypatch.setattr(persister, "verify", counted)
    async with persisting(settings):
        pass
    assert looks <= 15
    assert await claimed(engine.pool, sent.packet_id) == told


async def test_a_fence_by_the_clock_of_another_server_ends_too(engine: Engine, settings: Settings) -> None:
    """The mover died when the lane had changed hands, and the lane's server now is an hour behind its former one."""
    sent = await send(engine, count=5)
    status = await engine.store.lane_status(0)
    assert status is not None
    await fence_to_move(engine.redis, 0, status, await engine.store.now_ms(0) + 3_600_000)
    async with persisting(settings):
        await caught_up(engine)
    await claim_all(engine, sent.packet_id, 5)
    async with persisting(settings):
        await settled(engine, sent.packet_id)


async def test_a_transaction_takes_no_more_than_its_bound_and_one_event(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, total_fen=10_000, count=200)
    for number in range(200):
        await engine.claims.claim(sent.packet_id, f"user{number}")
    async with persisting(settings):
        await caught_up(engine)
    sizes = [row["claims"] + row["opened"] for row in await engine.pool.fetch("SELECT * FROM batches")]
    assert sum(sizes) == 201
    assert max(sizes) == BATCH_MAX


async def test_only_one_persister_leases_a_lane(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), persisting(settings):
        sent = await send(engine, count=5)
        await claim_all(engine, sent.packet_id, 5)
        await settled(engine, sent.packet_id)
        assert len(await backends(engine)) == 1
    await assert_books_balance(engine.pool)


async def test_persisters_without_a_lease_do_each_other_no_harm(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint's lock alone must be enough; and the slower one must not take its lateness for a gap."""
    monkeypatch.setitem(epochs.SQL, "lease", "SELECT $1::integer IS NOT NULL AND $2::integer IS NOT NULL")
    told: dict[str, dict[str, int]] = {}
    async with persisting(settings), persisting(settings), persisting(settings):
        for _ in range(25):
            sent = await send(engine, total_fen=1_000, count=30)
            told[sent.packet_id] = await claim_all(engine, sent.packet_id, 30)
        await settled(engine, *told)
        await caught_up(engine)
    assert await engine.ready() == []
    for packet_id, amounts in told.items():
        assert await claimed(engine.pool, packet_id) == amounts
    assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    await assert_books_balance(engine.pool)


async def test_a_persister_that_was_overtaken_does_not_fence_the_lane(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept (a paused machine) with its lease lost; another has applied and trimmed what it expects to come next."""
    monkeypatch.setitem(epochs.SQL, "lease", "SELECT $1::integer IS NOT NULL AND $2::integer IS NOT NULL")
    sleeping, awake = asyncio.Event(), asyncio.Event()

    class SleepyStream(EventStream):
        """Falls asleep before it reads."""

        async def read(self, lane: int, after: int, *, entries_max: int, block_ms: int) -> list[Entry]:
            sleeping.set()
            await awake.wait()
            return await super().read(lane, after, entries_max=entries_max, block_ms=block_ms)

    sleeper = persister.Persister(settings, engine.store, SleepyStream(engine.topology), 0)
    first = await send(engine, count=5)
    asleep = asyncio.create_task(sleeper.run())
    await sleeping.wait()
    async with persisting(settings):
        await claim_all(engine, first.packet_id, 5)
        await settled(engine, first.packet_id)
        await caught_up(engine)
    second = await send(engine, count=5)
    told = await claim_all(engine, second.packet_id, 5)
    awake.set()
    try:
        await settled(engine, second.packet_id)
    finally:
        sleeper.stopping.set()
        await asleep
    assert await engine.ready() == []
    assert await claimed(engine.pool, second.packet_id) == told
    await assert_books_balance(engine.pool)


async def test_it_goes_on_when_postgres_hangs_up_on_it(engine: Engine, settings: Settings) -> None:
    told: dict[str, dict[str, int]] = {}
    async with persisting(settings):
        for number in range(12):
            sent = await send(engine, total_fen=3_000, count=300)
            told[sent.packet_id] = await claim_all(engine, sent.packet_id, 300)
            if number % 3 == 0:
                for pid in await wait_until(lambda: backends(engine), what="a lease"):
                    await engine.pool.execute("SELECT pg_terminate_backend($1)", pid)
        await settled(engine, *told)
        await caught_up(engine)
    for packet_id, amounts in told.items():
        assert await claimed(engine.pool, packet_id) == amounts
    await assert_books_balance(engine.pool)


async def test_it_outlives_what_the_driver_calls_an_error_of_its_own(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg raises it when the server hangs up between two steps of one statement."""
    apply, failures = Ledger.apply, [asyncpg.InternalClientError("cannot switch to state 11")]

    async def apply_later(*arguments: Any, **named: Any) -> Applied:  # noqa: ANN401  # those of Ledger.apply
        if failures:
            raise failures.pop()
        return await apply(*arguments, **named)

    monkeypatch.setattr(Ledger, "apply", apply_later)
    sent = await send(engine, count=5)
    async with persisting(settings):
        await claim_all(engine, sent.packet_id, 5)
        await settled(engine, sent.packet_id)
    assert failures == []


async def test_it_does_what_its_predecessor_left_undone_after_the_commit(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=4)
    await claim_all(engine, sent.packet_id, 4)
    events = await command(engine.redis, "XRANGE", keys.events(0), "-", "+")
    async with persisting(settings):
        await caught_up(engine)
    # As if it had died between the commit and the trimming.
    await engine.redis.delete(keys.events(0))
    for entry_id, fields in events:
        await command(engine.redis, "XADD", keys.events(0), entry_id, "event", fields[b"event"])
    for name in (await packet_keys(engine))[sent.packet_id]:
        await engine.redis.persist(name)
    await engine.redis.hset(keys.lane(0), "applied", 0)
    async with persisting(settings):
        await caught_up(engine)
    assert await engine.redis.xlen(keys.events(0)) == 0
    await assert_settled_keys_expire(engine)
    await assert_books_balance(engine.pool)


async def test_a_change_that_breaks_a_rule_is_counted_and_the_lane_goes_on(engine: Engine, settings: Settings) -> None:
    before = metrics.QUARANTINED.labels("0")._value.get()
    sent = await send(engine, count=3)
    await engine.claims.claim(sent.packet_id, "bob")
    await engine.redis.hdel(keys.claims(sent.packet_id), "bob")  # Redis forgets that he has a share
    again = await engine.claims.claim(sent.packet_id, "bob")
    assert again.outcome is Outcome.CLAIMED
    with capture_logs() as logs:
        async with persisting(settings):
            await engine.claims.claim(sent.packet_id, "carol")
            await caught_up(engine)
    assert set(await claimed(engine.pool, sent.packet_id)) == {"bob", "carol"}
    assert metrics.QUARANTINED.labels("0")._value.get() == before + 1
    assert [log["changes"] for log in logs if log["event"] == "quarantined"] == [1]
    await assert_books_balance(engine.pool)


Harm = Callable[[Engine], Awaitable[object]]


async def lose_everything(engine: Engine) -> None:
    await engine.redis.flushall()


async def set_back(engine: Engine) -> None:
    await engine.redis.hset(keys.lane(0), "position", 1)


async def lose_an_entry(engine: Engine) -> None:
    """The second of the three claims that were not applied."""
    entries = await command(engine.redis, "XRANGE", keys.events(0), "-", "+")
    assert await command(engine.redis, "XDEL", keys.events(0), entries[-2][0]) == 1


async def lose_the_last_entry(engine: Engine) -> None:
    entries = await command(engine.redis, "XRANGE", keys.events(0), "-", "+")
    assert await command(engine.redis, "XDEL", keys.events(0), entries[-1][0]) == 1


async def lose_all_entries(engine: Engine) -> None:
    await engine.redis.xtrim(keys.events(0), maxlen=0, approximate=False)


@pytest.mark.parametrize(
    ("harm", "sentence", "still_applied"),
    [
        (lose_everything, "Redis has lost it", []),
        (set_back, "disagree about its epoch", []),
        (lose_an_entry, "disagree about its epoch", ["late0"]),
        (lose_the_last_entry, "disagree about its epoch", ["late0", "late1"]),
        (lose_all_entries, "disagree about its epoch", []),
    ],
)
async def test_a_lane_that_does_not_continue_the_ledger_is_fenced(
    engine: Engine, settings: Settings, harm: Harm, sentence: str, still_applied: Sequence[str]
) -> None:
    sent = await send(engine, count=10)
    early = await claim_all(engine, sent.packet_id, 3)
    async with persisting(settings):
        await caught_up(engine)
    for number in range(3):
        await engine.claims.claim(sent.packet_id, f"late{number}")
    await harm(engine)
    async with persisting(settings):

        async def is_fenced() -> bool:
            return any("Lane 0" in said and sentence in said for said in await engine.ready())

        await wait_until(is_fenced, what="the fence")
        with pytest.raises(RecoveringError):
            await engine.claims.claim(sent.packet_id, "user9")
        with pytest.raises(RecoveringError):  # a repeat as well: what Redis says is not to be trusted
            await engine.claims.claim(sent.packet_id, "user0")

        async def has_what_joins_on() -> bool:
            return set(await claimed(engine.pool, sent.packet_id)) == {*early, *still_applied}

        await wait_until(has_what_joins_on, what="applying what joins on")
    assert await checkpoints(engine) == {0: 4 + len(still_applied)}
    assert await engine.redis.hget(keys.lane(0), "position") != b"0"
    await assert_books_balance(engine.pool)


async def test_a_fence_names_its_reason_in_the_log(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=10)
    await claim_all(engine, sent.packet_id, 3)
    await lose_all_entries(engine)
    with capture_logs() as logs:
        async with persisting(settings):
            await wait_until(engine.ready, what="the fence")
            await wait_until(lambda: logs, what="a line in the log")
    assert "Lane 0 is fenced" in logs[0]["error"]
    assert logs[0]["error_type"] == "LaneBrokenError"


async def test_nothing_is_taken_from_the_redis_of_another_ledger(
    engine: Engine, settings: Settings, empty_database_url: str
) -> None:
    """A new database on a Redis that is in use: its stream is another ledger's, and must neither be applied nor cut."""
    from engine.ledger.schema import migrate

    sent = await send(engine, count=5)
    told = await claim_all(engine, sent.packet_id, 5)
    await migrate(empty_database_url)
    stranger = changed(settings, database_url=empty_database_url)
    with capture_logs() as logs:
        async with Engine.open(stranger) as other, persisting(stranger):
            assert "disagree about its epoch" in (await other.ready())[0]
            await wait_until(lambda: logs, what="the refusal")
            assert await other.pool.fetchval("SELECT count(*) FROM quarantine") == 0
            assert await checkpoints(other) == {0: 0}
    assert "epoch" in logs[0]["error"]
    assert await engine.ready() == []  # and the lane is as good as before to its own ledger
    async with persisting(settings):
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    assert await claimed(engine.pool, sent.packet_id) == told


@pytest.mark.parametrize(
    ("entry_id", "fields"),
    [
        ("1-0", ("event", b"\x00 not an event")),
        (
            "1-0",
            ("event", b"\x94\xa6claims\x01\x01\x91\x94\xb31000000000000000001\x91\xa3bob\x91\xa1?\xc2"),
        ),  # share "?"
        ("2-0", ("event", b"\x94\xa6claims\x01\x01\x91\x94\xb31000000000000000001\x92\xa3bob\xa3eve\x91\xa30:5\xc2")),
        ("1-0", ("event", b"\x94\xa6opened\x02\x01\xb31000000000000000001")),  # of a later version
        ("1-0", ("other", b"")),
    ],
)
async def test_an_entry_that_cannot_be_read_stops_its_lane_and_no_other(
    settings: Settings, entry_id: str, fields: tuple[str, bytes]
) -> None:
    two_lanes = changed(settings, lanes=2)
    async with Engine.open(two_lanes) as engine:
        await command(engine.redis, "XADD", keys.events(0), entry_id, *fields)
        await engine.redis.hset(keys.lane(0), "position", int(entry_id[0]))
        with capture_logs() as logs:
            async with persisting(two_lanes):
                whole = [await send_in(engine, 1, count=2) for _ in range(8)]
                for packet_id in whole:
                    await claim_all(engine, packet_id, 2)
                await settled(engine, *whole)
                await wait_until(lambda: [log for log in logs if log["event"] == "unreadable_event"], what="the alarm")
        assert (await checkpoints(engine))[0] == 0
        (error,) = [log for log in logs if log.get("lane") == 0]  # once, however often it looks
        assert (error["lane"], error["position"], error["entry"]) == (0, int(entry_id[0]), entry_id)
        assert error["found"]
        await engine.measure()
        assert [metrics.LANE_BAD_ENTRY.labels(lane)._value.get() for lane in ("0", "1")] == [int(entry_id[0]), 0]
        assert metrics.PERSISTER_LAG_EVENTS.labels("0")._value.get() >= int(entry_id[0])
        assert metrics.PERSISTER_LAG_EVENTS.labels("1")._value.get() == 0
        lines = {line.name: line for line in await examine(two_lanes, is_embedded=False)}
        assert (lines["lane 0"].level, lines["lane 1"].level) == (Level.PROBLEM, Level.OK)
        assert f"a bad entry at {entry_id} of its stream" in lines["lane 0"].found


async def test_a_transaction_carries_a_bounded_number_of_changes(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.persisting.persister.BATCH_MAX", 100)
    sent = await send(engine, total_fen=10_000, count=1_000)
    for first in range(0, 1_000, 50):
        await engine.claims.claim_many([(sent.packet_id, f"user{number}") for number in range(first, first + 50)])
    async with persisting(settings):
        await caught_up(engine)
    sizes = [
        row["changes"] for row in await engine.pool.fetch("SELECT position - position_before AS changes FROM batches")
    ]
    assert sum(sizes) == 1_001
    assert len(sizes) >= 9
    assert max(sizes) < 100 + 50


async def test_it_waits_for_more_also_while_some_thousands_come_at_a_time(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float] = []

    async def waiting(stopping: asyncio.Event, seconds: float) -> bool:
        waited_s.append(seconds)
        return await stopped_within(stopping, seconds)

    monkeypatch.setattr("engine.persisting.persister.stopped_within", waiting)
    for _ in range(3):
        sent = await send(engine, total_fen=10_000, count=1_000)
        await engine.claims.claim_many([(sent.packet_id, f"user{number}") for number in range(1_000)])
    assert (await positions(engine))[0] >= 3_000  # all of them come at once
    async with persisting(settings):
        await caught_up(engine)
        await wait_until(lambda: persister._LINGER_S in waited_s, timeout_s=10, what="the wait for more")


async def test_it_does_not_wait_while_reads_are_full(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.persisting.persister._ENTRIES_PER_READ", 5)
    monkeypatch.setattr("engine.persisting.persister._LINGER_S", 3_600.0)
    sent = await send(engine, count=20, total_fen=2_000)
    for number in range(20):  # one entry each
        await engine.claims.claim(sent.packet_id, f"user{number}")
    async with persisting(settings):
        await caught_up(engine)
