"""Connections on real sockets: whatever comes in whatever packets is answered in order, once, by either way alike."""

from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import orjson
import pytest
import uvloop
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from engine.ids import new_packet_number
from engine.settings import Settings
from tests.support.both_ways import Reply, Run, in_a_thread
from tests.support.served import World, open_world
from tests.support.wire import bytewise, claim, in_chunks, request, says_close

LOOP_FACTORY = uvloop.new_event_loop
GARBAGE = {
    "not HTTP": b"\0\1\2\r\n\r\n",
    "unknown method": b"CLAIM / HTTP/1.1\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tunnel": b"CONNECT /livez HTTP/1.1\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "bytes in the target": b"GET /\xff HTTP/1.1\r\n\r\n",
    "space before a colon": b"GET /livez HTTP/1.1\r\nhost : x\r\n\r\n",
    "folded header": b"GET /livez HTTP/1.1\r\nhost: x\r\n y\r\n\r\n",
    "two lengths": b"POST /v1/claims HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "length and chunks": b"POST /v1/claims HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    "broken chunk": b"POST /v1/claims HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
}


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_world(settings) as opened:
        yield opened


def stable_requests(world: World) -> dict[str, bytes]:
    """Requests that are answered alike however often they are asked."""
    batch = orjson.dumps({"claims": [{"packet_id": world.sold_out, "user_id": user} for user in ("bob", "eve")]})
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")
    chunks = ("transfer-encoding: chunked", world.backend)
    return {
        "remembered": claim(world.sold_out, world.bob),
        "remembered, for eve": claim(world.sold_out, world.backend, "x-user-id: eve"),
        "repeated": claim(world.open, world.bob),
        "not invited": claim(world.for_others, world.bob),
        "unknown": claim(new_packet_number(0), world.bob),
        "no packet number": claim("1", world.bob),
        "by the long way": claim(world.sold_out, world.bob, query="?x=1"),
        "no token": claim(world.sold_out),
        "nothing to expect": claim(world.sold_out, world.bob, "expect: 100-continue"),
        "in capitals": claim(world.sold_out, world.bob.replace("authorization", "AUTHORIZATION")),
        "in capitals, long": claim(world.sold_out, world.bob.replace("a", "A", 1), query="?x=1"),
        "empty body": claim(world.sold_out, world.bob, "content-length: 0"),
        "body for nobody": request(f"/v1/packets/{world.sold_out}/claims", world.bob, body=b"{}"),
        "absolute": request(f"http://x/v1/packets/{world.sold_out}/claims", world.bob),
        "look": request(f"/v1/packets/{world.sold_out}", world.bob, method="GET"),
        "wrong method": request("/v1/claims", method="GET"),
        "alive": request("/livez", method="GET"),
        "nowhere": request("/nowhere", method="GET"),
        "batch": request("/v1/claims", world.backend, body=batch),
        "chunks": request("/v1/claims", *chunks) + in_chunks(batch[:7], batch[7:]),
        "trailers": request("/v1/claims", *chunks) + in_chunks(batch, trailer=f"{world.bob}\r\nx-a: b\r\n".encode()),
        "refused body": request("/v1/claims", body=batch),
        "expected body": request("/v1/claims", world.backend, "expect: 100-continue", body=batch),
        "upgrade": request("/livez", *upgrade, method="GET"),
        "upgraded claim": claim(world.sold_out, world.bob, *upgrade),
        "upgrade with a body": request("/v1/claims", world.backend, *upgrade, body=batch),
        "upgrade with chunks": request("/v1/claims", *chunks, *upgrade) + in_chunks(batch),
    }


def last_requests(world: World) -> dict[str, bytes]:
    """Requests that are the last of their connection."""
    target = f"/v1/packets/{world.sold_out}/claims"
    return {
        "close": claim(world.sold_out, world.bob, "connection: close"),
        "close by the long way": claim(world.sold_out, world.bob, "connection: close", query="?x=1"),
        "HTTP/1.0": request(target, world.bob, version="1.0"),
        "HTTP/1.0, kept alive": request(target, world.bob, "connection: keep-alive", version="1.0"),
        **GARBAGE,
    }


