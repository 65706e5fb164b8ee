"""What is taken unparsed for a claim like one before it is what a parser takes it for."""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator

import httptools
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from api.wire.connection import READINGS_MAX
from api.wire.layouts import (
    ALIKE_MAX,
    FORGET_S,
    LAYOUTS_MAX,
    PLAIN_BYTES_MAX,
    Layout,
    Layouts,
    is_whole,
    layout_of,
    names_in,
    token_in,
)
from engine.ids import is_packet_number, is_user_id, new_packet_number, user_id_in
from engine.settings import Settings
from tests.support.served import Watched, World, open_world
from tests.support.wire import Wire, claim, request, says_close

PACKETS = ("1000012345678901234", "1000098765432109876")
LINES = (
    *("authorization: Bearer a.b.c", "AUTHORIZATION:Bearer a.b.c", "connection: keep-alive", "x-user-id: bob"),
    *("host: x", "Host: 127.0.0.1:8080", "accept: */*", "Accept-Encoding: gzip, br", "content-length: 0", "x:y"),
    *("X-User-Id: bob", "x-user-id: bob", "x-user-id:bob", "authorization: Bearer a.b.c", "AUTHORIZATION:Bearer a.b.c"),
    *("cookie: x-user-id: eve", "x-user-ids: bob", "user-agent: a  b", "content-type: application/json"),
)
ODD_LINES = (
    *("x-user-id:  bob", "x-user-id: bob ", "x-user-id:\tbob", "x-user-id: ", "x-user-id: a b", "x-user-id : bob"),
    *("content-length: 1", "content-length: 00", "transfer-encoding: chunked", "transfer-encoding: identity"),
    *("connection: close", "Connection: keep-alive", "upgrade: h2c", "expect: 100-continue", "proxy-connection: close"),
    *(" folded", "\tfolded", "no colon", ": no name", "na me: x", "name: \x01", "name: \xff", "x: y\nx-user-id: eve"),
)
SPLICES = (b"", b"\r", b"\n", b"\r\n", b" ", b":", b"0", b"bob", b"eve", b"\0", b"\xff", b"\r\nx-user-id: eve", b"x")


