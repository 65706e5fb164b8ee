"""Connections that end while something is under way, by the client's will or by the server's."""

import asyncio
import logging
import signal
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial

import orjson
import pytest
import uvloop
from structlog.testing import capture_logs

from api.server import serve
from engine.access.tokens import issue, load_secret
from engine.engine import Engine
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.front import serving
from tests.support.scenes import changed, send
from tests.support.served import Watched, World, held_bytes_max, open_world, redis_held
from tests.support.waiting import wait_until
from tests.support.wire import Wire, claim, request, says_close

LOOP_FACTORY = uvloop.new_event_loop
QUEUES = {"short": ("",), "long": ("?x=1",), "short, long": ("", "?x=1"), "long, long": ("?x=1", "?x=1")}


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_world(settings) as opened:
        yield opened


async def fill(wire: Wire[Watched], data: bytes) -> None:
    """Ask until more waits to be written than the system could still take, and not yet so much that asking waits."""
    there, unwritten_min = wire.there, held_bytes_max(wire)
    while there.transport.get_write_buffer_size() < unwritten_min:
        await wire.send(data)
        await wait_until(lambda: there.cycle.response_complete, what="the answer being written")
        assert not there.flow.write_paused


def reset(wire: Wire[Watched]) -> None:
    """Have the client's end vanish without a word when it is closed."""
    there = wire.writer.get_extra_info("socket")
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def assert_all_is_over(world: World) -> None:
    served = world.served
    await wait_until(lambda: served.front.in_flight == 0, what="the claim being decided")
    await wait_until(lambda: not served.connections(), what="the connection being gone")
    await wait_until(lambda: not served.server.server_state.tasks, what="its tasks being done")
    reply = await served.ask_one(claim(world.open, served.authorized("ada")))
    assert orjson.loads(reply.body)["outcome"] == "already_claimed"
    assert served.front.in_flight == 0


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("name", QUEUES)
async def test_a_claim_stands_whose_client_is_gone(
    world: World, settings: Settings, caplog: pytest.LogCaptureFixture, name: str, is_reset: bool
) -> None:
    served = world.served
    requests = [claim(world.open, served.authorized("ada"), query=query) for query in QUEUES[name]]
    with capture_logs() as logs, caplog.at_level(logging.WARNING):
        async with redis_held(settings):
            async with served.connected() as wire:
                await wire.send(*requests)
                await wait_until(lambda: served.front.in_flight == 1, what="the claim being under way")
                if is_reset:
                    reset(wire)
            if len(requests) == 1:  # else nothing is read meanwhile, and nobody notices
                await wait_until(lambda: not served.connections(), what="the server noticing")
        await assert_all_is_over(world)
    assert (logs, caplog.records) == ([], [])