async def answers_to_each(world: World) -> dict[str, list[Reply]]:
    """What each request is told that comes alone and whole."""
    requests = stable_requests(world) | last_requests(world)
    return {name: await world.served.ask(data) for name, data in requests.items()}


async def test_each_request_alone_is_answered_as_it_should_be(world: World) -> None:
    answers = await answers_to_each(world)
    told = {name: tuple(reply.status for reply in replies) for name, replies in answers.items()}
    assert told == {
        **dict.fromkeys(told, (200,)),
        **dict.fromkeys(GARBAGE, (400,)),
        **dict.fromkeys(("unknown", "no packet number", "nowhere"), (404,)),
        **dict.fromkeys(("no token", "refused body"), (401,)),
        "not invited": (403,),
        "wrong method": (405,),
        "expected body": (100, 200),
    }
    alike = ("in capitals", "in capitals, long", "empty body", "nothing to expect", "absolute", "body for nobody")
    for name in (*alike, "by the long way", "upgraded claim"):
        assert answers[name] == answers["remembered"], name
    for name in ("chunks", "trailers", "upgrade with a body", "upgrade with chunks"):
        assert answers[name] == answers["batch"], name
    assert answers["expected body"] == [Reply(100, (), b""), *answers["batch"]]
    assert answers["upgrade"] == answers["alive"]
    for name in ("close by the long way", "HTTP/1.0", "HTTP/1.0, kept alive"):
        assert answers[name] == answers["close"], name
    for name, (*_, reply) in answers.items():
        assert says_close(reply) == (name in last_requests(world)), name
        if reply.status == 400:
            assert dict(reply.headers)[b"content-type"] == b"application/problem+json"
            assert orjson.loads(reply.body)["code"] == "malformed"


