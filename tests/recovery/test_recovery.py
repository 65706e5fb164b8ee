"""Recovery: what Redis lost is rebuilt from the ledger, nobody gets a second share, and others are served meanwhile."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.engine import Engine
from engine.errors import OpeningError, OperatorError, RecoveringError, UnavailableError, UnknownPacketError
from engine.ids import lane_of, new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import Closed, CloseReason, Opened
from engine.packets.opening import open_packet, publish_once
from engine.packets.sweeper import sweep_lane
from engine.records import ClaimResult, Outcome
from engine.recovery import gate, rebuild
from engine.recovery.fencing import REBUILDING, LaneChangedError, set_lane_token, write_if
from engine.recovery.rebuild import rebuild_packets
from engine.recovery.recovery import mend
from engine.settings import Settings
from tests.packets.test_publisher import DyingStore, expected_shares, funded
from tests.support.lost_lanes import (
    all_keys,
    amounts_in_ledger,
    assert_in_order,
    assert_ledger_is_told,
    claim_until_served,
    live_packets,
    lose_lane,
    mended,
)
from tests.support.scenes import (
    caught_up,
    changed,
    claimed,
    kill,
    let_time_run_out,
    pay_only,
    persister_process,
    persisting,
    send,
    send_in,
    sweeping,
)
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One lane, so that a test knows which."""
    return changed(settings, lanes=1)


async def claim(engine: Engine, packet_id: str, *users: str) -> dict[str, int]:
    """Claim one after the other; what each was told to have."""
    results = {user: await engine.claims.claim(packet_id, user) for user in users}
    return {user: result.amount_fen for user, result in results.items() if result.amount_fen}


def named(count: int, first: int = 0) -> list[str]:
    return [f"user{number}" for number in range(first, first + count)]


async def persisted(engine: Engine, settings: Settings) -> None:
    """Let the ledger have everything."""
    async with persisting(settings):
        await caught_up(engine)


@pytest.mark.long
@pytest.mark.parametrize("taken", [0, 1, 3, 9])
@pytest.mark.parametrize("recipients", [(), tuple(named(12))], ids=["anyone", "invited"])
async def test_an_open_packet_comes_back_as_it_was(
    engine: Engine, settings: Settings, taken: int, recipients: tuple[str, ...]
) -> None:
    sent = await send(engine, count=10, recipients=list(recipients))
    told = await claim(engine, sent.packet_id, *named(taken))
    await persisted(engine, settings)
    before = await live_packets(engine)
    await engine.redis.flushall()
    with pytest.raises(RecoveringError):
        await engine.claims.claim(sent.packet_id, "user0")
    recovered = await mended(engine)
    assert (recovered.packets, recovered.claims, recovered.shares_left) == (1, taken, 10 - taken)
    assert recovered.changes_lost is None
    assert await live_packets(engine) == before

    async def served() -> object:
        return await claim_until_served(engine, sent.packet_id, "user11")

    await wait_until(served, what="being served")
    for user, amount_fen in told.items():
        assert await engine.claims.claim(sent.packet_id, user) == ClaimResult(Outcome.ALREADY, amount_fen)
    told |= await claim(engine, sent.packet_id, *named(12))
    assert len(told) == 10 or "user11" in told
    await persisted(engine, settings)
    assert sum((await claimed(engine.pool, sent.packet_id)).values()) == 1_000
    await assert_in_order(engine)


async def test_a_lane_that_is_in_order_is_left_alone(engine: Engine, settings: Settings) -> None:
    await send(engine)
    await persisted(engine, settings)
    before = {name: await command(engine.redis, "DUMP", name) for name in await all_keys(engine, 0)}
    assert await mend(settings, engine.store, engine.stream, 0, force=False) is None
    assert {name: await command(engine.redis, "DUMP", name) for name in await all_keys(engine, 0)} == before


