"""The quick reader of a batch takes only what the payload's model takes, as the model takes it; and it takes most."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from api import bodies
from api.payloads import BATCH_CLAIMS_MAX, ClaimsBody, checked
from api.resources import plain_claims
from api.routes import ROUTES
from benchmarks.rig.walks import BatchWalk
from engine.access.tokens import issue, load_secret
from engine.errors import FieldProblem, HongbaoError
from engine.ids import is_packet_number
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.both_ways import Asked, Headers, Opened, Run, ask, in_a_thread, open_app
from tests.support.scenes import send

EXAMPLES = with_settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
UNKNOWN = f"10000{'0' * 14}"
Pairs = list[tuple[str, str]]
"""The packets and users of a batch."""


def by_the_model(body: bytes) -> Pairs | None:
    """What the long way makes of a body; None when it refuses it."""
    problems: list[FieldProblem] = []
    try:
        batch = checked(ClaimsBody, bodies.parsed({}, body), problems)
    except HongbaoError:
        return None
    return None if batch is None else [(claim.packet_id, claim.user_id) for claim in batch.claims]


def by_the_reader(body: bytes) -> Pairs | None:
    """What the quick reader makes of a body; None when it leaves it to the model."""
    batch = plain_claims.read(body)
    return None if batch is None else [(claim.packet_id, claim.user_id) for claim in batch.claims]


def assert_read_alike(body: bytes) -> bool:
    """Whether the quick reader took it."""
    pairs = by_the_reader(body)
    if pairs is None:
        return False
    assert pairs == by_the_model(body)
    assert all(is_packet_number(packet_id) for packet_id, _ in pairs)
    return True


def batch_of(*pairs: tuple[str, str]) -> dict[str, list[dict[str, str]]]:
    return {"claims": [{"packet_id": packet_id, "user_id": user_id} for packet_id, user_id in pairs]}


numbers = st.integers(0, 10**17 - 1).map(lambda number: f"10{number:017d}")
users = st.text("abzAZ019._:@-", min_size=1, max_size=64)
good = st.lists(st.tuples(numbers, users), min_size=1, max_size=4)


@given(pairs=good, indent=st.sampled_from([None, 0, 2, "\t"]), spaced=st.booleans())
def test_what_programs_write_is_read_without_the_model(pairs: Pairs, indent: int | str | None, spaced: bool) -> None:
    batch = batch_of(*pairs)
    separators = (" , ", " : ") if spaced else (",", ":")
    for body in (orjson.dumps(batch), json.dumps(batch, indent=indent, separators=separators).encode()):
        assert by_the_reader(body) == by_the_model(body) == pairs


def test_the_largest_batch_is_read_without_the_model() -> None:
    pairs = [(UNKNOWN, f"{number}".rjust(64, "u")) for number in range(BATCH_CLAIMS_MAX)]
    assert by_the_reader(orjson.dumps(batch_of(*pairs))) == pairs
    assert by_the_reader(orjson.dumps(batch_of(*pairs, (UNKNOWN, "bob")))) is None
    assert by_the_reader(orjson.dumps(batch_of())) is None


# Strings and values as they are written, also as they must not be.
string_parts = st.sampled_from(
    [
        *("ab1:", "packet_id", "user_id", "claims", UNKNOWN, "\\u0062", "\\n", "\\", "\\\\", '\\"', '"', "\n"),
        *("\0", "\x7f", "é", "恭", "\\ud800", "١" * 19, " ", "\ufeff", "10" + "9" * 17, "bob"),
    ]
)
written_strings = st.one_of(
    st.sampled_from(
        ['"packet_id"', '"user_id"', '"claims"', f'"{UNKNOWN}"', '"bob"', '"p\\u0061cket_id"', "'bob'", ""]
    ),
    st.lists(string_parts, max_size=3).map(lambda parts: f'"{"".join(parts)}"'),
)
written_scalars = written_strings | st.sampled_from(
    [*("null", "true", "NaN", "Infinity", "0", "-1", "1.5", "1e999", "01", "1" * 400), "[", "]", "{", "}", "//", ""]
)
good_spaces = st.sampled_from(["", " ", "\n", "\r\n", "\t"])
odd_spaces = st.sampled_from(["\v", "\u00a0", "/**/", "\ufeff", "\0"])
spaces = st.integers(0, 59).flatmap(lambda chance: good_spaces if chance else odd_spaces)


# Made once: hypothesis examines every strategy that it has not seen before, which takes longer than to draw from it.
changes_in_a_claim, first_or_second, kinds_of_change = (
    st.sampled_from([0] * 12 + [1, 1, 2]),
    st.integers(0, 1),
    st.integers(0, 4),
)
in_ten, in_fifteen = st.integers(0, 9), st.integers(0, 14)


def written_object(pairs: "list[tuple[str, str]]", space: str) -> str:
    return "{" + f"{space},{space}".join(f"{name}{space}:{space}{value}" for name, value in pairs) + "}"


@st.composite
def written_claim(draw: st.DrawFn) -> str:
    """A claim of a batch, mostly as it should be, as it may be written."""
    pairs = [('"packet_id"', f'"{draw(numbers)}"'), ('"user_id"', f'"{draw(users)}"')]
    for _ in range(draw(changes_in_a_claim)):
        place, change = draw(first_or_second), draw(kinds_of_change)
        name, value = pairs[place % len(pairs)] if pairs else ('"user_id"', '"bob"')
        match change:
            case 0:
                pairs.append((name, draw(written_scalars)))
            case 1:
                pairs = [pair for pair in pairs if pair[0] != name]
            case 2:
                pairs = [(name, draw(written_scalars)) if pair == (name, value) else pair for pair in pairs]
            case 3:
                pairs.append((draw(written_strings), draw(written_scalars)))
            case _:
                pairs = [(draw(written_strings), value) if pair == (name, value) else pair for pair in pairs]
    return written_object(draw(st.permutations(pairs)), draw(spaces))


some_claims, claims_and_others = (
    st.lists(kind, max_size=4) for kind in (written_claim(), written_claim() | written_scalars)
)
scalars_or_a_list = written_scalars | written_claim().map(lambda text: f"[{text}]")


@st.composite
def written_batches(draw: st.DrawFn) -> bytes:
    """A batch as somebody may write it, well or badly."""
    space, is_odd = draw(spaces), not draw(in_ten)
    claims = draw(claims_and_others if is_odd else some_claims)
    pairs = [('"claims"', f"[{space}" + f"{space},{space}".join(claims) + "]")]
    if not draw(in_fifteen):
        pairs.append((draw(written_strings), draw(scalars_or_a_list)))
    text = draw(spaces) + written_object(draw(st.permutations(pairs)), space) + draw(spaces)
    return text.encode("utf-8", "surrogatepass")


one_to_three, bytes_cut = st.integers(1, 3), st.integers(0, 2)
other_bytes = st.sampled_from([b"", b'"', b"\\", b"\n", b"a", b"0", b","]) | st.binary(max_size=3)


@st.composite
def damaged_batches(draw: st.DrawFn) -> bytes:
    """A proper batch in which some bytes are others, more or fewer."""
    body = bytearray(orjson.dumps(batch_of(*draw(good))))
    for _ in range(draw(one_to_three)):
        place, cut = draw(st.integers(0, len(body))), draw(bytes_cut)
        body[place : place + cut] = draw(other_bytes)
    return bytes(body)


@pytest.mark.long
async def test_what_is_read_is_what_the_model_reads() -> None:
    taken: Counter[bool] = Counter()
    refused: Counter[bool] = Counter()
    for bodies_of, share in ((written_batches(), 0.1), (damaged_batches(), 0.05), (st.binary(max_size=60), 0.0)):
        taken.clear()

        @EXAMPLES
        @given(body=bodies_of)
        def example(body: bytes) -> None:
            taken[assert_read_alike(body)] += 1
            refused[by_the_model(body) is None] += 1

        example()
        assert taken[True] >= share * taken.total()
    assert refused[True] >= 500


def deep(depth: int) -> bytes:
    return b'{"claims":' * depth + b"[]" + b"}" * depth


CLAIM = f'{{"packet_id":"{UNKNOWN}","user_id":"bob"}}'
ODD = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"claims":null}',
    b'{"claims":{}}',
    deep(100),
    deep(20_000),
    b'{"claims":' + b"[" * 20_000,
    f'{{"claims":[{CLAIM}]}} '.encode(),
    f'{{"claims":[{CLAIM}]}}\0'.encode(),
    f'{{"claims":[{CLAIM}]}}{{}}'.encode(),
    f'\ufeff{{"claims":[{CLAIM}]}}'.encode(),
    f'{{"claims":[{CLAIM}]}}'.encode("utf-16"),
    f'{{"claims":[{CLAIM},]}}'.encode(),
    f'{{"claims":[],"claims":[{CLAIM}]}}'.encode(),
    f'{{"claims":[{CLAIM}],"claims":[{CLAIM}]}}'.encode(),
    f'{{"claims":[{CLAIM}],"cl\\u0061ims":[{CLAIM}]}}'.encode(),
    f'{{"claims":[{{"user_id":"eve",{CLAIM[1:]}]}}'.encode(),
    f'{{"claims":[{{"user\\u005fid":"eve",{CLAIM[1:]}]}}'.encode(),
    f'{{"claims":[{{"user_id":1,{CLAIM[1:]}]}}'.encode(),
    f'{{"claims":[{{"":"",{CLAIM[1:]}]}}'.encode(),
    f'{{"claims":[["{UNKNOWN}","bob"]]}}'.encode(),
    f'[[["{UNKNOWN}","bob"]]]'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}\n{UNKNOWN}","user_id":"bob\nbob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}\\n{UNKNOWN}","user_id":"bob\\nbob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}\n","user_id":"bob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}","user_id":"bob\n"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"10{"١" * 17}","user_id":"bob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}0","user_id":"bob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"x","user_id":"bob"}},{CLAIM}]}}'.encode(),
    f'{{"claims":[{{"packet_id":{UNKNOWN},"user_id":"bob"}}]}}'.encode(),
    f'{{"claims":[{{"packet_id":"{UNKNOWN}","user_id":"b\x80b"}}]}}'.encode("latin-1"),
    f'{{"claims":[{CLAIM}],"x":NaN}}'.encode(),
    f'{{"claims":[{",".join([CLAIM] * (BATCH_CLAIMS_MAX + 1))}]}}'.encode(),
]


@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:60]))
def test_what_is_odd_is_left_to_the_model(body: bytes) -> None:
    if assert_read_alike(body):
        assert by_the_model(body) == [(UNKNOWN, "bob")]


@pytest.fixture
async def apps(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Opened, Opened]]:
    """The application, and one on the same servers that has no quick reader."""
    rows = tuple(replace(row, plain_body=None) for row in ROUTES)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_app(settings))
        monkeypatch.setattr("api.app.ROUTES", rows)
        other = await stack.enter_async_context(open_app(settings))
        yield app, other


@pytest.mark.long
async def test_an_answer_does_not_depend_on_the_reader(apps: tuple[Opened, Opened], settings: Settings) -> None:
    """The packets are sold out, so that a batch is answered the second time as the first."""
    engine = apps[0].front.engine
    packets = [(await send(engine, count=2, total_fen=200)).packet_id for _ in range(3)]
    for packet_id in packets:
        for user in ("bob", "a:b"):
            await engine.claims.claim(packet_id, user)
    authorized = authorization(settings)
    statuses: Counter[int] = Counter()
    known = st.lists(
        st.tuples(st.sampled_from([*packets, UNKNOWN]), st.sampled_from(["bob", "a:b", "eve"])), max_size=5
    )
    kinds = st.sampled_from([b"application/json", b"application/json; charset=utf-8", b"text/plain", b"", None])
    odd = st.sampled_from(ODD) | written_batches() | damaged_batches()
    some = known.map(lambda pairs: orjson.dumps(batch_of(*pairs)))

    async def by_both(body: bytes, headers: Headers) -> None:
        asked = Asked(path="/v1/claims", headers=headers, chunks=(body[:50], body[50:]))
        reply, other = [(await ask(app, asked))[0] for app in apps]
        assert reply == other
        assert reply is not None
        statuses[reply.status] += 1

    def examples(run: Run) -> None:
        @with_settings(EXAMPLES, max_examples=600)
        @given(body=st.booleans().flatmap(lambda is_odd: odd if is_odd else some), kind=kinds)
        def example(body: bytes, kind: bytes | None) -> None:
            headers = authorized if kind is None else (*authorized, (b"content-type", kind))
            run(by_both(body, (*headers, (b"content-length", b"%d" % len(body)))))

        example()

    await in_a_thread(examples)
    assert statuses.keys() == {200, 400, 415, 422}
    assert statuses[200] >= 60


def authorization(settings: Settings) -> Headers:
    token = issue(load_secret(settings), "backend", ("act",), 3_600)
    return ((b"authorization", f"Bearer {token}".encode()),)


async def test_a_batch_is_given_out_alike(apps: tuple[Opened, Opened], settings: Settings) -> None:
    """Of two packets with the same shares, one by each reader."""
    engine, authorized = apps[0].front.engine, authorization(settings)
    chance, replies = random.Random(1), []
    packets = [(await send(engine, count=6, total_fen=600, split=SplitKind.EQUAL)).packet_id for _ in range(2)]
    for _ in range(3):
        users = chance.choices(["ada", "bob", "carol", "dave", "eve", "1", "01", "@"], k=9)
        for app, packet_id in zip(apps, packets, strict=True):
            body = orjson.dumps(batch_of(*((packet_id, user) for user in users)))
            headers = (*authorized, (b"content-length", b"%d" % len(body)))
            reply, _ = await ask(app, Asked(path="/v1/claims", headers=headers, chunks=(body,)))
            assert reply is not None
            replies.append(reply._replace(body=reply.body.replace(packet_id.encode(), b"")))
    assert replies[::2] == replies[1::2]
    assert all(word in b"".join(reply.body for reply in replies) for word in (b'"claimed"', b"already_claimed"))
    assert b"sold_out" in replies[-1].body


def test_the_benchmarks_batches_are_read_without_the_model() -> None:
    walk = BatchWalk(packets=[UNKNOWN, f"{UNKNOWN[:-1]}1"], hands=4, hands_each=2, size=4)
    for index in range(walk.length):
        assert by_the_reader(walk.body(index)) == walk.claims(index)