class Parsed:
    """What a parser makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.begun = self.complete = 0
        self.has_body = False
        self.start: tuple[bytes, str, bool] | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_message_complete(self) -> None:
        self.complete += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self.start = (parser.get_method(), parser.get_http_version(), parser.should_keep_alive())

    def on_body(self, _body: bytes) -> None:
        self.has_body = True


def head(packet_id: str, lines: list[str]) -> bytes:
    return "\r\n".join((f"POST /v1/packets/{packet_id}/claims HTTP/1.1", *lines, "", "")).encode("latin-1")


# Made once: hypothesis examines every strategy that it has not seen before, which would take as long as all the rest.
LINE_LISTS = st.lists(st.sampled_from(LINES), max_size=4, unique_by=lambda line: line.lower().partition(":")[0])
ODD_LISTS = st.lists(st.sampled_from(ODD_LINES), max_size=1)
IN_FOUR, PLACES = st.integers(0, 3), st.floats(0, 1)
SPLICED: st.SearchStrategy[list[tuple[float, float, bytes]]] = st.just([]) | st.lists(
    st.tuples(PLACES, st.just(0.0) | PLACES, st.sampled_from(SPLICES)), max_size=2
)
USERS = st.sampled_from(["bob", "eve", "a:b@c._-", "x" * 64, "x" * 65, "", "a b", "é", "bob\r\n"])
CHANGES = st.tuples(st.sampled_from([*PACKETS, "1", "x" * 19]), USERS, SPLICED)
"""Another packet, another user, and up to two places where something else is."""


@st.composite
def heads(draw: st.DrawFn) -> list[str]:
    lines = draw(LINE_LISTS)
    odd = draw(ODD_LISTS) if draw(IN_FOUR) == 0 else []
    return draw(st.permutations([*lines, *odd]))


def changed(data: bytes, change: tuple[str, str, list[tuple[float, float, bytes]]]) -> bytes:
    packet_id, user, splices = change
    data = data.replace(PACKETS[0].encode(), packet_id.encode()).replace(b"bob", user.encode("latin-1"))
    for begin, length, instead in splices:
        place = round(begin * len(data))
        data = data[:place] + instead + data[place + round(length * 20) :]
    return data


@pytest.mark.long
async def test_what_a_layout_takes_is_what_the_parser_takes_it_for() -> None:
    seen: Counter[str] = Counter()

    @with_settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(lines=heads(), change=CHANGES)
    @example(lines=["x-user-id: bob", "authorization: Bearer a.b.c"], change=(PACKETS[1], "eve", []))
    @example(lines=["authorization: Bearer a.b.c", "host: x"], change=(PACKETS[1], "bob", []))
    def check(lines: list[str], change: tuple[str, str, list[tuple[float, float, bytes]]]) -> None:
        data = head(PACKETS[0], lines)
        names = names_in(data)
        if names is None:
            seen["no layout"] += 1
            return
        before = Parsed(data)
        assert (before.begun, before.complete, before.has_body) == (1, 1, False)
        assert before.start == (b"POST", "1.1", True)
        assert is_whole(data)
        layout = layout_of(names)
        taken = read(layout, data)
        user = dict(before.headers).get(b"x-user-id")
        if user is None or user_id_in(user):
            assert taken == (PACKETS[0].encode(), b"a.b.c", user)
        other = changed(data, change)
        taken = read(layout, other)
        if taken is None or re.search(rb"[^\x21-\x7e]", taken[1]):  # no token that was verified before has one
            seen["not taken"] += 1
            return
        seen["taken, changed" if other != data else "taken"] += 1
        after = Parsed(other)
        packet, token, user = taken
        assert is_packet_number(packet.decode())
        assert after.url == b"/v1/packets/%b/claims" % packet
        assert (after.begun, after.complete, after.has_body, after.start) == (1, 1, False, before.start)
        assert [name for name, _ in after.headers] == [name for name, _ in before.headers]
        told = dict(after.headers)
        assert token_in(told) == token
        assert told.get(b"x-user-id") == user
        assert user is None or is_user_id(user.decode())
        for name in (b"content-length", b"connection"):
            assert told.get(name) == dict(before.headers).get(name)

    check()
    assert {name for name, count in seen.items() if count >= 30} == {
        *("no layout", "not taken", "taken", "taken, changed")
    }


def read(layout: Layout, data: bytes) -> tuple[bytes, bytes, bytes | None] | None:
    """Packet, token and user."""
    found = layout.fullmatch(data)
    return None if found is None else (found[1], found[layout.token_at], found[layout.user_at])


def test_whatever_a_gateway_adds_is_of_the_same_layout() -> None:
    def from_gateway(number: int) -> bytes:
        trace = f"00-{number:032x}-{number:016x}-01"
        added = (f"X-Forwarded-For: 10.0.0.{number}, 10.1.1.1", f"traceparent: {trace}", f"x-request-id: {number}")
        token = f"authorization: Bearer a.{number}.c"
        return head(PACKETS[number % 2], ["host: x", token, *added, "Connection: keep-alive", "content-length: 0"])

    names = names_in(from_gateway(0))
    assert names is not None
    layout = layout_of(names)
    for number in range(100):
        assert names_in(from_gateway(number)) == names
        assert read(layout, from_gateway(number)) == (PACKETS[number % 2].encode(), f"a.{number}.c".encode(), None)


def test_a_long_head_is_parsed() -> None:
    data = head(PACKETS[0], ["authorization: Bearer a.b.c", "x: "])
    room = PLAIN_BYTES_MAX - len(data)
    longest = data[:-4] + b"y" * room + data[-4:]
    assert is_whole(longest)
    assert not is_whole(longest[:-4] + b"y" + longest[-4:])


def test_a_value_full_of_blanks_costs_no_more_than_others() -> None:
    """What a regular expression tries again and again would take minutes here."""
    lines = ["authorization: Bearer a.b.c", *(f"x{number}: y" for number in range(30))]
    names = names_in(head(PACKETS[0], lines))
    assert names is not None
    blanks = [lines[0], *(f"{line}{' ' * 90}" for line in lines[1:])]
    assert len(head(PACKETS[0], blanks)) < PLAIN_BYTES_MAX
    begun_s = time.process_time()
    for _ in range(100):
        assert read(layout_of(names), head(PACKETS[0], blanks)) is None
    assert time.process_time() - begun_s < 10


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    async with open_world(settings) as opened:
        yield opened


async def answers(wire: Wire[Watched], *requests: bytes) -> list[bytes]:
    return [(await wire.ask(data)).body for data in requests]


async def test_a_claim_like_the_one_before_is_not_parsed(world: World) -> None:
    unknown = new_packet_number(0)
    for lines in ((world.bob,), (world.backend, "x-user-id: bob")):
        packets = (world.sold_out, world.open, world.for_others, unknown, world.open, world.sold_out)
        requests = [claim(packet_id, *lines) for packet_id in packets]
        async with world.served.connected() as wire:
            alone = await answers(wire, *requests)
            assert wire.there.known == len(requests) - 1
        async with world.served.connected() as wire:  # all connections share what is known
            assert await answers(wire, *requests) == alone
            assert wire.there.known == len(requests)
            # Cut in two, together, or with something between them: not whole and alone, and all the same answered.
            await wire.send(requests[0][:40], requests[0][40:], requests[0] + requests[0], requests[0])
            assert [(await wire.answer()).body for _ in range(4)] == [alone[0]] * 4
            assert wire.there.known == len(requests) + 1
            await wire.send(b"\r", b"\n" + requests[0], requests[0] + b"\r\n\r", b"\n" + requests[0])
            assert [(await wire.answer()).body for _ in range(3)] == [alone[0]] * 3


async def test_ends_of_lines_between_claims_change_nothing(world: World) -> None:
    """Not even half of one, which the parser passes over."""
    plain = claim(world.sold_out, world.bob)
    for between in (b"\r", b"\n", b"\r\n", b"\r\n\r"):
        together = await world.served.ask(plain + plain + between + plain)
        assert [reply.status for reply in together] == [200, 200, 200]
        assert await world.served.ask(plain, plain + between, plain) == together


async def test_bodies_and_other_requests_between_are_read_as_such(world: World) -> None:
    plain = claim(world.sold_out, world.bob)
    batch = request("/v1/claims", world.backend, body=plain)
    async with world.served.connected() as wire:
        (first,) = await answers(wire, plain)
        # A body that looks like a claim, in a packet of its own, is the body of what came before it.
        await wire.send(batch[: -len(plain)], plain)
        assert (await wire.answer()).status == 400
        assert await answers(wire, plain) == [first]
        assert wire.there.known == 1


LASTS = {
    "an offer": (b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n",),
    "an offer, in two": (b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nup", b"grade: h2c\r\n\r\n"),
    "an old offer": (b"GET /livez HTTP/1.0\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",),
    "a trailer": (request("/v1/claims", "transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\nconnection: close\r\n\r\n",),
    "a header": (request("/livez", "connection: close", method="GET"),),
}


@pytest.mark.parametrize("name", LASTS)
async def test_a_last_request_is_the_last_however_it_says_so(world: World, name: str) -> None:
    """It is answered, whatever the claims before it, and the connection ends."""
    plain = claim(world.sold_out, world.bob)
    async with world.served.connected() as wire:
        first, _ = await answers(wire, plain, plain)
        last = await wire.ask(*LASTS[name])
        assert says_close(last)
        assert last.status == (401 if name == "a trailer" else 200)
        assert last.body != first
        assert await wire.is_closed()


async def test_what_is_no_whole_claim_spends_no_reading(world: World) -> None:
    plain = claim(world.sold_out, world.bob)
    async with world.served.connected() as wire:
        await answers(wire, plain)
        for _ in range(2 * READINGS_MAX):
            await wire.send(b"\r\n", plain[:9], plain[9:])
            await wire.answer()
        known = wire.there.known
        other = claim(world.sold_out, "x-new: y", world.bob)
        await answers(wire, other, other)
        assert wire.there.known == known + 1


async def test_a_claim_is_known_only_as_long_as_its_token_holds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = claim(world.sold_out, world.bob)
    async with world.served.connected() as wire:
        assert [(await wire.ask(plain)).status for _ in range(3)] == [200] * 3
        assert wire.there.known == 2
        later = time.time() + 4_000
        monkeypatch.setattr("engine.access.tokens.time", type("Clock", (), {"time": staticmethod(lambda: later)}))
        assert [(await wire.ask(plain)).status for _ in range(2)] == [401] * 2
        assert wire.there.known == 2


async def test_users_behind_one_connection_share_a_layout(world: World) -> None:
    users = [world.served.authorized(f"user{number}") for number in range(20)]
    async with world.served.connected() as wire:
        for user in users:
            assert (await wire.ask(claim(world.sold_out, user))).status == 200
        assert wire.there.known == len(users) - 1


async def test_programs_behind_one_connection_have_a_layout_each(world: World) -> None:
    programs = [claim(world.sold_out, *(f"x-{number}: y" for number in range(count)), world.bob) for count in range(6)]
    async with world.served.connected() as wire:
        replies = [await answers(wire, *programs) for _ in range(3)]
        assert replies[0] == replies[1] == replies[2]
        assert wire.there.known == 2 * len(programs)
        assert all(wire.there.were_taken)


def of_program(number: int, first: str = "host: x") -> bytes:
    return head(PACKETS[0], [first, f"x-{number}: y", "authorization: Bearer a.b.c"])


def test_so_many_that_begin_alike_are_known_and_then_all_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("api.wire.layouts.monotonic", lambda: now_s)
    layouts = Layouts()
    for number in range(ALIKE_MAX):
        layouts.learn(of_program(number))
        layouts.learn(of_program(number))
    assert len(layouts.of(of_program(0))) == ALIKE_MAX
    layouts.learn(of_program(ALIKE_MAX))
    assert [read(layout, of_program(ALIKE_MAX)) is None for layout in layouts.of(of_program(0))] == [False]
    for number in range(ALIKE_MAX):
        layouts.learn(of_program(number))
    assert len(layouts.of(of_program(0))) == ALIKE_MAX  # it has forgotten a moment ago
    now_s = FORGET_S
    layouts.learn(of_program(2 * ALIKE_MAX))
    assert len(layouts.of(of_program(0))) == 1


def test_there_is_a_bound_of_all_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.wire.layouts.monotonic", lambda: 0.0)
    layouts = Layouts()
    firsts = [f"y-{number:06d}: z" for number in range(LAYOUTS_MAX)]
    for first in firsts:
        layouts.learn(of_program(0, first))
    assert [len(layouts.of(of_program(0, first))) for first in firsts] == [1] * LAYOUTS_MAX
    layouts.learn(of_program(0))
    assert [len(layouts.of(of_program(0, first))) for first in firsts] == [0] * LAYOUTS_MAX
    assert len(layouts.of(of_program(0))) == 1


async def test_a_connection_whose_claims_have_no_layout_is_not_looked_at_for_ever(world: World) -> None:
    odd = claim(world.sold_out, "x: \ty", world.bob)
    plain = claim(world.sold_out, world.bob)
    async with world.served.connected() as wire:
        await answers(wire, *[odd] * READINGS_MAX, plain, plain)
        assert wire.there.known == 0
        assert all(wire.there.were_taken)


async def test_a_stop_ends_a_known_connection_too(world: World) -> None:
    plain = claim(world.sold_out, world.bob)
    async with world.served.connected() as wire:
        await answers(wire, plain, plain)
        world.served.server.should_exit = True
        reply = await wire.ask(plain)
        while not says_close(reply):  # it has not been told yet
            reply = await wire.ask(plain)
        assert reply.status == 200
        assert await wire.is_closed()
