"""How long a connection is kept without a request, and that each answer says so, unless it is the last one."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import orjson
import pytest
import uvloop
from pydantic import ValidationError

from api.wire.connection import HEAD_BYTES_MAX, UNREAD_S_MAX
from api.wire.keep_alive import keep_alive_header
from engine.settings import Settings
from tests.support.both_ways import Reply
from tests.support.scenes import changed
from tests.support.served import Watched, World, open_world, redis_held
from tests.support.waiting import wait_until
from tests.support.wire import Wire, claim, request, says_close

LOOP_FACTORY = uvloop.new_event_loop
KEPT_S = 10
WAYS = pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_world(changed(settings, keep_alive_s=KEPT_S)) as opened:
        yield opened


def told(reply: Reply) -> list[bytes]:
    """What an answer says of its connection."""
    return [value for name, value in reply.headers if name in (b"keep-alive", b"connection")]


def look(world: World, seconds: float) -> None:
    """Have the server look at its connections as if so much time had passed."""
    for connection in world.served.connections():
        connection.close_if_quiet(monotonic() + seconds)


@pytest.mark.parametrize(
    ("kept_s", "said_s"), [(2, 1), (3, 2), (9, 5), (10, 5), (11, 6), (75, 70), (620, 615), (3_600, 3_595)]
)
def test_clients_are_told_less_than_a_connection_is_kept(kept_s: int, said_s: int) -> None:
    assert keep_alive_header(kept_s) == (b"keep-alive", f"timeout={said_s}".encode())


@pytest.mark.parametrize("kept_s", [0, 1, 3_601])
def test_the_setting_has_bounds(settings: Settings, kept_s: int) -> None:
    with pytest.raises(ValidationError):
        changed(settings, keep_alive_s=kept_s)
    assert settings.keep_alive_s == 75


async def test_every_kind_of_answer_says_how_long(world: World) -> None:
    batch = orjson.dumps({"claims": [{"packet_id": world.sold_out, "user_id": "bob"}]})
    asked = {
        "claim, remembered": (claim(world.sold_out, world.bob), 200),
        "claim": (claim(world.open, world.bob), 200),
        "claim, by the long way": (claim(world.open, world.bob, query="?x=1"), 200),
        "claim, refused": (claim(world.for_others, world.bob), 403),
        "claim, refused by the long way": (claim(world.for_others, world.bob, query="?x=1"), 403),
        "claim, no such packet": (claim("10" + "0" * 17, world.bob), 404),
        "batch": (request("/v1/claims", world.backend, body=batch), 200),
        "batch that is none": (request("/v1/claims", world.backend, body=b"{"), 400),
        "probe": (request("/livez", method="GET"), 200),
        "forged token": (request("/v1/wallets/bob", "authorization: Bearer x", method="GET"), 401),
        "no such path": (request("/no/such/path", method="GET"), 404),
        "other method": (request("/livez", method="DELETE"), 405),
    }
    async with world.served.connected() as wire:
        for kind, (data, status) in asked.items():
            for _ in range(2):  # one that was not asked before, and one that was
                reply = await wire.ask(data)
                assert (reply.status, told(reply)) == (status, [b"timeout=5"]), kind
        await wire.send(request("/livez", method="HEAD"))
        assert b"\r\nkeep-alive: timeout=5\r\n" in await wire.reader.readuntil(b"\r\n\r\n")


REFUSALS = [
    ("claims_in_flight_max", "", 503),
    ("requests_in_flight_max", "?x=1", 503),
    ("claims_per_user_max", "", 429),
    ("claims_per_address_max", "", 429),
]


@pytest.mark.parametrize(("bound", "query", "status"), REFUSALS, ids=[bound for bound, *_ in REFUSALS])
async def test_so_does_every_refusal(settings: Settings, bound: str, query: str, status: int) -> None:
    settings = changed(settings, keep_alive_s=KEPT_S, **{bound: 1})
    async with (
        open_world(settings) as world,
        world.served.connected() as first,
        world.served.connected() as second,
    ):
        data = claim(world.open, world.bob, query=query)
        async with redis_held(settings):
            await first.send(data)
            await wait_until(lambda: world.served.front.in_flight == 1, what="the first claim being under way")
            refused = await second.ask(data)
        assert (refused.status, told(refused)) == (status, [b"timeout=5"])
        assert told(await first.answer()) == [b"timeout=5"]


@pytest.mark.parametrize("kind", ["asked", "asked, long", "1.0", "1.0 kept", "not HTTP", "head", "body"])
async def test_the_last_answer_does_not_say_it(world: World, kind: str) -> None:
    data = {
        "asked": claim(world.open, world.bob, "connection: close"),
        "asked, long": claim(world.open, world.bob, "connection: close", query="?x=1"),
        "1.0": request("/livez", method="GET", version="1.0"),
        "1.0 kept": request("/livez", "connection: keep-alive", method="GET", version="1.0"),
        "not HTTP": b"\0\r\n\r\n",
        "head": request("/livez", f"x: {'a' * HEAD_BYTES_MAX}", method="GET"),
        "body": request("/v1/claims", world.backend, f"content-length: {10**9}") + b"x",
    }[kind]
    async with world.served.connected() as wire:
        assert told(await wire.ask(data)) == [b"close"]


async def test_nor_does_the_answer_to_one_too_many(settings: Settings) -> None:
    async with open_world(changed(settings, connections_max=1)) as world, world.served.connected():
        reader, writer = await asyncio.open_connection("127.0.0.1", world.served.port)
        answer = await asyncio.wait_for(reader.read(), timeout=20)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nconnection: close\r\n" in answer
        assert b"keep-alive" not in answer


@WAYS
async def test_nor_does_an_answer_that_a_stop_makes_the_last(world: World, settings: Settings, query: str) -> None:
    """Also if it was begun before, when nobody knew that it would be."""
    async with world.served.connected() as wire:
        async with redis_held(settings):
            await wire.send(claim(world.open, world.bob, query=query))
            await wait_until(lambda: world.served.front.in_flight == 1, what="the claim being under way")
            world.served.server.should_exit = True
            await wait_until(lambda: wire.there._is_stopping, what="the connection being told")
        (reply,) = await wire.rest()
        assert (reply.status, told(reply)) == (200, [b"close"])
        assert says_close(reply)


@WAYS
async def test_a_silent_connection_is_kept_so_long_and_no_longer(world: World, query: str) -> None:
    data = claim(world.sold_out, world.bob, query=query)
    async with world.served.connected() as wire, world.served.connected() as new:
        assert (await wire.ask(data)).status == 200
        look(world, KEPT_S - 1)
        assert (await wire.ask(data)).status == 200
        look(world, KEPT_S + 1)
        assert await wire.is_closed()
        assert await new.is_closed()


@pytest.mark.long
async def test_the_server_closes_it_by_itself(settings: Settings) -> None:
    """After the time that is set, by a clock that nobody moves."""
    async with open_world(changed(settings, keep_alive_s=2)) as world, world.served.connected() as wire:
        assert told(await wire.ask(request("/livez", method="GET"))) == [b"timeout=1"]
        began_s = monotonic()
        assert await asyncio.wait_for(wire.is_closed(), timeout=20)
        assert monotonic() - began_s > 1.9


async def unread(wire: Wire[Watched], data: bytes) -> None:
    """Send while the server has no turn to read it, as on a busy machine."""
    wire.there.transport.pause_reading()
    wire.writer.write(data)
    await wait_until(lambda: wire.there.flow.unread == len(data), what="the request lying there")


@WAYS
async def test_a_request_that_was_not_read_yet_keeps_the_connection(world: World, query: str) -> None:
    data = claim(world.sold_out, world.bob, query=query)
    async with world.served.connected() as wire:
        assert (await wire.ask(data)).status == 200
        await unread(wire, data)
        look(world, KEPT_S + 1)
        wire.there.timeout_keep_alive_handler()
        wire.there.transport.resume_reading()
        assert (await wire.answer()).status == 200


async def test_a_long_time_is_not_for_clients_that_do_not_read(settings: Settings) -> None:
    async with open_world(changed(settings, keep_alive_s=3_600)) as world, world.served.connected() as idle:
        assert told(await idle.ask(request("/livez", method="GET"))) == [b"timeout=3595"]
        async with world.served.connected(is_narrow=True) as wire:
            wire.stop_reading()
            wire.writer.write(claim(world.sold_out, world.bob) * 10_000)
            there = wire.there
            await wait_until(lambda: there.flow.write_paused, what="the server waiting")
            look(world, UNREAD_S_MAX + 1)
            await wait_until(lambda: there not in world.served.connections(), what="the connection being dropped")
        assert (await idle.ask(request("/livez", method="GET"))).status == 200
