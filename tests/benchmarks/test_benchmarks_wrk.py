"""wrk's output, and that the walks in Lua are the walks in Python."""

import json
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from benchmarks.clients.open_loop_client import requests
from benchmarks.parts.open_loop import problems as open_loop_problems
from benchmarks.parts.storms import repeats_within
from benchmarks.rig.http_connection import Connection, missing
from benchmarks.rig.load import LoadFailedError
from benchmarks.rig.shapes import POOL, Head, Shape, heads, request
from benchmarks.rig.walks import BatchWalk, Walk, claim_lua
from benchmarks.rig.wrk import parse
from engine.lanes.clients import command

PACKETS = tuple(f"10000{number:014d}" for number in range(8))
SUMMARY = {
    "requests": 3_000,
    "duration_us": 2_000_000,
    "bytes": 1,
    **dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0),
    "p50_us": 1_500,
    "p99_us": 9_000,
    "max_us": 20_000,
}


def output(**changes: int) -> str:
    """What wrk prints, with the line of the script's own in it."""
    lines = ["Running 2s test @ http://127.0.0.1:1", "  3000 requests in 2.00s", json.dumps({**SUMMARY, **changes})]
    return "\n".join(line.replace('{"requests": ', '{"requests":') for line in lines)


def test_the_summary_is_read() -> None:
    load = parse(output(), cpu_s=0.5)
    assert (load.requests, load.per_s, load.cpu_share) == (3_000, 1_500.0, 0.25)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (1.5, 9.0, 20.0)
    assert load.problems() == []


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_any_error_is_a_problem(kind: str) -> None:
    assert parse(output(**{kind: 1}), cpu_s=0.5).problems() == [f"1 {kind} errors"]


def test_a_generator_that_is_the_bottleneck_is_a_problem() -> None:
    (problem,) = parse(output(), cpu_s=1.9).problems()
    assert problem == "the load generator used 95% of a core, more than 90%"


def test_no_answer_is_a_problem() -> None:
    assert parse(output(requests=0), cpu_s=0.1).problems() == ["nothing was answered"]