@pytest.mark.parametrize("name", QUEUES)
async def test_a_claim_stands_whose_client_is_gone_with_an_answer_it_has_not_taken(
    world: World, settings: Settings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The server notices then, whatever waits."""
    served = world.served
    requests = [claim(world.open, served.authorized("ada"), query=query) for query in QUEUES[name]]
    with capture_logs() as logs, caplog.at_level(logging.WARNING):
        async with redis_held(settings):
            async with served.connected(is_narrow=True) as wire:
                wire.stop_reading()
                await fill(wire, claim(world.sold_out, world.bob))
                await wire.send(*requests)
                await wait_until(lambda: served.front.in_flight == 1, what="the claim being under way")
                reset(wire)
            await wait_until(lambda: not served.connections(), what="the server noticing")
        await assert_all_is_over(world)
    assert (logs, caplog.records) == ([], [])


async def test_what_a_gone_client_had_queued_is_not_begun(world: World, settings: Settings) -> None:
    served = world.served
    async with redis_held(settings), served.connected() as wire:
        await wire.send(claim(world.open, served.authorized("ada")), claim(world.open, served.authorized("dan")))
        await wait_until(lambda: wire.there.queued_max == 1, what="the second claim waiting")
        wire.there.transport.abort()
        await wait_until(lambda: not served.connections(), what="the connection being gone")
    await assert_all_is_over(world)
    reply = await served.ask_one(claim(world.open, served.authorized("dan")))
    assert orjson.loads(reply.body)["outcome"] == "claimed"


@pytest.mark.parametrize("name", QUEUES)
async def test_a_stop_answers_what_has_been_read_and_says_that_it_is_the_last(
    world: World, settings: Settings, name: str
) -> None:
    served = world.served
    requests = [claim(world.open, world.bob, query=query) for query in QUEUES[name]]
    async with served.connected() as wire, served.connected() as idle:
        async with redis_held(settings):
            await wire.send(*requests)
            await wait_until(lambda: served.front.in_flight == 1, what="the claim being under way")
            served.server.should_exit = True
            assert await idle.is_closed()
            assert served.connections() == {wire.there}
        replies = await wire.rest()
        assert [(reply.status, says_close(reply)) for reply in replies] == [
            *((200, False) for _ in requests[1:]),
            (200, True),
        ]
        assert len({without_connection(reply) for reply in replies}) == 1
    await asyncio.wait_for(served.task, timeout=20)


def without_connection(reply: Reply) -> Reply:
    named = (b"connection", b"keep-alive")
    return reply._replace(headers=tuple(header for header in reply.headers if header[0] not in named))


@pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])
async def test_a_stop_does_not_wait_for_ever(
    settings: Settings, port: int, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """And says so. The process itself, stopped by a signal."""
    monkeypatch.setattr("api.server.STOP_S_MAX", 0.3)
    monkeypatch.setattr("api.app.DRAIN_S", 0.1)
    monkeypatch.setattr("api.server._spare_the_collector", lambda: None)  # this process has other tests to run
    settings, ready = changed(settings, port=port, redis_timeout_s=1.0), asyncio.Event()
    line = f"authorization: Bearer {issue(load_secret(settings), 'bob', ('claim',), 3_600)}"
    async with Engine.open(settings) as engine:
        packet_id = (await send(engine)).packet_id
    with capture_logs() as logs:
        task = asyncio.create_task(serve(settings, ready.set))
        await ready.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", settings.port)
        writer.write(claim(packet_id, line))  # so that the token is known
        await reader.readuntil(b'"user_id":"bob"}')
        async with redis_held(settings):
            writer.write(claim(packet_id, line, query=query) + request("/livez", method="GET"))
            await asyncio.sleep(0)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.wait_for(task, timeout=20)
        # A task is cancelled, a claim on its short way is answered when Redis has not.
        assert (await reader.read()).startswith(b"HTTP/1.1 500" if query else b"HTTP/1.1 503")
        writer.close()
    warnings = [log["event"] for log in logs if log["log_level"] == "warning"]
    assert warnings == ["stopped before every request was answered"]
    assert logs[-1]["event"] == "stopped"


async def test_who_is_told_to_stop_as_soon_as_it_serves_stops(
    settings: Settings, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server._spare_the_collector", lambda: None)
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("nobody was there to be told"))
    try:
        ready = partial(signal.raise_signal, signal.SIGTERM)
        await asyncio.wait_for(serve(changed(settings, port=port), ready), timeout=10)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == []


async def test_impatience_takes_no_answer_away(world: World, settings: Settings) -> None:
    served = world.served
    async with served.connected() as wire:
        async with redis_held(settings):
            await wire.send(claim(world.open, world.bob))
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
            ended, _ = await asyncio.wait({served.task}, timeout=0.5)
            assert not ended
        (reply,) = await wire.rest()
        assert (reply.status, says_close(reply)) == (200, True)
    await asyncio.wait_for(served.task, timeout=20)


@pytest.mark.parametrize("numbers", [(signal.SIGINT,) * 2, (signal.SIGTERM,) * 2, (signal.SIGTERM, signal.SIGINT)])
async def test_being_told_twice_to_stop_is_as_once(settings: Settings, numbers: tuple[signal.Signals, ...]) -> None:
    async with serving(settings) as (client, process):
        packet_id = await client.send("alice", total_fen=10_000, count=10)
        port = client.http.base_url.port
        assert port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            line = f"authorization: {client.as_user('bob')['authorization']}"
            data = claim(packet_id, line)
            writer.write(data * 2)  # so that the second finds the token known
            for _ in range(2):
                await reader.readuntil(b'"user_id":"bob"}')
            async with redis_held(settings):
                writer.write(data)
                for number in numbers:
                    process.send_signal(number)

                    async def is_closed() -> bool:
                        try:
                            _, knocking = await asyncio.open_connection("127.0.0.1", port)
                        except OSError:
                            return True
                        knocking.close()
                        return False

                    await wait_until(is_closed, what="the door being closed")
                assert process.returncode is None
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nconnection: close\r\n" in answer
            assert await asyncio.wait_for(process.wait(), timeout=10) == 0
            errors = process.said()
            assert '"event":"stopped"' in errors
            assert "warning" not in errors
        finally:
            writer.close()
