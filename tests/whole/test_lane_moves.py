"""Lanes are moved between the masters of a cluster while hands tap, and nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import OperatorError, UnavailableError
from engine.lanes import keys, slot_moves
from engine.lanes.reader import LaneStatus
from engine.lanes.slot_moves import Master
from engine.records import Ack, ClaimResult, Outcome
from engine.recovery import moving
from engine.recovery.fencing import LaneChangedError, fence_to_move, moving_until_ms
from engine.recovery.placing import Placing, even
from engine.settings import Settings
from tests.support.clustered import Clustered, clustered
from tests.support.commands import hongbao, sentence
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order, lose_lane
from tests.support.scenes import caught_up, changed, persisting
from tests.support.two_servers import one_in_each_lane
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

LANES = 3
"""By their hashes, one on each master."""
Answered = dict[tuple[str, str], int]
USERS_MAX = 2_000


@pytest.fixture
async def cluster(quick_path: Path) -> AsyncIterator[Clustered]:
    async with clustered(quick_path / "cluster") as found:
        yield found


@pytest.fixture
def settings(settings: Settings, cluster: Clustered) -> Settings:
    return changed(settings, redis_url=cluster.url, lanes=LANES, ack=Ack.MEMORY, redis_timeout_s=1.0)


@pytest.fixture
def variables(settings: Settings) -> dict[str, str]:
    return {
        "HONGBAO_REDIS_URL": str(settings.redis_url),
        "HONGBAO_DATABASE_URL": str(settings.database_url),
        "HONGBAO_DATA_DIR": str(settings.data_dir),
        "HONGBAO_LANES": str(settings.lanes),
    }


class Hands:
    """Users who tap in every lane, one after another, and remember what they were told."""

    def __init__(self, engine: Engine, packets: dict[int, str]) -> None:
        self.engine, self.packets = engine, packets
        self.answered: Answered = {}
        self.asked = 0

    async def tap(self) -> bool:
        """Return whether every lane gave the user a share, or had given it."""
        user = f"user{self.asked % USERS_MAX}"
        self.asked += 1
        asked = [(packet_id, user) for packet_id in self.packets.values()]
        served = 0
        for (packet_id, _), answer in zip(asked, await self.engine.claims.claim_many(asked), strict=True):
            if isinstance(answer, ClaimResult) and answer.outcome in (Outcome.CLAIMED, Outcome.ALREADY):
                before = self.answered.setdefault((packet_id, user), answer.amount_fen)
                assert before == answer.amount_fen
                served += 1
        return served == len(asked)

    async def go_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.tap()
            await asyncio.sleep(0)

    async def tap_until_all_serve(self) -> None:
        """Whoever was refused asks again."""

        async def all_are_answered() -> bool:
            self.asked = 0
            return all([await self.tap() for _ in range(5)])

        await wait_until(all_are_answered, what="every lane serving")


@asynccontextmanager
async def tapping(settings: Settings) -> AsyncIterator[Hands]:
    """Hands that tap until the end of the block. Then all that they were told must be in the ledger, once."""
    async with Engine.open(settings) as engine, persisting(settings):
        hands = Hands(engine, await one_in_each_lane(engine, count=USERS_MAX, total_fen=USERS_MAX * 10))
        stop = asyncio.Event()
        task = asyncio.create_task(hands.go_on(stop))
        try:
            yield hands
        finally:
            stop.set()
            await task
        await hands.tap_until_all_serve()
        await caught_up(engine)
        in_ledger = await amounts_in_ledger(engine)
        assert {key: in_ledger.get(key) for key in hands.answered} == hands.answered
        await assert_in_order(engine)
        findings = await audit(engine.pool, engine.store, engine.stream)
        assert [finding for finding in findings if not finding.holds] == []


async def lanes(*words: str, **variables: str) -> str:
    finished = await asyncio.to_thread(hongbao, "lanes", *words, **variables)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers do that cannot move a slot at once."""

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(slot_moves, "_move_at_once", never)


async def test_a_lane_is_moved_while_hands_tap(
    cluster: Clustered, settings: Settings, variables: dict[str, str]
) -> None:
    async with tapping(settings) as hands:
        for number in (1, 2, 0):
            target = cluster.masters[number]
            told = (await lanes("move", "--lane", "0", "--to", f"127.0.0.1:{target.port}", **variables)).splitlines()
            if told != [f"lane 0 is on 127.0.0.1:{target.port} already"]:
                assert told[0].startswith("lane 0 is fenced and moves from 127.0.0.1:")
                assert told[1].startswith("lane 0 serves there; it refused for ")
                assert told[1].endswith("; 1 replica had it before that")
            assert await cluster.holder_of(0) is target
            before = hands.asked
            await wait_until(lambda before=before: hands.asked > before + 5, what="taps")  # type: ignore[misc]
        again = await lanes("move", "--lane", "0", "--to", cluster.masters[0].ask("CLUSTER", "MYID"), **variables)
        assert again == f"lane 0 is on 127.0.0.1:{cluster.masters[0].port} already\n"
        placed = orjson.loads(await lanes("--json", "--sample-s", "0.1", **variables))
        assert placed["lanes"][0]["server"] == f"127.0.0.1:{cluster.masters[0].port}"
        assert all(line["why_not"] is None for line in placed["lanes"])


