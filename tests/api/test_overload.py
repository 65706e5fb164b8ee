"""What one process takes on at a time: the rest gets its 503 at once, and what was taken is answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import uvloop

from api import limits as bounds
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.scenes import changed
from tests.support.served import Watched, World, open_world, redis_held
from tests.support.waiting import wait_until
from tests.support.wire import Wire, claim, in_chunks, request, says_close

LOOP_FACTORY = uvloop.new_event_loop
WAYS = pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])


def assert_overloaded(reply: Reply, *, is_last: bool = False) -> None:
    headers = dict(reply.headers)
    problem = orjson.loads(reply.body)
    assert (reply.status, problem["code"], problem["status"]) == (503, "overloaded", 503)
    assert (headers[b"retry-after"], headers[b"content-type"]) == (b"1", b"application/problem+json")
    assert says_close(reply) is is_last


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[World]:
    """A server that sends claims one by one, and has room for one beside the one that is under way."""
    one = {"claims_per_call_max": 1, "calls_in_flight_max": 1, "claim_queue_max": 1}
    async with open_world(settings.model_copy(update=one)) as opened:  # smaller than they may be set
        yield opened


@asynccontextmanager
async def connections(world: World, count: int) -> AsyncIterator[list[Wire[Watched]]]:
    """Several connections."""
    if count == 0:
        yield []
        return
    async with world.served.connected() as wire, connections(world, count - 1) as others:
        yield [wire, *others]


@asynccontextmanager
async def full_lane(world: World, settings: Settings, data: bytes) -> AsyncIterator[None]:
    """The lane of ``world.open`` refuses claims; those that were taken before it did are answered in the end."""
    full_lanes = world.served.front.engine.claims.full_lanes
    async with connections(world, 3) as wires:
        async with redis_held(settings):
            for number, wire in enumerate(wires[:2]):
                await wire.send(data)
                await wait_until(lambda number=number: world.served.front.in_flight == number + 1)  # type: ignore[misc]
            assert_overloaded(await wires[2].ask(data))
            assert full_lanes
            yield
        assert [(await wire.answer()).status for wire in wires[:2]] == [200, 200]
        await wait_until(lambda: not full_lanes, what="the lane having room")


@WAYS
async def test_a_full_lane_refuses_at_once_and_keeps_the_connection(
    narrow: World, settings: Settings, query: str
) -> None:
    data = claim(narrow.open, narrow.bob, query=query)
    refused = narrow.served.front.limits.refused
    async with narrow.served.connected() as wire:
        async with full_lane(narrow, settings, data):
            assert_overloaded(await wire.ask(data))
            assert narrow.served.front.in_flight == 2
        if not query:
            assert refused[bounds.CLAIMS_WAITING] == 2
            assert not wire.there.were_taken or wire.there.were_taken == [True]
        await wait_until(lambda: not narrow.served.front.limits.room.is_overloaded, what="the overload being over")
        assert (await wire.ask(data)).status == 200


async def test_the_short_way_and_the_long_way_refuse_with_the_same_bytes(narrow: World, settings: Settings) -> None:
    async with full_lane(narrow, settings, claim(narrow.open, narrow.bob)):
        replies = [(await narrow.served.ask(claim(narrow.open, narrow.bob, query=query)))[0] for query in ("", "?x=1")]
    assert replies[0] == replies[1]


async def test_a_full_lane_answers_what_does_not_need_it(narrow: World, settings: Settings) -> None:
    """A packet that is remembered, another path, a body that must be read first."""
    async with full_lane(narrow, settings, claim(narrow.open, narrow.bob)):
        assert (await narrow.served.ask_one(claim(narrow.sold_out, narrow.bob))).status == 200
        assert (await narrow.served.ask_one(request("/livez", method="GET"))).status == 200
        malformed = await narrow.served.ask_one(claim("10nonsense", narrow.bob))
        assert malformed.status == 404
        for data in (
            request(f"/v1/packets/{narrow.open}/claims", narrow.bob, body=b"{}"),
            request(f"/v1/packets/{narrow.open}/claims", narrow.bob, "transfer-encoding: chunked") + in_chunks(b"{}"),
        ):
            async with narrow.served.connected() as wire:
                assert_overloaded(await wire.ask(data))
                assert (await wire.ask(claim(narrow.sold_out, narrow.bob))).status == 200


async def test_who_asks_again_at_once_is_read_when_its_turn_comes(
    narrow: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "TICK_S", 3_600.0)
    monkeypatch.setattr(bounds, "OVERLOAD_S", 3_600.0)
    limits = narrow.served.front.limits
    data = claim(narrow.open, narrow.bob)
    async with narrow.served.connected() as hasty, narrow.served.connected() as patient:
        async with full_lane(narrow, settings, data):
            for wire in (hasty, patient):
                assert_overloaded(await wire.ask(data))
                assert wire.there.flow.read_paused
            assert len(limits.room) == 3
            arrived = hasty.there.arrived
            hasty.writer.write(data)
            await hasty.writer.drain()
        # The lane has room again, but the process was overloaded a moment ago.
        assert (await narrow.served.ask_one(data)).status == 200
        assert hasty.there.arrived == arrived
        limits.room._release()
        assert_overloaded(await hasty.answer())
        assert (await patient.ask(data)).status == 200
        assert limits.refused[bounds.TOO_SOON] == 1
        assert len(limits.room) == 1
        monkeypatch.setattr(limits.room, "_overloaded_until_s", 0.0)
        hasty.writer.write(data)
        await hasty.writer.drain()
        limits.room._release()
        assert (await hasty.answer()).status == 200, "nobody else is waiting any more"


async def test_the_refused_are_read_again_by_themselves_in_turn(
    narrow: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "RELEASES_A_TICK_MIN", 1)
    monkeypatch.setattr(bounds, "TICK_S", 0.05)
    room = narrow.served.front.limits.room
    data = claim(narrow.open, narrow.bob)
    async with full_lane(narrow, settings, data), connections(narrow, 4) as wires:
        for wire in wires:
            assert_overloaded(await wire.ask(data))
        wires[1].writer.close()  # and is not waited for
        waited: list[Wire[Watched]] = []
        while len(waited) < 3:
            reading = [wire for wire in (wires[0], *wires[2:]) if not wire.there.flow.read_paused]
            waited += [wire for wire in reading if wire not in waited]
            await asyncio.sleep(0.005)
        assert waited == [wires[0], wires[2], wires[3]]
        await wait_until(lambda: len(room) == 0, what="nobody being held")


@pytest.mark.parametrize(("held", "released"), [(5, 5), (1_000, 20), (3_000, 30), (100_000, 50)])
async def test_the_more_are_refused_the_faster_they_are_read_again_within_bounds(held: int, released: int) -> None:
    class Patient:
        read = 0

        def read_on(self, *, is_overloaded: bool) -> bool:
            assert not is_overloaded
            Patient.read += 1
            return True

    room = bounds.WaitingRoom()
    for _ in range(held):
        room.hold(Patient())
    room._release()
    assert (Patient.read, len(room)) == (released, held - released)


async def test_claims_in_flight_are_bounded(settings: Settings) -> None:
    async with open_world(changed(settings, claims_in_flight_max=2)) as world:
        data = claim(world.open, world.bob)
        async with connections(world, 3) as wires:
            async with redis_held(settings):
                for wire in wires[:2]:
                    await wire.send(data)
                assert_overloaded(await wires[2].ask(data))
                assert world.served.front.limits.refused[bounds.CLAIMS] == 1
            assert [(await wire.answer()).status for wire in wires[:2]] == [200, 200]
            await wait_until(lambda: not world.served.front.limits.room.is_overloaded)
            assert (await wires[2].ask(data)).status == 200


async def test_requests_in_flight_are_bounded_and_probes_are_not(settings: Settings) -> None:
    async with open_world(changed(settings, requests_in_flight_max=1)) as world:
        data = claim(world.open, world.bob, query="?x=1")
        batch = orjson.dumps({"claims": [{"packet_id": world.sold_out, "user_id": "bob"}]})
        async with world.served.connected() as first:
            async with redis_held(settings):
                await first.send(data)
                await wait_until(lambda: world.served.front.in_flight == 1)
                for refused in (data, request("/v1/claims", world.backend, body=batch), request("/no/such/path")):
                    async with world.served.connected() as wire:
                        assert_overloaded(await wire.ask(refused))
                        assert_overloaded(await wire.ask(refused))
                assert_overloaded((await world.served.ask(request("/nothing", "connection: close")))[0], is_last=True)
                async with world.served.connected() as wire:
                    for probe in ("/livez", "/metrics", "/livez?x=1", "/%6civez"):
                        assert (await wire.ask(request(probe, method="GET"))).status == 200
                    assert (await wire.ask(claim(world.sold_out, world.bob))).status == 200  # which is no task
            assert (await first.answer()).status == 200
            assert world.served.front.limits.refused[bounds.REQUESTS] >= 7
            await wait_until(lambda: not world.served.server.server_state.tasks)
            assert (await first.ask(data)).status == 200


async def test_a_pipelined_request_too_many_is_refused_in_its_turn(settings: Settings) -> None:
    async with open_world(changed(settings, requests_in_flight_max=1)) as world:
        data = claim(world.open, world.bob, query="?x=1")
        async with world.served.connected() as wire:
            async with redis_held(settings):
                await wire.send(data + data)
            assert (await wire.answer()).status == 200
            assert_overloaded(await wire.answer())


async def test_a_connection_too_many_is_told_so(settings: Settings) -> None:
    async with open_world(changed(settings, connections_max=2)) as world:
        data = claim(world.sold_out, world.bob)
        async with connections(world, 2) as wires:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", world.served.port)
                writer.write(data)
                answer = await asyncio.wait_for(reader.read(), timeout=20)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nconnection: close\r\n" in answer
                assert b'"code":"overloaded"' in answer
                writer.close()
            assert world.served.front.limits.refused[bounds.CONNECTIONS] == 3
            assert [(await wire.ask(data)).status for wire in wires] == [200, 200]
        await wait_until(lambda: not world.served.connections(), what="the others' being gone")
        assert (await world.served.ask_one(data)).status == 200
        await wait_until(lambda: world.served.front.limits.turned_away == 0, what="nobody's being kept")


async def test_a_claim_of_who_was_turned_away_is_not_heard(settings: Settings) -> None:
    """Though claims like it are known, and so are answered without the parser, which is deaf there."""
    async with open_world(changed(settings, connections_max=1)) as world, world.served.connected() as wire:
        dora = world.served.authorized("dora")
        assert [(await wire.ask(claim(world.sold_out, dora))).status for _ in range(2)] == [200, 200]
        assert wire.there.known > 0
        reader, writer = await asyncio.open_connection("127.0.0.1", world.served.port)
        writer.write(claim(world.open, dora))
        answer = await asyncio.wait_for(reader.read(), timeout=20)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.count(b"HTTP/1.1") == 1
        writer.close()
        assert b'"outcome":"claimed"' in (await wire.ask(claim(world.open, dora))).body


async def test_those_turned_away_are_bounded_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(changed(settings, connections_max=1)) as world:
        world.served.front.limits.turned_away_max = 2
        async with world.served.connected():
            opened = [await asyncio.open_connection("127.0.0.1", world.served.port) for _ in range(5)]
            lengths = []
            for reader, _writer in opened:
                try:
                    lengths.append(len(await asyncio.wait_for(reader.read(), timeout=20)))
                except ConnectionResetError:
                    lengths.append(0)
            assert sum(length > 0 for length in lengths) == 2
            for _reader, writer in opened:
                writer.close()


async def test_refusals_are_counted_by_bound(narrow: World, settings: Settings) -> None:
    async with full_lane(narrow, settings, claim(narrow.open, narrow.bob)):
        await narrow.served.ask(claim(narrow.open, narrow.bob))
    text = (await narrow.served.ask_one(request("/metrics", method="GET"))).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith('hongbao_refusals_total{reason="claims_waiting"')]
    assert float(line.split()[-1]) >= 2
    assert 'status="503"' in text


def test_open_files_bound_the_connections(settings: Settings) -> None:
    limits = bounds.Limits(changed(settings, connections_max=10_000))
    assert limits.descriptors_for(10_000) == 11_200
    limits.fit(20_000)
    assert (limits.connections_max, limits.turned_away_max) == (10_000, 1_000)
    limits.fit(1_024)
    assert limits.descriptors_for(limits.connections_max) <= 1_024
    assert limits.connections_max > 700
    limits.fit(10)
    assert limits.connections_max == 1
