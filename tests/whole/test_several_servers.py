"""Several Redis servers, each with its lanes: one that is away takes its own lanes with it, and nothing else."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
from prometheus_client import REGISTRY

from engine.connected import Connected
from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.engine import Engine
from engine.errors import OperatorError, UnavailableError
from engine.ids import lane_of
from engine.records import Ack, Outcome, PacketState
from engine.settings import Settings
from tests.support.front import open_front
from tests.support.lost_lanes import assert_in_order, mended
from tests.support.scenes import caught_up, changed, persisting, send, sweeping
from tests.support.two_servers import FIRST, SECOND, TIMEOUT_S, Two, answers, one_in_each_lane, two_servers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

CLAIMED = dict.fromkeys((*FIRST, *SECOND), "claimed")


@pytest.fixture
async def two(settings: Settings, tmp_path: Path) -> AsyncIterator[Two]:
    async with two_servers(settings, tmp_path) as servers:
        yield servers


@pytest.fixture
async def engine(two: Two) -> AsyncIterator[Engine]:
    async with Engine.open(two.settings) as opened:
        yield opened


async def lanes_on(server_keys: list[str]) -> set[int]:
    return {int(key.partition("hongbao:")[2][:3]) for key in server_keys}


async def test_each_server_has_its_own_lanes_and_the_books_agree_with_both(two: Two, engine: Engine) -> None:
    packets = await one_in_each_lane(engine, count=2)
    assert await answers(engine, packets, "bob") == CLAIMED
    assert await answers(engine, packets, "carol") == CLAIMED
    assert await answers(engine, packets, "bob") == dict.fromkeys(packets, "already")
    for server, lanes in ((two.first, FIRST), (two.second, SECOND)):
        async with server.client() as client:
            names = [name.decode() async for name in client.scan_iter(count=1_000)]
        assert await lanes_on(names) == set(lanes)
    page = await engine.views.records("alice", role="sent", after=None, limit=50)
    states = {one.packet_id: one.state for one in page.packets}
    assert {states[packet_id] for packet_id in packets.values()} == {PacketState.EXHAUSTED}
    async with persisting(two.settings):
        await caught_up(engine)
        await assert_in_order(engine)
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'claim'") == 2 * len(packets)


async def test_what_is_paid_for_is_opened_and_what_expires_is_refunded_on_both(two: Two, engine: Engine) -> None:
    large = {lane_of(sent.packet_id) for sent in [await send(engine, count=6_000, total_fen=6_000) for _ in range(12)]}
    brief = [await send(engine, ttl_s=1) for _ in range(8)]
    assert large & set(FIRST)
    assert large & set(SECOND)
    async with persisting(two.settings), sweeping(two.settings):

        async def is_done() -> bool:
            rows = await engine.pool.fetch("SELECT packet_id, state, count FROM packets")
            by_id = {str(row["packet_id"]): row for row in rows}
            are_refunded = all(by_id[sent.packet_id]["state"] == PacketState.EXPIRED for sent in brief)
            return are_refunded and all(row["state"] == PacketState.OPEN for row in rows if row["count"] == 6_000)

        await wait_until(is_done, timeout_s=20, what="all being opened and refunded")
        await caught_up(engine)
        await assert_in_order(engine)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_server_that_is_away_takes_its_own_lanes_with_it(two: Two, engine: Engine, how: signal.Signals) -> None:
    packets = await one_in_each_lane(engine, count=20)
    async with persisting(two.settings):
        await caught_up(engine)
        two.second.signal(how)
        started_s = monotonic()
        said = await answers(engine, packets, "bob")
        assert monotonic() - started_s < TIMEOUT_S + 1
        assert {lane: said[lane] for lane in FIRST} == dict.fromkeys(FIRST, "claimed")
        assert {said[lane] for lane in SECOND} <= {"unavailable", "undecided"}
        for number in range(10):  # not one of them goes to a lane that does not serve
            sent = await send(engine)
            assert (lane_of(sent.packet_id) in FIRST, sent.state) == (True, PacketState.OPEN)
            assert (await engine.claims.claim(sent.packet_id, f"user{number}")).outcome is Outcome.CLAIMED
        page = await engine.views.records("alice", role="sent", after=None, limit=50)
        assert set(packets.values()) <= {one.packet_id for one in page.packets}  # the ledger knows them
        readiness = await engine.readiness()
        (reason,) = readiness.not_serving
        assert readiness.reasons == []
        assert reason.startswith(f"Lanes 2, 3 wait for Redis at 127.0.0.1:{two.second.port}: ")
        with pytest.raises(UnavailableError):
            await engine.measure()
        fenced = {lane: REGISTRY.get_sample_value("hongbao_lane_fenced", {"lane": str(lane)}) for lane in packets}
        assert fenced == {0: 0, 1: 0, 2: 1, 3: 1}
        if how is signal.SIGKILL:
            two.second.kill()
            await two.second.start()
        else:
            two.second.signal(signal.SIGCONT)

        async def all_serve() -> bool:
            return set((await answers(engine, packets, "carol")).values()) <= {"claimed", "already"}

        await wait_until(all_serve, timeout_s=20, what="all lanes serving again")
        assert set((await answers(engine, packets, "bob")).values()) <= {"claimed", "already"}
        await wait_until(lambda: not engine.store.paused, what="new packets going to every lane")
        await caught_up(engine)
        await assert_in_order(engine)
        assert (await engine.readiness()).not_serving == []


async def test_a_server_that_hangs_delays_neither_the_publisher_nor_the_sweeper_of_the_other(
    two: Two, engine: Engine
) -> None:
    patient = changed(two.settings, redis_timeout_s=20)  # longer than this test waits
    async with persisting(two.settings), sweeping(patient):
        large = await send(engine, count=6_000, total_fen=6_000)

        async def is_at_work() -> bool:
            return await engine.store.states([large.packet_id]) == [PacketState.OPEN]

        await wait_until(is_at_work, timeout_s=10, what="the publisher being at work")
        await one_in_each_lane(engine)
        two.second.signal(signal.SIGSTOP)
        await wait_until(lambda: engine.store.paused == set(SECOND), what="its being noticed")
        large, brief = await send(engine, count=6_000, total_fen=6_000), await send(engine, ttl_s=1)

        async def is_done() -> bool:
            return await engine.store.states([large.packet_id]) + await engine.store.states([brief.packet_id]) == [
                PacketState.OPEN,
                PacketState.EXPIRED,
            ]

        await wait_until(is_done, timeout_s=10, what="one being opened and the other refunded")
        two.second.signal(signal.SIGCONT)
        await wait_until(lambda: not engine.store.paused, what="its being back")
        await caught_up(engine)
        await assert_in_order(engine)


async def test_a_server_that_lost_its_data_is_rebuilt_alone(two: Two, engine: Engine) -> None:
    packets = await one_in_each_lane(engine, count=20)
    async with persisting(two.settings):
        assert await answers(engine, packets, "bob") == CLAIMED
        await caught_up(engine)
    epochs = dict(engine.store.epochs)
    two.second.kill()
    for path in (two.second.folder / "appendonlydir").iterdir():
        path.unlink()
    await two.second.start()
    assert await answers(engine, packets, "carol") == dict.fromkeys(FIRST, "claimed") | dict.fromkeys(
        SECOND, "recovering"
    )
    assert len((await engine.readiness()).not_serving) == len(SECOND)
    for lane in SECOND:
        await mended(engine, lane)
    await wait_until(lambda: all(engine.store.epochs[lane] != epochs[lane] for lane in SECOND), what="the new epochs")
    assert {lane: engine.store.epochs[lane] for lane in FIRST} == {lane: epochs[lane] for lane in FIRST}
    assert await answers(engine, packets, "bob") == dict.fromkeys(packets, "already")
    async with persisting(two.settings):
        await caught_up(engine)
        await assert_in_order(engine)


async def test_a_process_starts_while_one_server_is_away_but_not_without_any(two: Two) -> None:
    async with Engine.open(two.settings) as engine, persisting(two.settings):
        packets = await one_in_each_lane(engine)
        await caught_up(engine)
    two.first.kill()
    async with Engine.open(two.settings) as engine, persisting(two.settings):
        said = await answers(engine, packets, "bob")
        assert {lane: said[lane] for lane in SECOND} == dict.fromkeys(SECOND, "claimed")
        assert {lane_of((await send(engine)).packet_id) for _ in range(10)} <= set(SECOND)
        await two.first.start()

        async def all_serve() -> bool:
            return set((await answers(engine, packets, "carol")).values()) <= {"claimed", "already"}

        await wait_until(all_serve, timeout_s=20, what="all lanes serving again")
        await caught_up(engine)
    two.first.kill()
    two.second.kill()
    with pytest.raises(OperatorError, match="Redis does not answer"):
        async with Engine.open(two.settings):
            pytest.fail("it opened")


async def test_probes_name_the_lanes_that_wait_and_say_503_once_none_serves(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.readiness.READY_S_MAX", 20.0)  # on a busy machine Postgres may need a while
    async with Engine.open(two.settings) as engine:
        packets = await one_in_each_lane(engine)
    async with open_front(two.settings) as client:
        ready = await client.http.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "not_serving": []})
        two.first.kill()
        ready = await client.http.get("/readyz")
        (told,) = ready.json()["not_serving"]
        assert (ready.status_code, told.startswith("Lanes 0, 1 wait for Redis at 127.0.0.1:")) == (200, True)
        metrics = (await client.http.get("/metrics")).text
        for lane in packets:
            assert f'hongbao_lane_fenced{{lane="{lane}"}} {float(lane in FIRST)}' in metrics
        claims = [{"packet_id": packet_id, "user_id": "bob"} for packet_id in packets.values()]
        answer = await client.http.post("/v1/claims", json={"claims": claims}, headers=client.as_backend())
        results = dict(zip(packets, answer.json()["results"], strict=True))
        assert {results[lane]["outcome"] for lane in SECOND} == {"claimed"}
        assert {results[lane]["code"] for lane in FIRST} == {"unavailable"}
        alone = await client.http.post(f"/v1/packets/{packets[0]}/claims", headers=client.as_user("carol"))
        assert (alone.status_code, alone.headers["retry-after"]) == (503, "1")
        two.second.kill()
        ready = await client.http.get("/readyz")
        assert ready.status_code == 503
        assert [reason[:16] for reason in ready.json()["reasons"]] == ["Lanes 0, 1 wait ", "Lanes 2, 3 wait "]


async def test_the_doctor_has_lines_for_each_server(two: Two) -> None:
    async with Engine.open(two.settings):
        pass
    found = {line.name: line for line in await examine(two.settings, is_embedded=False)}
    for server, lanes in ((two.first, "0, 1"), (two.second, "2, 3")):
        place = f"127.0.0.1:{server.port}"
        assert found[f"redis {place}"].found == f"redis://{place}/0, lanes {lanes}"
        assert found[f"redis scripts {place}"].level is found[f"redis clock {place}"].level is Level.OK
    two.second.kill()
    found = {line.name: line for line in await examine(two.settings, is_embedded=False)}
    assert found[f"redis 127.0.0.1:{two.second.port}"].level is Level.PROBLEM
    assert {found[f"lane {lane}"].level for lane in FIRST} == {Level.OK}
    assert {found[f"lane {lane}"].level for lane in SECOND} == {Level.PROBLEM}
    assert "does not answer" in found["lane 2"].found


async def test_what_is_confirmed_is_asked_of_the_lanes_own_server(settings: Settings, tmp_path: Path) -> None:
    """A server that no longer syncs each write promises nothing; the other's lanes go on."""
    async with (
        two_servers(settings, tmp_path, appendfsync="always") as two,
        Engine.open(changed(two.settings, ack=Ack.FSYNC)) as engine,
        persisting(two.settings),
    ):
        await engine.acks.check()
        packets = await one_in_each_lane(engine)
        assert await answers(engine, packets, "bob") == CLAIMED
        await two.second.ask("CONFIG", "SET", "appendfsync", "everysec")
        (reason,) = (await engine.readiness()).not_serving
        assert f"Lanes 2, 3 wait for Redis at 127.0.0.1:{two.second.port}" in reason
        said = await answers(engine, packets, "carol")
        assert {lane: said[lane] for lane in FIRST} == dict.fromkeys(FIRST, "claimed")
        assert {said[lane] for lane in SECOND} == {"unconfirmed"}
        with pytest.raises(OperatorError, match="appendfsync always"):
            await engine.acks.check()