async def test_what_ended_is_answered_from_the_ledger_and_what_nobody_knows_is_not_found(
    engine: Engine, settings: Settings
) -> None:
    whole, over = await send(engine, count=2), await send(engine, count=2)
    told = await claim(engine, whole.packet_id, "user0", "user1")
    told_too = await claim(engine, over.packet_id, "user0")
    await let_time_run_out(engine, over.packet_id)
    assert (await engine.store.close(over.packet_id, CloseReason.EXPIRED))[0] is Closed.CLOSED
    await persisted(engine, settings)
    await engine.redis.flushall()
    assert (await mended(engine)).packets == 0
    assert await all_keys(engine, 0) == {keys.lane(0)}

    async def answered() -> object:
        return await claim_until_served(engine, whole.packet_id, "user0")

    assert await wait_until(answered, what="serving") == ClaimResult(Outcome.ALREADY, told["user0"])
    assert await engine.claims.claim(whole.packet_id, "user2") == ClaimResult(Outcome.EMPTY, 0)
    assert await engine.claims.claim(over.packet_id, "user0") == ClaimResult(Outcome.ALREADY, told_too["user0"])
    assert await engine.claims.claim(over.packet_id, "user1") == ClaimResult(Outcome.EXPIRED, 0)
    with pytest.raises(UnknownPacketError):
        await engine.claims.claim(new_packet_number(0), "user0")
    await assert_in_order(engine)


async def test_a_packet_whose_time_ran_out_during_the_outage_is_refunded_once(
    engine: Engine, settings: Settings
) -> None:
    sent = await send(engine, count=4)
    await claim(engine, sent.packet_id, "user0")
    await persisted(engine, settings)
    await engine.pool.execute("UPDATE packets SET expires_at_ms = 1")
    await engine.redis.flushall()
    await mended(engine)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    assert await engine.claims.claim(sent.packet_id, "user1") == ClaimResult(Outcome.EXPIRED, 0)
    assert await sweep_lane(engine.store, 0, 10, 1_000_000) == 1
    assert await sweep_lane(engine.store, 0, 10, 1_000_000) == 0
    await persisted(engine, settings)
    (refund,) = await engine.pool.fetch("SELECT amount_fen FROM transfers WHERE kind = 'refund'")
    assert refund["amount_fen"] == 1_000 - sum((await claimed(engine.pool, sent.packet_id)).values())
    await assert_in_order(engine)


async def epochs_known(engine: Engine) -> bool:
    """Whether this process speaks of the epochs that the ledger has."""
    rows = await engine.pool.fetch("SELECT lane, epoch FROM lanes")
    return {row["lane"]: row["epoch"] for row in rows} == dict(engine.store.epochs)


async def test_what_is_paid_for_and_not_open_is_opened_afterwards_and_once(engine: Engine, settings: Settings) -> None:
    """Not begun, half loaded, and open in Redis with the event of its opening lost."""
    untouched, half = await pay_only(engine), await pay_only(engine, count=10)
    dying, read_at_ms, unopened = DyingStore(engine, 2), await engine.store.now_ms(0), await funded(engine, half)
    with pytest.raises(UnavailableError):
        await open_packet(dying, unopened, shares_per_call=3, read_at_ms=read_at_ms)
    unheard = (await send(engine, count=10)).packet_id  # nobody persists: for the ledger it is funded
    await claim(engine, unheard, "user0")
    await engine.redis.flushall()
    recovered = await mended(engine)
    assert recovered.packets == 0
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    with pytest.raises(OpeningError):
        await engine.claims.claim(half, "user0")
    assert await publish_once(engine.pool, engine.store) == 3
    assert await publish_once(engine.pool, engine.store) == 0
    for packet_id in (untouched, half, unheard):
        shares = await command(engine.redis, "LRANGE", keys.shares(packet_id), 0, -1)
        assert [share.decode() for share in shares] == expected_shares(await funded(engine, packet_id))
    await persisted(engine, settings)
    await assert_in_order(engine)


