"""Whatever a request for a claim looks like, its short way and its long way give the same answer, byte for byte."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from api.answers import Answer
from api.wire.fast_claims import LATER
from engine.access.tokens import issue, load_secret
from engine.engine import Engine
from engine.errors import InvalidTokenError
from engine.ids import lane_of, new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import CloseReason
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.both_ways import Asked, Headers, Opened, Reply, Run, ask, in_a_thread, open_app
from tests.support.scenes import caught_up, pay_only, persisting, send, send_in
from tests.support.waiting import wait_until

T = TypeVar("T")

LANE, FENCED_LANE = 0, 1
HOUR_S = 3_600
STATES = {
    "sold out": ("already_claimed", "sold_out"),
    "expired": ("already_claimed", "expired"),
    "closed": ("already_claimed", "expired"),
    "retracted": ("retracted", "retracted"),
    "for others": ("not_invited", "not_invited"),
    "sold out, for others": ("not_invited", "not_invited"),
    "unknown": ("unknown_packet", "unknown_packet"),
    "of no lane": ("unknown_packet", "unknown_packet"),
    "fenced": ("recovering", "recovering"),
    "unopened": ("opening", "opening"),
    "lost": ("already_claimed", "recovering"),
    "dropped": ("already_claimed", "sold_out"),
}
"""States in which a repeat is answered as the claim before it, and what bob and alice are told."""
TOKENS = {
    "bob": ("bob", ("claim",), 2 * HOUR_S),
    "alice": ("alice", ("send", "claim"), 2 * HOUR_S),
    "backend": ("backend", ("act",), 2 * HOUR_S),
    "all": ("root", ("send", "claim", "act", "admin"), 2 * HOUR_S),
    "sender": ("bob", ("send",), 2 * HOUR_S),
    "admin": ("bob", ("admin",), 2 * HOUR_S),
    "nothing": ("bob", (), 2 * HOUR_S),
    "expired": ("bob", ("claim",), HOUR_S),
    "expired backend": ("backend", ("act",), HOUR_S),
}
EXAMPLES = with_settings(
    max_examples=800,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Clock:
    """The time by which tokens are judged; it can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The application, a packet in each of ``STATES``, and tokens, all but "unseen" known to the verifier."""

    opened: Opened
    clock: Clock
    packets: dict[str, str]
    tokens: dict[str, bytes]

    async def ask_both(self, asked: Asked, *, long_first: bool) -> tuple[Reply | None, bool]:
        """The reply, the same by both ways, and whether the short way was taken where it could be."""
        replies: dict[bool, Reply | None] = {}
        was_short: dict[bool, bool] = {}
        for long in (long_first, not long_first):
            self.see_tokens()
            replies[long], was_short[long] = await ask(self.opened, asked, long=long)
        assert replies[False] == replies[True]
        assert not was_short[True]
        assert self.opened.front.in_flight == 0
        return replies[False], was_short[False]

    def see_tokens(self) -> None:
        """Have the verifier remember what it would after seeing each token an hour and a half before now."""
        self.clock.ahead_s = 0.0
        for name, token in self.tokens.items():
            if name != "unseen":
                with suppress(InvalidTokenError):
                    self.opened.front.verifier.verify(token)
        self.clock.ahead_s = 1.5 * HOUR_S


async def let_time_run_out(engine: Engine, packet_id: str) -> None:
    """Make a packet's time be over now."""
    await command(engine.redis, "HSET", keys.packet(packet_id), "expires_at_ms", 1)


async def packets_in_every_state(engine: Engine, settings: Settings) -> dict[str, str]:
    """A packet in each of ``STATES``; bob has a share wherever somebody can."""
    packets = {"unknown": new_packet_number(LANE), "of no lane": new_packet_number(999)}
    open_to_bob = ("sold out", "expired", "closed", "dropped", "lost", "fenced")
    for name in (*open_to_bob, "retracted", "for others", "sold out, for others"):
        lane = FENCED_LANE if name == "fenced" else LANE
        count = 1 if "sold out" in name or name == "dropped" else 2
        recipients = ["carol", "dave"] if name.endswith("for others") else []
        packets[name] = await send_in(
            engine, lane, count=count, total_fen=100 * count, split=SplitKind.EQUAL, recipients=recipients
        )
    for name in open_to_bob:
        await engine.claims.claim(packets[name], "bob")
    await engine.claims.claim(packets["sold out, for others"], "carol")
    for name in ("expired", "closed"):
        await let_time_run_out(engine, packets[name])
    await engine.store.close(packets["closed"], CloseReason.EXPIRED)
    await engine.store.close(packets["retracted"], CloseReason.RETRACTED)
    async with persisting(settings):
        await caught_up(engine)
    while lane_of(unopened := await pay_only(engine)) != LANE:
        pass
    packets["unopened"] = unopened
    for name in ("lost", "dropped"):
        await command(engine.redis, "UNLINK", *keys.all_of(packets[name]))
    await engine.store.fence(FENCED_LANE)
    return packets