async def test_a_lane_of_the_ledger_needs_a_server(two: Two) -> None:
    async with Engine.open(two.settings):
        pass
    fewer = changed(two.settings, lanes=2, redis_url=f"0-1={two.first.url}")
    with pytest.raises(
        OperatorError, match=r"^HONGBAO_REDIS_URL names no server for lane 2, which is in the ledger\.$"
    ):
        async with Engine.open(fewer):
            pytest.fail("it opened")
    with pytest.raises(OperatorError, match="lane 2"):
        async with Connected.open(fewer):
            pytest.fail("it opened")


async def test_a_storm_on_both_while_one_stops_and_comes_back_gives_each_share_once(two: Two, engine: Engine) -> None:
    packets = await one_in_each_lane(engine, count=100, total_fen=1_000)
    told: dict[tuple[int, str], int] = {}

    async def hand(number: int) -> None:
        for lane, packet_id in packets.items():
            for user_id in (f"user{number}", f"friend{number}"):
                try:
                    result = await engine.claims.claim(packet_id, user_id)
                except UnavailableError:
                    continue
                assert told.setdefault((lane, user_id), result.amount_fen) == result.amount_fen

    async with persisting(two.settings):
        for turn in range(3):
            hands = [asyncio.create_task(hand(number)) for number in range(20)]
            if turn == 1:
                two.second.signal(signal.SIGSTOP)
                await asyncio.gather(*hands)
                two.second.signal(signal.SIGCONT)
            await asyncio.gather(*hands)

        async def is_whole() -> bool:
            return (await engine.readiness()).not_serving == []

        await wait_until(is_whole, timeout_s=20, what="both serving")
        await caught_up(engine)
        await assert_in_order(engine)
    given = await engine.pool.fetch("SELECT from_account, to_account FROM transfers WHERE kind = 'claim'")
    assert len(given) == len({tuple(row) for row in given}) >= len(told)


async def test_a_lane_that_was_given_to_another_server_serves_there_alone(two: Two, engine: Engine) -> None:
    packets = await one_in_each_lane(engine, count=20)
    async with persisting(two.settings):
        assert await answers(engine, packets, "bob") == CLAIMED
        await caught_up(engine)
    other = changed(two.settings, redis_url=f"0-2={two.first.url} 3={two.second.url}")
    async with Engine.open(other) as moved:
        assert await answers(moved, packets, "carol") == CLAIMED | {2: "recovering"}
        before = moved.store.epochs[2]
        await mended(moved, 2)
        await wait_until(lambda: moved.store.epochs[2] != before, what="the new epoch")
        assert await answers(moved, packets, "bob") == dict.fromkeys(packets, "already")
        assert (await answers(moved, packets, "dave"))[2] == "claimed"
        # Who still has the old setting asks a server that the ledger no longer names for the lane.
        await wait_until(lambda: engine.store.epochs[2] == moved.store.epochs[2], what="the other learning the epoch")
        assert (await answers(engine, packets, "erin"))[2] == "recovering"
        async with persisting(other):
            await caught_up(moved)
            await assert_in_order(moved)