async def test_who_read_the_ledger_before_the_lane_was_rebuilt_cannot_open_what_has_ended_since(
    engine: Engine, settings: Settings
) -> None:
    """A rebuilt lane does not hold packets that have ended; loaded again, one would be given twice."""
    packet_id = await pay_only(engine, count=2)
    stale, read_at_ms, epoch = await funded(engine, packet_id), await engine.store.now_ms(0), engine.store.epochs[0]
    assert await publish_once(engine.pool, engine.store) == 1
    await claim(engine, packet_id, "user0", "user1")
    await persisted(engine, settings)
    await engine.redis.flushall()
    await mended(engine)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    with pytest.raises(RecoveringError):
        await open_packet(engine.store, stale, shares_per_call=5, read_at_ms=read_at_ms, epoch=epoch)
    assert await all_keys(engine, 0) == {keys.lane(0)}
    # Without that, it would have been opened: the test can fail.
    assert await open_packet(engine.store, stale, shares_per_call=5, read_at_ms=read_at_ms) is Opened.OPENED


@pytest.mark.parametrize("lane_token", ["{}@before", "moving 1 {}"], ids=["restarted", "its mover died"])
async def test_what_the_stream_still_has_is_carried_over_first(
    engine: Engine, settings: Settings, lane_token: str
) -> None:
    sent = await send(engine, count=10)
    await claim(engine, sent.packet_id, *named(2))
    await persisted(engine, settings)
    await claim(engine, sent.packet_id, *named(6))
    entries = await command(engine.redis, "XRANGE", keys.events(0), "-", "+")
    await command(engine.redis, "XDEL", keys.events(0), entries[2][0])  # user2 and user3 are there, user4 is lost
    await command(engine.redis, "HSET", keys.lane(0), "epoch", lane_token.format(engine.store.epochs[0]))
    recovered = await mended(engine)
    assert (recovered.claims, recovered.shares_left, recovered.changes_lost) == (4, 6, 2)
    assert set(await claimed(engine.pool, sent.packet_id)) == {"user0", "user1", "user2", "user3"}
    (row,) = await engine.pool.fetch("SELECT * FROM recoveries")
    assert (row["packets"], row["claims"], row["shares_left"], row["changes_lost"]) == (1, 4, 6, 2)
    assert row["ended_at_ms"] >= row["started_at_ms"]
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    await assert_ledger_is_told(engine)
    assert (await engine.claims.claim(sent.packet_id, "user5")).outcome is Outcome.CLAIMED
    await persisted(engine, settings)
    await assert_in_order(engine)


async def test_an_event_that_cannot_be_read_is_given_up_only_if_the_operator_says_so(
    engine: Engine, settings: Settings
) -> None:
    sent = await send(engine, count=10)
    await claim(engine, sent.packet_id, *named(3))
    await command(engine.redis, "XADD", keys.events(0), "5-0", "event", b"of a later release")
    await engine.redis.hset(keys.lane(0), "position", 5)
    with capture_logs() as logs:
        async with persisting(changed(settings, recover_automatically=True)):
            await wait_until(lambda: logs, what="the alarm")
    assert {log["error_type"] for log in logs} == {"BadEntryError"}
    with pytest.raises(OperatorError, match=r"bad entry at 5-0 .*it replaces 1 of its changes.*set it aside"):
        await mend(settings, engine.store, engine.stream, 0, force=False)
    recovered = await mended(engine, force=True)
    assert (recovered.packets, recovered.claims, recovered.changes_lost) == (1, 3, 1)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    await persisted(engine, settings)
    await assert_in_order(engine)


async def test_a_share_in_quarantine_is_not_given_to_another(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=3)
    await claim(engine, sent.packet_id, "bob")
    await engine.redis.hdel(keys.claims(sent.packet_id), "bob")  # Redis forgets, and gives him another
    await claim(engine, sent.packet_id, "bob")
    await persisted(engine, settings)
    in_ledger = await claimed(engine.pool, sent.packet_id)
    await engine.redis.flushall()
    recovered = await mended(engine)
    assert (recovered.claims, recovered.shares_left) == (2, 1)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    assert await claim(engine, sent.packet_id, "bob") == in_ledger
    await claim(engine, sent.packet_id, "eve", "mia")
    rows = await engine.store.claims(sent.packet_id)
    assert {row.user_id: row.slot for row in rows} == {"bob": 0, "eve": 2}