@pytest.fixture
async def scene(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with open_app(settings) as opened:
        packets = await packets_in_every_state(opened.front.engine, settings)
        assert set(packets) == set(STATES)
        monkeypatch.setattr("engine.access.tokens.time", clock := Clock())
        yield Scene(opened=opened, clock=clock, packets=packets, tokens=tokens_by(load_secret(settings)))


def tokens_by(secret: bytes) -> dict[str, bytes]:
    """One of each of ``TOKENS``, and some that are none."""
    tokens = {name: issue(secret, *words).encode() for name, words in TOKENS.items()}
    forged = issue(b"x" * 64, "bob", ("claim",), 2 * HOUR_S).encode()
    unseen = issue(secret, "bob", ("claim",), 3 * HOUR_S).encode()
    return tokens | {"forged": forged, "unseen": unseen, "garbage": b"a.b.c", "none": b"", "long": b"x" * 5_000}


async def test_each_state_is_answered_the_short_way(scene: Scene) -> None:
    """Again and again: what was learned from the first answers must not change the later ones."""
    for _ in range(3):
        for state, answers in STATES.items():
            for user, expected in zip(("bob", "alice"), answers, strict=True):
                speaking_for = ((b"x-user-id", user.encode()),)
                for headers in (
                    authorized(scene.tokens[user]),
                    authorized(scene.tokens["backend"]) + speaking_for,
                    speaking_for + authorized(scene.tokens["all"]),
                ):
                    asked = Asked(path=f"/v1/packets/{scene.packets[state]}/claims", headers=headers)
                    reply, was_short = await scene.ask_both(asked, long_first=False)
                    assert was_short
                    assert reply is not None
                    answer = orjson.loads(reply.body)
                    assert answer.get("outcome", answer.get("code")) == expected, state
                    if "outcome" in answer:
                        assert answer["amount_fen"] == (100 if expected == "already_claimed" else 0)


class Gone:
    """Who asked, and is not there any more."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def write_body(self, body: bytes) -> None:
        self.write_answer(Answer(200, body))

    def write_answer(self, answer: Answer) -> None:
        self.told.append(answer.status)
        raise ConnectionError


async def test_an_answer_that_cannot_be_delivered_is_not_given_twice(scene: Scene) -> None:
    """Whether Redis or the ledger has the last word."""
    front = scene.opened.front
    for state in ("sold out", "unknown", "for others", "dropped"):
        gone = Gone()
        scene.see_tokens()
        target = f"/v1/packets/{scene.packets[state]}/claims".encode()
        taken = scene.opened.fast_claims.take(b"POST", target, [*authorized(scene.tokens["bob"])], gone)
        assert taken is LATER, state
        tasks = set(scene.opened.fast_claims.deciding)
        await wait_until(lambda: front.in_flight == 0, what="the answer")
        tasks |= scene.opened.fast_claims.deciding
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (len(gone.told), front.in_flight) == (1, 0), state


def authorized(token: bytes) -> Headers:
    return ((b"authorization", b"Bearer " + token),)


NUMBERS_AS = (
    "{}0",
    "{}\n",
    " {}",
    "+{}",
    "-{}",
    "{}\0",
    "1",
    "",
    "x" * 19,
    "\u00e9",
    "{}/claims",
    "../{}",
    "{0}/../{0}",
)
PATHS = (
    *("/v1/packets/{}/claims/", "/v1/packets//{}/claims", "//v1/packets/{}/claims", "/v1/packets/{}//claims"),
    *("/v1/packets/{}/claims\n", "/v1/packets/{}/Claims", "/V1/packets/{}/claims", "/v1/packets/{}/claims/claims"),
    *(
        "/v1/packets/{}",
        "/v1/packets/claims",
        "/v1/packets//claims",
        "/v1/packets/preview",
        "/v1/claims",
        "/claims",
        "",
    ),
    *("/v1/packets/{}/claims?", "/v1/packets/{}/claims\0", "/v1/packets/{}/claim", "v1/packets/{}/claims"),
)
AUTHORIZED: tuple[tuple[bytes, ...], ...] = (
    *((b"bearer %b",), (b"BEARER %b",), (b"Bearer  %b",), (b" Bearer %b",), (b"Bearer %b ",), (b"Bearer\t%b",)),
    *((b"Basic %b",), (b"%b",), (b"Bearer",), (b"Bearer ",), (b"Bearer%b",), (b"",), (), (b"Bearer %b",) * 2),
    *((b"Bearer %b", b"Basic x"), (b"", b"Bearer %b"), (b"Bearer %b, Bearer %b",)),
)
USERS: tuple[tuple[bytes, ...], ...] = (
    *((b"",), (b"a b",), (b"bob\n",), (b"b" * 65,), (b"\xff",), (b"\xe6\x81\xad",), (b"bob",) * 2, (b"bob", b"alice")),
    *((b"", b"bob"), (b"bob", b""), (b"alice,bob",), (b" bob",)),
)
QUERIES = (b"x=1", b"packet_id=1&packet_id=2", b"%zz", b"a&" * 30, b"/claims", b"x=/claims", b"/v1/packets/1/claims")
Body = tuple[Headers, tuple[bytes | None, ...]]
BODIES: tuple[Body, ...] = (
    (((b"content-length", b"2"),), (b"{}",)),
    (((b"content-length", b"2"),), (b"{", b"}")),
    (((b"content-length", b"2"),), (b"{", None)),
    (((b"content-length", b"2"),), (b"[]",)),
    (((b"content-length", b"1"),), (b"x",)),
    (((b"content-length", b"9"),), (b'{"a": 10}',)),
    (((b"content-length", b"17"),), (b'{"user_id":"eve"}',)),
    (((b"content-length", b"00"),), (b"",)),
    (((b"content-length", b"1000000000"),), (b"x" * 1_000, b"x")),
    (((b"content-length", b"1000000000"),), (b"x" * 1_000, None)),
    (((b"content-length", b"9" * 400),), (b"x",)),
    (((b"content-length", b"70000"),), (b" " * 69_998 + b"{}",)),
    (((b"content-length", b"0"),) * 2, (b"",)),
    (((b"content-length", b"2"), (b"content-length", b"0")), (b"{}",)),
    (((b"content-length", b"0"), (b"content-length", b"2")), (b"{}",)),
    (((b"transfer-encoding", b"chunked"),), (b"",)),
    (((b"transfer-encoding", b"chunked"),), (b"", b"{", b"", b"}")),
    (((b"transfer-encoding", b"chunked"),), (b"{", b'"a":1}')),
    (((b"transfer-encoding", b"chunked"),), (None,)),
    (((b"transfer-encoding", b"chunked"), (b"content-length", b"0")), (b"{}",)),
    (((b"transfer-encoding", b"identity"),), (b"",)),
    (((b"transfer-encoding", b""),), (b"",)),
)
names = st.sampled_from([b"host", b"accept", b"content-type", b"idempotency-key", b"x-user-ids", b"cookie", b"expect"])
values = st.sampled_from([b"", b"application/json", b"text/plain", b"bob", b"100-continue"]) | st.binary(max_size=9)


in_ten = st.integers(0, 9)


def part(plain: Sequence[T], *other: T) -> st.SearchStrategy[tuple[T, bool]]:
    """Some of a request, plain in nine of ten cases, and whether it is."""
    some, rest = st.sampled_from(list(plain)), st.sampled_from(list(other))

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[T, bool]:
        is_plain = draw(in_ten) < 9
        return draw(some if is_plain else rest), is_plain

    return drawn()


def requests(packets: dict[str, str], tokens: dict[str, bytes]) -> st.SearchStrategy[tuple[Asked, bool]]:
    """A request, and whether it is one that must be answered the short way.

    What it is drawn from is made once: hypothesis examines every strategy that it has not seen before, which takes
    longer than to draw from it.
    """
    usual = ("bob", "alice", "backend", "all")
    owners = part(usual, *sorted(set(tokens) - set(usual)))
    users_if = {True: part([(b"bob",), (b"alice",)], *USERS, ()), False: part([()], *USERS, (b"bob",))}
    forms = part([(b"Bearer %b",)], *AUTHORIZED)
    numbers_as, paths = part(["{}"], *NUMBERS_AS), part(["/v1/packets/{}/claims"], *PATHS)
    methods = part(["POST"], "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post", "CLAIM")
    bodies: st.SearchStrategy[tuple[Body, bool]] = part([((), (b"",)), (((b"content-length", b"0"),), (b"",))], *BODIES)
    queries, extras = part([b""], *QUERIES), part([True], False)
    headers_if = {
        extra: st.lists(st.tuples(names, values), max_size=4, unique_by=(lambda header: header[0]) if extra else None)
        for extra in (True, False)
    }
    numbers = st.sampled_from(sorted(packets.values()))

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Asked, bool]:
        name, token_is_plain = draw(owners)
        users, users_are_plain = draw(users_if[name in ("backend", "all", "expired backend")])
        form, form_is_plain = draw(forms)
        number, number_is_plain = draw(numbers_as)
        path, path_is_plain = draw(paths)
        method, method_is_plain = draw(methods)
        body, body_is_plain = draw(bodies)
        query, query_is_plain = draw(queries)
        extra, names_differ = draw(extras)
        headers = [(b"authorization", line.replace(b"%b", tokens[name])) for line in form]
        headers += [(b"x-user-id", user) for user in users] + list(body[0]) + draw(headers_if[extra])
        asked = Asked(
            method=method,
            path=path.format(number.format(draw(numbers))),
            query=query,
            headers=tuple(draw(st.permutations(headers))),
            chunks=body[1],
        )
        parts = (token_is_plain, users_are_plain, form_is_plain, number_is_plain, path_is_plain, method_is_plain)
        return asked, all((*parts, query_is_plain, body_is_plain, names_differ))

    return drawn()


@pytest.mark.long
async def test_any_request_is_answered_alike(scene: Scene) -> None:
    seen: Counter[bool] = Counter()
    statuses: dict[bool, set[int | None]] = {True: set(), False: set()}

    def examples(run: Run) -> None:
        @EXAMPLES
        @given(request=requests(scene.packets, scene.tokens), long_first=st.booleans())
        def example(request: tuple[Asked, bool], long_first: bool) -> None:
            asked, is_plain = request
            reply, was_short = run(scene.ask_both(asked, long_first=long_first))
            assert was_short or not is_plain
            assert not (was_short and asked.query)
            seen[was_short] += 1
            statuses[was_short].add(reply and reply.status)

        example()

    await in_a_thread(examples)
    assert seen[True] >= 0.2 * seen.total()
    assert seen[False] >= 0.2 * seen.total()
    assert statuses[True] == {200, 403, 404, 503}
    assert statuses[False] >= {200, 400, 401, 403, 404, 405, 422}


@pytest.fixture
async def twins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Every packet has the same seed, so that two of the same terms have the same shares."""
    monkeypatch.setattr("engine.packets.sending.new_seed", lambda: bytes(range(32)))
    async with open_app(settings) as opened:
        yield opened


async def claim_of_each(
    opened: Opened, packet_ids: Sequence[str], hands: Sequence[str], over_after: int
) -> Counter[bytes]:
    """Claim of one packet the short way and of its twin the long way; all but the number is the same. The outcomes."""
    front = opened.front
    secret, outcomes = load_secret(front.settings), Counter[bytes]()
    for place, user in enumerate(hands):
        token = authorized(issue(secret, user, ("claim",), HOUR_S).encode())
        front.verifier.verify(token[0][1].removeprefix(b"Bearer "))
        if place == over_after:
            for packet_id in packet_ids:
                await let_time_run_out(front.engine, packet_id)
        replies = []
        for packet_id, long in zip(packet_ids, (False, True), strict=True):
            asked = Asked(path=f"/v1/packets/{packet_id}/claims", headers=token)
            reply, was_short = await ask(opened, asked, long=long)
            assert reply is not None
            assert was_short is not long
            replies.append(reply._replace(body=reply.body.replace(packet_id.encode(), b"...")))
        assert replies[0] == replies[1]
        outcomes[replies[0].body.split(b'"')[3]] += 1
    return outcomes


@pytest.mark.long
async def test_a_packet_is_given_away_alike(twins: Opened) -> None:
    users = st.sampled_from(["ada", "bob", "carol", "dave", "eve"])
    seen: Counter[bytes] = Counter()

    def examples(run: Run) -> None:
        @with_settings(EXAMPLES, max_examples=60)
        @given(
            count=st.integers(1, 4),
            for_others=st.booleans(),
            hands=st.lists(users, min_size=4, max_size=12),
            over_after=st.integers(2, 20),
        )
        def example(count: int, for_others: bool, hands: list[str], over_after: int) -> None:
            recipients = ["ada", "bob", "carol", "dan"] if for_others else []
            engine, terms = twins.front.engine, {"count": count, "total_fen": 97 * count, "recipients": recipients}
            packet_ids = [run(send(engine, **terms)).packet_id for _ in range(2)]  # type: ignore[arg-type]
            seen.update(run(claim_of_each(twins, packet_ids, hands, over_after)))

        example()

    await in_a_thread(examples)
    assert seen.keys() >= {b"claimed", b"already_claimed", b"sold_out", b"expired"}
    assert seen[b"claimed"] >= 60