async def test_a_lane_is_moved_key_by_key_while_hands_tap(
    cluster: Clustered, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_key(monkeypatch)
    async with tapping(settings), Placing.open(settings) as placing:
        target = await placing.named(f"127.0.0.1:{(await cluster.holder_of(1)).port}")
        moved = await placing.move(0, target, no_word)
        assert moved is not None
        assert moved.serves
        assert await cluster.holder_of(0) is await cluster.holder_of(1)


async def test_a_move_key_by_key_that_is_broken_off_is_finished_by_the_next(
    cluster: Clustered, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_key(monkeypatch)
    monkeypatch.setattr(moving, "_FENCED_MS", 200)
    real, calls = slot_moves._move_keys, 0

    async def breaks_off(names: list[bytes], source: Master, target: Master) -> None:
        nonlocal calls
        calls += 1
        await real(names[:1], source, target)
        if calls == 1:
            raise OperatorError("It was broken off.")

    async with tapping(settings), Placing.open(settings) as placing:
        target = await placing.named(f"127.0.0.1:{(await cluster.holder_of(1)).port}")
        with monkeypatch.context() as patch:
            patch.setattr(slot_moves, "_move_keys", breaks_off)
            with pytest.raises(OperatorError, match="broken off"):
                await placing.move(0, target, no_word)

        async def moved() -> bool:
            try:
                found = await placing.move(0, target, no_word)
            except OperatorError:  # the fence of the first has not ended yet
                return False
            return found is None or found.serves

        await wait_until(moved, what="the second move")


async def test_a_move_that_fails_leaves_the_lane_where_it_was(
    cluster: Clustered, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(
        slot: int, source: Master, target: Master, *, last: str, between: Callable[[], Awaitable[None]]
    ) -> None:
        del slot, source, target, last
        await between()
        raise OperatorError("It could not be moved.")

    monkeypatch.setattr(moving, "move_slot", fails)
    async with tapping(settings), Placing.open(settings) as placing:
        source, target = await cluster.holder_of(0), await cluster.holder_of(1)
        with pytest.raises(OperatorError, match="could not be moved"):
            await placing.move(0, await placing.named(f"127.0.0.1:{target.port}"), no_word)
        assert await cluster.holder_of(0) is source


async def test_a_mover_that_comes_late_leaves_the_fence_of_the_first(settings: Settings) -> None:
    async with Engine.open(settings), Placing.open(settings) as placing:
        store, source = placing.connected.store, await placing.holder_of(0)
        late = moving.LaneMove(placing.connected.pool, store, 0, source, await placing.holder_of(1))
        real = late._movable

        async def another_is_faster() -> LaneStatus:
            found = await real()
            await fence_to_move(store.client_of(0), 0, found, await store.now_ms(0) + 10_000)
            return found

        late._movable = another_is_faster  # type: ignore[method-assign]
        with pytest.raises(LaneChangedError):
            await late.run(no_word)
        status = await store.lane_status(0)
        assert status is not None
        assert moving_until_ms(status) is not None


async def test_after_a_move_that_was_broken_off_no_server_serves_the_lane_uncompared(settings: Settings) -> None:
    """It was moved from here and lies there, and its first mover has died. Then it comes back here."""
    async with Engine.open(settings), Placing.open(settings) as placing:
        async with persisting(settings):
            await wait_until(lambda: is_compared(placing), what="the lane being compared")
        store, here, there = placing.connected.store, await placing.holder_of(0), await placing.holder_of(1)
        status = await store.lane_status(0)
        assert status is not None
        await fence_to_move(store.client_of(0), 0, status, await store.now_ms(0))
        await slot_moves.move_slot(keys.slot(0), here, there, last=keys.lane(0), between=no_step)
        await wait_until(lambda: is_on(placing, there), what="the lane being there")
        move = moving.LaneMove(placing.connected.pool, store, 0, there, here)
        move._wait_until_it_serves = nobody_waits  # type: ignore[method-assign]
        await move.run(no_word)
        back = await store.lane_status(0)
        assert back is not None
        assert back.server == status.server
        assert not back.is_verified


async def is_compared(placing: Placing) -> bool:
    rows = await placing.connected.pool.fetch("SELECT FROM lanes WHERE run_id IS NULL")
    return not rows


async def is_on(placing: Placing, master: Master) -> bool:
    return (await placing.holder_of(0)).address == master.address


async def no_step() -> None:
    """Nothing to do in between."""


async def nobody_waits() -> bool:
    return False


async def test_a_ledger_that_is_away_is_said_in_one_sentence(settings: Settings) -> None:
    async with Engine.open(settings), Placing.open(settings) as placing:
        source, target = await placing.holder_of(0), await placing.holder_of(1)
        await placing.connected.pool.close()
        with pytest.raises(UnavailableError):
            await moving.LaneMove(placing.connected.pool, placing.connected.store, 0, source, target).run(no_word)


async def test_a_move_is_broken_off_once_its_fence_has_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may have been stopped for long. What is written now must not travel."""

    async def slow(
        slot: int, source: Master, target: Master, *, last: str, between: Callable[[], Awaitable[None]]
    ) -> None:
        del slot, source, target, last
        await asyncio.sleep(1)
        await between()

    monkeypatch.setattr(moving, "move_slot", slow)
    monkeypatch.setattr(moving, "_FENCED_MS", 100)
    monkeypatch.setattr(moving, "_AGAIN_S", 0.0)
    async with Engine.open(settings), persisting(settings), Placing.open(settings) as placing:
        with pytest.raises(OperatorError, match="no longer fenced"):
            await placing.move(0, await placing.holder_of(1), no_word)


async def test_a_lane_whose_mover_died_refuses_for_a_while_and_serves_again(settings: Settings) -> None:
    async with tapping(settings) as hands:
        store, client = hands.engine.store, hands.engine.store.client_of(0)
        status = await store.lane_status(0)
        assert status is not None
        until_ms = await store.now_ms(0) + 1_000
        await fence_to_move(client, 0, status, until_ms)
        (refused,) = await hands.engine.claims.claim_many([(hands.packets[0], "ann")])
        assert not isinstance(refused, ClaimResult)
        assert (await hands.engine.readiness()).not_serving == [
            "Lane 0 is fenced: it is being moved to another server."
        ]


async def test_a_replica_that_does_not_have_the_lane_is_not_counted(
    cluster: Clustered, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_REPLICAS_S_MAX", 0.5)
    async with Engine.open(settings), persisting(settings), Placing.open(settings) as placing:
        target = await cluster.holder_of(1)
        replica = cluster.replicas[cluster.masters.index(target)].process
        assert replica is not None
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            moved = await placing.move(0, await placing.named(f"127.0.0.1:{target.port}"), no_word)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        assert moved is not None
        assert moved.replicas == 0


async def test_lanes_are_spread_with_the_fewest_moves(
    cluster: Clustered, settings: Settings, variables: dict[str, str]
) -> None:
    """By their hashes six lanes lie 3, 2 and 1."""
    variables |= {"HONGBAO_LANES": "6"}
    async with tapping(changed(settings, lanes=6)):
        told = await lanes("place", "--dry-run", **variables)
        assert told.count("\n") == 1
        assert " would move to 127.0.0.1:" in told
        (planned,) = orjson.loads(await lanes("place", "--dry-run", "--json", **variables))
        assert f"lane {planned['lane']} would move to {planned['to']}\n" == told
        assert len({(await cluster.holder_of(lane)).port for lane in range(6)}) == 3
        told = await lanes("place", **variables)
        assert told.count("serves there") == 1
        held = [(await cluster.holder_of(lane)).port for lane in range(6)]
        assert sorted(held.count(port) for port in set(held)) == [2, 2, 2]
        assert (await lanes("place", **variables)).startswith("the lanes are spread evenly: ")


async def test_what_cannot_be_moved_is_said_in_one_sentence(
    cluster: Clustered, settings: Settings, variables: dict[str, str], redis_url: str
) -> None:
    there = f"127.0.0.1:{cluster.masters[0].port}"

    async def said(lane: int, to: str, **others: str) -> str:
        words = ("lanes", "move", "--lane", str(lane), "--to", to)
        return sentence(await asyncio.to_thread(hongbao, *words, **variables | others))

    async with Engine.open(settings) as engine:
        assert "does not name one cluster" in await said(0, there, HONGBAO_REDIS_URL=redis_url)
        places = ", ".join(sorted(f"127.0.0.1:{master.port}" for master in cluster.masters))
        assert (await said(0, "elsewhere:1")).endswith(f"called elsewhere:1: --to must be one of {places}.")
        assert await said(7, there) == "There is no lane 7 in the ledger."
        (lane, *_) = [lane for lane in range(LANES) if await cluster.holder_of(lane) is not cluster.masters[0]]
        await lose_lane(engine, lane)
        assert await said(lane, there) == f"Lane {lane} does not serve now (lost): move it once it does."


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1))
def test_even_is_even_with_the_fewest_moves(counts: dict[str, int]) -> None:
    numbers = iter(range(100))
    held = {place: [next(numbers) for _ in range(count)] for place, count in counts.items()}
    moves = even(held)
    where = {lane: place for place, lanes_there in held.items() for lane in lanes_there} | dict(moves)
    after = {place: list(where.values()).count(place) for place in counts}
    assert max(after.values()) - min(after.values()) <= 1
    assert len(where) == sum(counts.values())
    least, more = divmod(sum(counts.values()), len(counts))
    wanted = sorted((least + (number < more) for number in range(len(counts))), reverse=True)
    fewest = sum(max(0, have - want) for have, want in zip(sorted(counts.values(), reverse=True), wanted, strict=True))
    assert len(moves) == fewest


def test_each_lane_has_a_slot_of_its_own() -> None:
    """So that one may be moved without any other."""
    assert len({keys.slot(lane) for lane in range(1_000)}) == 1_000


def no_word(_line: str) -> None:
    """Nobody reads along."""