@pytest.mark.long
async def test_leftovers_go_and_nothing_is_due_that_is_not_there(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, count=10)
    await persisted(engine, settings)
    gone = new_packet_number(0)
    await engine.redis.zadd(keys.due(0), {gone: 1})
    for number in range(2_500):
        await engine.redis.set(f"{keys.tag(0)}:packet:{number}", "left over")
    await engine.redis.set("{hongbao:001}:lane:another", "stays")
    with capture_logs() as logs:
        await sweep_lane(engine.store, 0, 10, 1_000_000)
    assert [log["event"] for log in logs] == ["due_but_missing"]
    await engine.redis.hset(keys.lane(0), "position", 0)
    await engine.store.fence(0)
    await mended(engine)
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    expected = {keys.lane(0), keys.due(0), keys.packet(sent.packet_id), keys.shares(sent.packet_id)}
    assert await all_keys(engine, 0) == expected
    assert await engine.redis.get("{hongbao:001}:lane:another") == b"stays"
    with capture_logs() as logs:
        await sweep_lane(engine.store, 0, 10, 1_000_000)
    assert logs == []


async def test_other_lanes_serve_while_one_is_rebuilt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Engine.open(changed(settings, lanes=2)) as engine:
        packets = [await send_in(engine, lane, count=10) for lane in (0, 1)]
        await persisted(engine, engine.settings)
        await lose_lane(engine, 0)
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def waits(*arguments: Any) -> rebuild.Rebuilt:  # noqa: ANN401  # those of rebuild_packets
            inside.set()
            await go_on.wait()
            return await rebuild_packets(*arguments)

        monkeypatch.setattr("engine.recovery.recovery.rebuild_packets", waits)
        mending = asyncio.create_task(mended(engine))
        await inside.wait()
        assert await engine.ready() == ["Lane 0 is fenced: it is being rebuilt from the ledger."]
        for number in range(5):
            assert (await engine.claims.claim(packets[1], f"user{number}")).outcome is Outcome.CLAIMED
            with pytest.raises(RecoveringError):
                await engine.claims.claim(packets[0], f"user{number}")
        with pytest.raises(RecoveringError):
            await engine.views.packet(packets[0])
        go_on.set()
        await mending
        await wait_until(lambda: claim_until_served(engine, packets[0], "user0"), what="serving")
        await persisted(engine, engine.settings)
        await assert_in_order(engine)


Write = Callable[..., Awaitable[None]]


class DiedError(Exception):
    """As if the process had."""