@pytest.mark.parametrize("target", [b"/\xff", "/v1/wallets/恭".encode(), b"/v1/alerts?after=\xe6\x81\xad"])
async def test_raw_bytes_in_a_target_name_the_target(world: World, target: bytes) -> None:
    reply = await world.served.ask_one(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert reply.status == 400
    assert [error["field"] for error in orjson.loads(reply.body)["errors"]] == ["target"]


async def test_both_ways_write_the_same_bytes(world: World) -> None:
    """One after the other on one connection, so that each way also follows the other."""
    unknown = new_packet_number(0)
    cases = [
        *((packet_id, (world.bob,), True) for packet_id in (world.sold_out, world.open, world.for_others, unknown)),
        (world.sold_out, (world.backend, "x-user-id: eve"), True),
        (world.sold_out, (world.backend,), False),
        (world.sold_out, (world.bob, "x-user-id: eve"), False),
        (world.sold_out, ("authorization: Bearer x",), False),
        ("1", (world.bob,), False),
    ]
    async with world.served.connected() as wire:
        for packet_id, lines, is_plain in cases:
            short = await wire.ask(claim(packet_id, *lines))
            assert short == await wire.ask(claim(packet_id, *lines, query="?x=1"))
            assert short == await wire.ask(claim(packet_id, *lines))
            assert wire.there.were_taken[-3:] == [is_plain, False, is_plain]
        assert short.status == 404


async def test_an_answer_to_head_has_no_body(world: World) -> None:
    async with world.served.connected() as wire:
        await wire.send(request("/livez", method="HEAD") + claim(world.sold_out, world.bob))
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (await wire.answer()).body.startswith(b'{"outcome":"already_claimed"')


@pytest.mark.parametrize("chunk_size", [100, 1_000, 150_000])
async def test_a_long_body_in_chunks_is_not_taken_for_a_long_head(world: World, chunk_size: int) -> None:
    requests, answers = stable_requests(world), await answers_to_each(world)
    body = requests["batch"].partition(b"\r\n\r\n")[2] + b" " * 150_000
    chunks = in_chunks(*(body[place : place + chunk_size] for place in range(0, len(body), chunk_size)))
    data = request("/v1/claims", world.backend, "transfer-encoding: chunked") + chunks
    pieces = [data[place : place + 5_003] for place in range(0, len(data), 5_003)]
    async with world.served.connected() as wire:
        assert await wire.ask(*pieces) == answers["batch"][0]
        assert await wire.ask(requests["remembered"]) == answers["remembered"][0]


@pytest.mark.parametrize("pieces", ["together", "one by one", "byte by byte"])
async def test_claims_that_come_together_are_each_made_once_and_answered_in_order(world: World, pieces: str) -> None:
    users = [f"user{number}" for number in range(20 if pieces == "byte by byte" else 400)]
    requests = [claim(world.open, world.backend, f"x-user-id: {user}") for user in users]
    together = b"".join(requests)
    packets = {"together": [together], "one by one": requests, "byte by byte": bytewise(together)}[pieces]
    async with world.served.connected() as wire:
        await wire.send(*packets)
        answers = [orjson.loads((await wire.answer()).body) for _ in users]
        assert any(wire.there.were_taken)
    assert [(answer["user_id"], answer["outcome"]) for answer in answers] == [(user, "claimed") for user in users]
    assert world.served.front.in_flight == 0


async def test_short_and_long_ways_take_turns(world: World) -> None:
    """Claims that wait for Redis, that are known, and that go the long way, twenty times around in one packet."""
    names = ["repeated", "by the long way", "remembered", "batch", "not invited", "alive", "remembered", "unknown"] * 20
    requests, answers = stable_requests(world), await answers_to_each(world)
    async with world.served.connected() as wire:
        await wire.send(b"".join(requests[name] for name in names))
        for name in names:
            assert await wire.answer() == answers[name][0], name


@pytest.mark.long
async def test_any_split_of_two_requests_is_read_alike(world: World) -> None:
    """Split in two at every byte."""
    requests, answers = stable_requests(world), await answers_to_each(world)
    for names in (("remembered", "batch"), ("upgrade with chunks", "repeated")):
        data = b"".join(requests[name] for name in names)
        async with world.served.connected() as wire:
            for place in range(1, len(data)):
                await wire.send(data[:place], data[place:])
                assert [await wire.answer() for _ in names] == [answers[name][0] for name in names], place


async def test_what_ends_a_connection_waits_for_the_answers_to_what_came_before(world: World) -> None:
    stable, last, answers = stable_requests(world), last_requests(world), await answers_to_each(world)
    for end in last:
        for before in (["remembered"], ["repeated"], ["batch"], ["repeated", "remembered", "by the long way"]):
            requests = [(stable | last)[name] for name in (*before, end)]
            expected = [reply for name in (*before, end) for reply in answers[name]]
            assert await world.served.ask(b"".join(requests)) == expected, (before, end)
            assert await world.served.ask(*requests) == expected, (before, end)


@pytest.mark.long
async def test_any_requests_in_any_packets_are_answered_as_one_by_one(world: World) -> None:
    stable, last, answers = stable_requests(world), last_requests(world), await answers_to_each(world)
    seen: Counter[str] = Counter()

    async def check(names: list[str], cuts: list[float], how: str) -> None:
        requests = [(stable | last)[name] for name in names]
        data = b"".join(requests)
        places = [0, *sorted({int(cut * len(data)) for cut in cuts} - {0}), len(data)]
        cut = [data[begin:end] for begin, end in pairwise(places)]
        replies = await world.served.ask(*{"bytewise": bytewise(data), "one by one": requests}.get(how, cut))
        assert replies == [reply for name in names for reply in answers[name]]
        seen.update(names)

    def examples(run: Run) -> None:
        @with_settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            names=st.lists(st.sampled_from([*sorted(stable), "remembered", "repeated"]), max_size=8),
            end=st.sampled_from([None, *sorted(last)]),
            cuts=st.lists(st.floats(0, 0.999), max_size=6),
            how=st.sampled_from(["cut"] * 6 + ["one by one"] * 3 + ["bytewise"]),
        )
        def example(names: list[str], end: str | None, cuts: list[float], how: str) -> None:
            if names or end:
                run(check([*names, *([end] if end else [])], cuts, how))

        example()

    for number, name in enumerate(sorted(stable)):  # each at least once, whatever the examples are
        end = sorted(last)[number % len(last)]
        await check([name, "remembered", name, end], [0.3, 0.7], "cut")
        await check([name, "remembered", name, end], [], "one by one")
    await in_a_thread(examples)
    assert seen.keys() == stable.keys() | last.keys()
    assert await world.served.front.drained(20)