def test_output_without_a_summary_is_refused() -> None:
    with pytest.raises(LoadFailedError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused", cpu_s=0.0)


async def requests_of(redis: Redis, script: str, count: int) -> list[str]:
    """What a wrk script asks for, found out by running it in Redis, which has no globals. The first call is a trial."""
    local = script.replace("function done", "local function done").replace("function request", "local function request")
    last = f"request()\nlocal made = {{}}\nfor i = 1, {count} do made[i] = request() end\nreturn made"
    made: list[bytes] = await command(redis, "EVAL", local + last, 0)
    return [sent.decode() for sent in made]


@pytest.mark.parametrize(
    "walk",
    [
        Walk(packets=PACKETS, hands=5),
        Walk(packets=PACKETS, hands=5, taps=2, at_once=4),
        Walk(packets=PACKETS, hands=3, at_once=8),
        Walk(packets=PACKETS[:1], hands=60_000),
    ],
)
@pytest.mark.parametrize("shape", Shape)
async def test_wrk_taps_as_the_walk_says(redis: Redis, walk: Walk, shape: Shape) -> None:
    first, end = 3, min(walk.length, 40)
    part = Walk(**{**{name: getattr(walk, name) for name in walk.__slots__}, "first": first, "end": end})
    made = await requests_of(redis, claim_lua(part, "secret", shape), end - first + 2)
    wanted = [*(walk.tap(index) for index in range(first, end)), walk.tap(first), walk.tap(first + 1)]
    for sent, (packet_id, user_id) in zip(made, wanted, strict=True):
        head, headers = read(sent)
        assert head == f"POST /v1/packets/{packet_id}/claims HTTP/1.1"
        assert headers["x-user-id"] == user_id
        assert headers["authorization"] == "Bearer secret"
        assert headers["content-length"] == "0"


def read(request: str) -> tuple[str, dict[str, str]]:
    """A request's first line and its headers, each of which it has once. It has no body."""
    top, *lines = request.removesuffix("\r\n\r\n").split("\r\n")
    assert request.endswith("\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    return top, {name.lower(): value for name, value in headers.items()}


def test_nothing_but_the_token_and_the_body_is_the_same_in_all_requests_of_a_gateway() -> None:
    pool = heads(Shape.GATEWAY, "secret")
    read_all = [read(request(PACKETS[0], "u1", head).decode())[1] for head in pool]
    for name in ("traceparent", "x-request-id"):
        assert len({headers[name] for headers in read_all}) == POOL, "each request has its own"
    assert len({headers["x-forwarded-for"] for headers in read_all}) > 0.9 * POOL
    assert len({headers["user-agent"] for headers in read_all}) > 50
    assert {headers["authorization"] for headers in read_all} == {"Bearer secret"}
    assert len({tuple(headers) for headers in read_all}) == 6, "orders"
    changes = sum(tuple(one) != tuple(two) for one, two in pairwise(read_all))
    assert changes > 0.7 * POOL, "the next request on a connection is of another client"


def test_bare_headers_are_always_the_same() -> None:
    assert heads(Shape.BARE, "secret") == (
        Head("Host: 127.0.0.1\r\nAuthorization: Bearer secret\r\nX-User-Id: ", "\r\nContent-Length: 0\r\n\r\n"),
    )


@pytest.mark.parametrize("shape", Shape)
async def test_our_own_generator_sends_what_wrk_sends(redis: Redis, shape: Shape) -> None:
    walk = Walk(packets=PACKETS, hands=5, first=3, end=30)
    orders = {"walk": asdict(walk), "shape": shape, "token": "secret"}
    by_wrk = await requests_of(redis, claim_lua(walk, "secret", shape), 40)
    assert [sent.decode() for sent in requests(orders, 40)] == by_wrk


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_every_hand_taps_every_packet_as_often_as_it_should(at_once: int) -> None:
    walk = Walk(packets=PACKETS, hands=5, taps=2, at_once=at_once)
    taps = [walk.tap(index) for index in range(walk.length)]
    assert len(taps) == 8 * 5 * 2
    assert all(taps.count(tap) == 2 for tap in taps)


@given(st.integers(0, 159), st.integers(0, 159), st.sampled_from([1, 2, 8]), st.integers(1, 10))
def test_repeats_are_the_second_taps_of_those_who_won(first: int, answers: int, at_once: int, shares: int) -> None:
    walk = Walk(packets=PACKETS, hands=10, taps=2, at_once=at_once)
    answers = min(answers, walk.length - first)
    seen: dict[str, list[str]] = {}
    repeats = 0
    for index in range(first + answers):
        packet_id, user_id = walk.tap(index)
        winners = seen.setdefault(packet_id, [])
        if user_id in winners:
            repeats += index >= first
        elif len(winners) < shares:
            winners.append(user_id)
    assert repeats_within(walk, first, answers, shares) == repeats


@pytest.mark.parametrize("hands_each", [1, 2, 4])
def test_batches_ask_for_every_share_once(hands_each: int) -> None:
    walk = BatchWalk(packets=PACKETS, hands=4, size=8, hands_each=hands_each)
    claims = [claim for index in range(walk.length) for claim in walk.claims(index)]
    assert len(claims) == len(set(claims)) == len(PACKETS) * 4
    assert all(len(walk.claims(index)) == 8 for index in range(walk.length))


def test_an_answer_is_whole_when_its_body_is() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for whole in (answer, answer.replace(b"Content-Length", b"content-length"), chunked):
        assert missing(whole) == 0
        assert all(missing(whole[:length]) != 0 for length in range(len(whole)))
    assert missing(answer[:-2]) == 2


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_connection_tells_of_each_answer_once_however_it_comes(size: int) -> None:
    right: list[bool] = []
    connection = Connection(lambda _, was_right: right.append(was_right), lambda: None)
    for status in (b"200 OK", b"503 Busy"):
        whole = b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nhello"
        connection.begin(1.0)
        for start in range(0, len(whole), size):
            connection.data_received(whole[start : start + size])
    assert right == [True, False]


def test_an_open_loop_counts_only_if_everything_was_answered_in_time() -> None:
    found = {"asked": 10, "answered": 10, "failed": 0, "cpu_s": 0.5}
    assert open_loop_problems(found, 1.0) == []
    assert open_loop_problems({**found, "answered": 9}, 1.0) == ["10 asked, 9 answered, 0 failed"]
    assert open_loop_problems({**found, "cpu_s": 0.95}, 1.0) == ["the generator used 95% of a core"]