@pytest.mark.long
@pytest.mark.parametrize("is_done", [False, True], ids=["before the step", "after the step"])
async def test_a_recovery_that_dies_at_any_step_leaves_the_lane_fenced_and_the_next_one_finishes_it(  # noqa: C901
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    sent, other = await send(engine, count=10), await send(engine, count=5, recipients=named(5))
    told = await claim(engine, sent.packet_id, *named(4))
    await persisted(engine, settings)
    told |= await claim(engine, sent.packet_id, *named(2, first=4))  # in the stream, to be carried over
    position = 8
    await command(engine.redis, "HSET", keys.lane(0), "epoch", f"{engine.store.epochs[0]}@before", "position", 12)
    steps = 0
    writes: list[tuple[str, Write]] = [
        ("engine.recovery.recovery.write_if", write_if),
        ("engine.recovery.recovery.set_lane_token", set_lane_token),
        ("engine.recovery.rebuild.write_if", write_if),
    ]
    monkeypatch.setattr(rebuild, "_WORDS_PER_WRITE", 4)

    def dying(write: Write, steps_allowed: int) -> Write:
        async def write_or_die(*arguments: object) -> None:
            nonlocal steps
            steps += 1
            if steps > steps_allowed and not is_done:
                raise DiedError
            await write(*arguments)
            if steps > steps_allowed:
                raise DiedError

        return write_or_die

    for allowed in range(100):
        steps = 0
        for name, write in writes:
            monkeypatch.setattr(name, dying(write, allowed))
        try:
            await mended(engine)
        except (DiedError, AssertionError) as error:
            if isinstance(error, AssertionError):
                break  # the last write had gone through: the lane is in order
            status = await engine.store.lane_status(0)
            epoch = await engine.pool.fetchval("SELECT epoch FROM lanes")
            if status is not None and status.epoch == epoch and status.is_verified:
                continue  # it died after the very last write
            with pytest.raises(RecoveringError):
                await engine.claims.claim(sent.packet_id, "user9")
        else:
            break
    assert allowed > 10
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    status = await engine.store.lane_status(0)
    assert status is not None
    assert status.position == position
    for user, amount_fen in told.items():
        assert await engine.claims.claim(sent.packet_id, user) == ClaimResult(Outcome.ALREADY, amount_fen)
    told |= await claim(engine, sent.packet_id, *named(4, first=6))
    assert sum(told.values()) == 1_000
    assert len(await claim(engine, other.packet_id, *named(5))) == 5
    await persisted(engine, settings)
    assert await claimed(engine.pool, sent.packet_id) == told
    await assert_in_order(engine)


async def test_a_recoverer_that_was_overtaken_writes_nothing_more(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept in the middle, its lease was lost, another one has rebuilt the lane, and then it wakes."""
    sent = await send(engine, count=10)
    await claim(engine, sent.packet_id, "user0")
    await persisted(engine, settings)
    await engine.redis.flushall()
    asleep, awake = asyncio.Event(), asyncio.Event()
    amounts = rebuild._amounts

    async def sleepy(*arguments: Any) -> Any:  # noqa: ANN401  # those of _amounts
        if not asleep.is_set():
            asleep.set()
            await awake.wait()
        return await amounts(*arguments)

    monkeypatch.setattr(rebuild, "_amounts", sleepy)
    monkeypatch.setitem(gate.SQL, "wait_for_lease", "SELECT $1::integer IS NOT NULL AND $2::integer IS NOT NULL")
    late = asyncio.create_task(mended(engine))
    await asleep.wait()
    await mended(engine)
    before = await live_packets(engine)
    awake.set()
    with pytest.raises(LaneChangedError):
        await late
    assert await live_packets(engine) == before
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    await persisted(engine, settings)
    await assert_in_order(engine)


@pytest.mark.long
async def test_the_persister_recovers_a_lost_lane_in_the_middle_of_a_storm(settings: Settings) -> None:
    """FLUSHALL while claims are under way, three times; nobody with a share in the ledger gets another."""
    settings = changed(settings, lanes=2, recover_automatically=True)
    stop = asyncio.Event()
    async with Engine.open(settings) as engine, persisting(settings), sweeping(settings):
        packets = [await send_in(engine, lane, total_fen=60_000, count=600) for lane in (0, 1, 0, 1)]
        told: dict[tuple[str, str], set[int]] = {}
        served_since = Counter[int]()

        def is_served() -> bool:
            """Every lane serves, not only the one that was back first."""
            return all(served_since[lane] > 50 for lane in (0, 1))

        async def is_rebuilt() -> bool:
            """Each lane was rebuilt once per loss."""
            rows = await engine.pool.fetch("SELECT count(*) FROM recoveries GROUP BY lane")
            return len(rows) == 2 and all(row["count"] >= losses for row in rows)

        async def hand(number: int) -> None:
            choices = random.Random(number)
            while not stop.is_set():
                packet_id, user = choices.choice(packets), f"user{choices.randrange(900)}"
                result = await claim_until_served(engine, packet_id, user)
                if result is None:
                    await asyncio.sleep(0.01)  # as a client would, that is asked to come again
                    continue
                served_since[lane_of(packet_id)] += 1
                if result.amount_fen:
                    told.setdefault((packet_id, user), set()).add(result.amount_fen)

        hands = [asyncio.create_task(hand(number)) for number in range(20)]
        for losses in (1, 2, 3):  # noqa: B007  # is_rebuilt reads it
            served_since.clear()
            await wait_until(is_served, timeout_s=20, what="claims being served")
            in_ledger = await wait_until(lambda: amounts_in_ledger(engine), what="some being in the ledger")
            told.clear()
            await engine.redis.flushall()
            await wait_until(is_rebuilt, timeout_s=20, what="both lanes being rebuilt")
            served_since.clear()
            await wait_until(is_served, timeout_s=20, what="claims being served again")
            for key, amount_fen in in_ledger.items():  # nobody was told anything else since
                assert told.get(key, {amount_fen}) == {amount_fen}
            assert in_ledger.items() <= (await amounts_in_ledger(engine)).items()
        stop.set()
        await asyncio.gather(*hands)
        await caught_up(engine)
        await assert_ledger_is_told(engine)
        await assert_in_order(engine)
        assert await engine.pool.fetchval("SELECT count(*) FROM quarantine") == 0
        rows = await engine.pool.fetch("SELECT * FROM recoveries")
        assert len(rows) >= 6
        assert any(row["changes_lost"] is not None for row in rows)


@pytest.mark.long
async def test_a_persister_killed_in_the_middle_of_recoveries_leaves_them_to_the_next(settings: Settings) -> None:
    settings = changed(settings, recover_automatically=True)
    async with Engine.open(settings) as engine:
        packets = [(await send(engine, total_fen=40_000, count=400)).packet_id for _ in range(40)]
        for packet_id in packets:
            await engine.claims.claim_many([(packet_id, user) for user in named(300)])
        await persisted(engine, settings)
        before = await live_packets(engine)
        await engine.redis.flushall()
        moments = random.Random(7)
        broken_off = tries = 0
        while tries < 6 or (not broken_off and tries < 60):  # a recovery may be over before it is seen to have begun
            tries += 1
            with persister_process(settings) as process:

                async def has_begun(names: int = moments.randrange(1, 60)) -> bool:
                    status = await engine.store.lane_status(0)
                    is_rebuilding = status is not None and status.epoch.startswith(REBUILDING)
                    return (is_rebuilding and await engine.redis.dbsize() >= names) or await epochs_agree(engine)

                await wait_until(has_begun, timeout_s=30, what="a recovery")
                kill(process)
            if await epochs_agree(engine):
                await lose_lane(engine, 0)
            else:  # what it has left there is for the next one
                broken_off += 1
                with pytest.raises(RecoveringError):
                    await engine.claims.claim(packets[0], "user0")
        assert broken_off > 0
        async with persisting(settings):
            await wait_until(lambda: claim_until_served(engine, packets[0], "user0"), timeout_s=30, what="serving")
        assert await live_packets(engine) == before
        await assert_in_order(engine)


async def epochs_agree(engine: Engine) -> bool:
    """Whether Redis has the ledger's epoch as the lane token of a lane that serves."""
    status = await engine.store.lane_status(0)
    return status is not None and status.epoch == await engine.pool.fetchval("SELECT epoch FROM lanes WHERE lane = 0")


async def test_what_a_process_remembers_of_a_lane_is_forgotten_when_it_is_rebuilt(
    engine: Engine, settings: Settings
) -> None:
    """Redis was the only one to know that the packet had ended; the rebuilt lane has shares of it."""
    sent = await send(engine, count=2)
    await persisted(engine, settings)
    await claim(engine, sent.packet_id, "user0", "user1")
    assert (await engine.claims.claim(sent.packet_id, "user2")).outcome is Outcome.EMPTY
    await wait_until(lambda: engine.claims.finished.knows(sent.packet_id), what="remembering")
    await engine.redis.flushall()
    await mended(engine)

    async def is_given() -> bool:
        result = await claim_until_served(engine, sent.packet_id, "user2")
        return result is not None and result.outcome is Outcome.CLAIMED

    await wait_until(is_given, what="forgetting")
    assert not engine.claims.finished.knows(sent.packet_id)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """An engine with one lane."""
    async with Engine.open(settings) as opened:
        yield opened
