"""What one connection may take of the server: bytes before a request, time, memory."""

import asyncio
import gc
from collections.abc import AsyncIterator
from itertools import chain, repeat
from time import monotonic
from weakref import WeakSet

import orjson
import pytest
import uvloop
from structlog.testing import capture_logs

from api.wire import connection
from api.wire.connection import HEAD_BYTES_MAX, HEAD_S_MAX, HEADERS_MAX, UNREAD_S_MAX
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.served import Watched, World, held_bytes_max, open_world, redis_held
from tests.support.waiting import wait_until
from tests.support.wire import Wire, bytewise, claim, in_chunks, request, says_close

pytestmark = pytest.mark.long

LOOP_FACTORY = uvloop.new_event_loop
KEEP_ALIVE_S = 75
"""The setting's default."""
READ_BYTES_MAX = 256 * 1_024
"""As much is read from a socket at once."""
WAYS = pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])


class Clock:
    """The time by which connections are judged; it can be put forward."""

    ahead_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead_s


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_world(settings) as opened:
        yield opened


@pytest.fixture
def clock(world: World, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("api.wire.connection.monotonic", clock)
    monkeypatch.setattr("api.server.monotonic", clock)
    return clock


async def pass_time(world: World, clock: Clock, seconds: float) -> None:
    """Let the server have its look at the connections after so long."""
    clock.ahead_s += seconds
    await world.served.server.on_tick(0)


def assert_too_large(reply: Reply) -> None:
    assert (reply.status, orjson.loads(reply.body)["code"]) == (431, "head_too_large")
    assert dict(reply.headers)[b"content-type"] == b"application/problem+json"
    assert says_close(reply)


def claim_with_head(world: World, size: int, query: str) -> bytes:
    """A claim whose target and headers are so many bytes."""
    target = f"/v1/packets/{world.sold_out}/claims{query}"
    others = sum(map(len, (target, "host", "x", world.bob.replace(": ", "", 1), "x-filler")))
    return claim(world.sold_out, world.bob, f"x-filler: {'a' * (size - others)}", query=query)


def batch_for(world: World) -> bytes:
    return orjson.dumps({"claims": [{"packet_id": world.sold_out, "user_id": "bob"}]})


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


def too_many(wire: Wire[Watched], data: bytes) -> int:
    """More such requests than can be answered before the client reads: at most half, if an answer is no shorter."""
    return 2 * (held_bytes_max(wire) + 2 * READ_BYTES_MAX) // len(data)


@WAYS
@pytest.mark.parametrize("piece_size", [1_000_000, 65_536, 40_000, 1_000])
async def test_a_head_has_a_largest_size(world: World, query: str, piece_size: int) -> None:
    for size, status in ((HEAD_BYTES_MAX, 200), (HEAD_BYTES_MAX + 1, 431), (2 * HEAD_BYTES_MAX, 431)):
        data = claim_with_head(world, size, query)
        reply = await world.served.ask_one(*pieces_of(data, piece_size))
        assert reply.status == status, size
        if status == 431:
            assert_too_large(reply)


@WAYS
@pytest.mark.parametrize("is_dripped", [False, True], ids=["at once", "dripped"])
async def test_a_head_has_a_largest_number_of_headers(world: World, query: str, is_dripped: bool) -> None:
    for count, status in ((HEADERS_MAX, 200), (HEADERS_MAX + 1, 431)):
        data = claim(world.sold_out, world.bob, *(f"x-{number}: " for number in range(count - 2)), query=query)
        reply = await world.served.ask_one(*(bytewise(data) if is_dripped else [data]))
        assert reply.status == status
        if status == 431:
            assert_too_large(reply)


ENDLESS = {
    "target": (b"GET /", b"a" * 1_000),
    "header's name": (b"GET / HTTP/1.1\r\n", b"a" * 1_000),
    "header": (b"GET / HTTP/1.1\r\na: ", b"a" * 1_000),
    "headers": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 200),
    "trailer": (b"POST /v1/claims HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: ", b"a" * 1_000),
    "trailers": (b"POST /v1/claims HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 200),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_does_not_end_is_refused(world: World, name: str) -> None:
    start, more = ENDLESS[name]
    async with world.served.connected() as wire:
        for piece in chain([start], repeat(more, 1_000)):
            await wire.send(piece)
            if wire.there.transport.is_closing():
                break
        assert wire.there.arrived <= HEAD_BYTES_MAX + 4_096
        (reply,) = await wire.rest()
        assert_too_large(reply)


async def test_what_comes_before_a_head_that_is_too_large_is_answered_first(world: World) -> None:
    long_head = claim_with_head(world, HEAD_BYTES_MAX + 1, "")
    for before in (claim(world.open, world.bob), claim(world.sold_out, world.bob), request("/livez", method="GET")):
        for pieces in ([before * 3 + long_head], [before * 3, *pieces_of(long_head, 30_000)]):
            *answers, last = await world.served.ask(*pieces)
            assert [reply.status for reply in answers] == [200] * 3
            assert_too_large(last)


@WAYS
async def test_what_comes_after_no_request_is_not_read(world: World, settings: Settings, query: str) -> None:
    """While what came before it waits for its answer."""
    async with world.served.connected() as wire:
        async with redis_held(settings):
            data = claim(world.open, world.bob, query=query) + b"\0"
            await wire.send(data)
            await wire.send(*[b"more"] * 10)
            assert wire.there.arrived == len(data)
            assert wire.there.queued_max == 1
        await wait_until(lambda: not world.served.connections(), what="the connection being closed")


async def test_a_refused_connection_is_let_go(world: World) -> None:
    refused: WeakSet[Watched] = WeakSet()
    for data, status in ((claim_with_head(world, HEAD_BYTES_MAX + 1, ""), 431), (b"\0\r\n\r\n", 400)):
        for _ in range(5):
            async with world.served.connected() as wire:
                assert (await wire.ask(data)).status == status
                assert await wire.is_closed()
                refused.add(wire.there)
                del wire

    def are_gone() -> bool:
        gc.collect()
        return not refused

    await wait_until(are_gone, what="every one being collected")


async def test_a_head_must_come_in_time(world: World, clock: Clock) -> None:
    data = claim(world.sold_out, world.bob)
    async with world.served.connected() as slow, world.served.connected() as slower:
        for wire in (slow, slower):
            assert (await wire.ask(data)).status == 200
        await pass_time(world, clock, 2 * HEAD_S_MAX)  # which is no time before a head has begun
        for wire in (slow, slower):
            await wire.send(data[:10])
        await pass_time(world, clock, HEAD_S_MAX - 1)
        for wire in (slow, slower):
            await wire.send(data[10:20])
        await pass_time(world, clock, 0.5)
        await slow.send(data[20:])
        assert (await slow.answer()).status == 200
        await pass_time(world, clock, 1)
        assert await slower.is_closed()
        assert (await slow.ask(data)).status == 200


@pytest.mark.parametrize("kind", ["short", "long", "chunks"])
async def test_a_connection_that_asks_nothing_is_closed(world: World, clock: Clock, kind: str) -> None:
    data = {
        "short": claim(world.sold_out, world.bob),
        "long": claim(world.sold_out, world.bob, query="?x=1"),
        "chunks": request("/v1/claims", world.backend, "transfer-encoding: chunked") + in_chunks(batch_for(world)),
    }[kind]
    async with world.served.connected() as silent, world.served.connected() as asking:
        assert (await asking.ask(data)).status == 200
        await pass_time(world, clock, KEEP_ALIVE_S - 1)
        assert (await asking.ask(data)).status == 200
        await pass_time(world, clock, 2)
        assert await silent.is_closed()
        assert (await asking.ask(data)).status == 200
        await pass_time(world, clock, KEEP_ALIVE_S + 1)
        assert await asking.is_closed()


async def test_an_answer_before_does_not_hurry_the_next(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn has a timer of its own, which begins with an answer by the long way."""
    async with open_world(settings) as world:
        monkeypatch.setattr(world.served.server.config, "timeout_keep_alive", 0.5)
        async with world.served.connected() as wire:
            async with redis_held(settings):
                # Nothing comes between the two: on a slow machine the timer would end before the second is sent.
                await wire.ask(claim(world.sold_out, world.bob, query="?x=1"))
                await wire.send(claim(world.open, world.bob))
                answering = asyncio.create_task(wire.answer())
                answered, _ = await asyncio.wait({answering}, timeout=0.8)
                assert not answered
            assert (await answering).status == 200


@WAYS
async def test_who_waits_for_an_answer_is_not_quiet(world: World, clock: Clock, settings: Settings, query: str) -> None:
    """Nor with half of the next request sent."""
    data = claim(world.open, world.bob, query=query)
    async with world.served.connected() as wire:
        async with redis_held(settings):
            await wire.send(data, data, data[:10])
            await pass_time(world, clock, 10 * KEEP_ALIVE_S)
            assert world.served.front.in_flight == 1
        replies = [await wire.answer() for _ in range(2)]
        await wire.send(data[10:])
        assert [*replies, await wire.answer()] == [replies[0]] * 3
        assert replies[0].status == 200


@WAYS
async def test_a_client_that_does_not_read_is_not_read_from(
    world: World, clock: Clock, settings: Settings, query: str
) -> None:
    data = claim(world.sold_out, world.bob, query=query)
    async with world.served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        count = too_many(wire, data)
        wire.writer.write(data * count)
        there = wire.there
        await wait_until(lambda: there.flow.read_paused and there.flow.write_paused, what="both sides waiting")
        await pass_time(world, clock, UNREAD_S_MAX - 1)
        assert there.arrived < len(data) * count / 2
        assert there.queued_max <= READ_BYTES_MAX / len(data)
        assert there.transport.get_write_buffer_size() < 2 * READ_BYTES_MAX
        wire.read_on()
        replies = [await wire.answer() for _ in range(count)]
        assert replies == [replies[0]] * count
        assert replies[0].status == 200
    assert not there.flow.read_paused


async def test_answers_that_are_not_taken_are_not_piled_up(world: World) -> None:
    """Nor if each claim is answered before the next one comes."""
    data = claim(world.sold_out, world.bob)
    async with world.served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        there, asked, asked_max = wire.there, 0, too_many(wire, data)
        while not there.flow.read_paused:
            assert asked < asked_max
            await wire.send(data)
            asked += 1
        assert there.transport.get_write_buffer_size() < READ_BYTES_MAX
        assert all(there.were_taken[:100])
        wire.read_on()
        replies = [await wire.answer() for _ in range(asked)]
        assert replies == [replies[0]] * asked


@WAYS
async def test_a_client_that_never_reads_is_dropped(
    world: World, clock: Clock, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    data = claim(world.sold_out, world.bob, query=query)
    with capture_logs() as logs:
        async with world.served.connected(is_narrow=True) as wire:
            wire.stop_reading()
            wire.writer.write(data * too_many(wire, data))
            there = wire.there
            await wait_until(lambda: there.flow.read_paused and there.flow.write_paused, what="both sides waiting")
            await pass_time(world, clock, UNREAD_S_MAX + 1)
            await wait_until(lambda: there not in world.served.connections(), what="the connection being dropped")
        await wait_until(lambda: world.served.front.in_flight == 0, what="its request being over")
    assert (logs, caplog.records) == ([], [])


@pytest.mark.parametrize("kind", ["claim", "no body", "body", "chunks"])
async def test_what_is_read_before_it_can_be_answered_is_bounded(world: World, kind: str) -> None:
    """However fast a client sends."""
    batch = batch_for(world)
    data = {
        "claim": claim(world.sold_out, world.bob),
        "no body": claim(world.sold_out, world.bob, query="?x=1"),
        "body": request("/v1/claims", world.backend, body=batch),
        "chunks": request("/v1/claims", world.backend, "transfer-encoding: chunked") + in_chunks(batch),
    }[kind]
    count = 4_000
    async with world.served.connected() as wire:
        wire.writer.write(data * count)
        replies = [await wire.answer() for _ in range(count)]
        assert replies == [replies[0]] * count
        assert replies[0].status == 200
        assert wire.there.arrived == len(data) * count
        assert 0 < wire.there.queued_max <= READ_BYTES_MAX / len(data) + 1


async def test_the_bounds_of_time_are_looked_after(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server itself, within about a second."""
    monkeypatch.setattr(connection, "HEAD_S_MAX", 0.0)
    async with world.served.connected() as wire:
        await wire.send(b"GET ")
        assert await asyncio.wait_for(wire.is_closed(), timeout=20)
