import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import (
    Claims,
    ClaimsEvent,
    ClosedEvent,
    Ending,
    Event,
    NewerEventError,
    OpenedEvent,
    Opening,
    PacketClaims,
    UnreadableEventError,
    changes_of,
    decode,
)
from engine.records import PacketState

AT_MS = 1_790_000_000_000
NUMBER = "1000700000000000001"

users = st.text(min_size=1, max_size=8)
numbers = st.integers(10**18, 11 * 10**17).map(str)
shares = st.tuples(st.integers(0, 10**6), st.integers(1, 10**15)).map(lambda share: f"{share[0]}:{share[1]}")
gifts = st.lists(st.tuples(users, shares), min_size=1, max_size=4)
packets = st.builds(
    lambda number, given, exhausted: PacketClaims(number, [g[0] for g in given], [g[1] for g in given], exhausted),
    numbers,
    gifts,
    st.booleans(),
)
events = st.one_of(
    st.builds(OpenedEvent, st.just(1), st.integers(0, 2**42), numbers),
    st.builds(
        ClosedEvent,
        st.just(1),
        st.integers(0, 2**42),
        numbers,
        st.sampled_from([PacketState.EXPIRED, PacketState.RETRACTED]),
        st.integers(1, 10**6),
        st.integers(1, 10**15),
    ),
    st.builds(ClaimsEvent, st.just(1), st.integers(0, 2**42), st.lists(packets, min_size=1, max_size=4)),
)


@pytest.mark.long
@given(events)
def test_what_is_written_is_read(event: Event) -> None:
    assert decode(msgspec.msgpack.encode(event)) == event


@given(events, st.integers(100, 2**50))
def test_changes_end_at_the_entrys_position_and_leave_no_gap(event: Event, position: int) -> None:
    changes = changes_of(event, position)
    counted = [change for change in changes if not (isinstance(change, Ending) and isinstance(event, ClaimsEvent))]
    sizes = [len(change.slots) if isinstance(change, Claims) else 1 for change in counted]
    before = position - event.changes
    assert [change.position for change in counted] == list(itertools.accumulate(sizes, initial=before))[1:]


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=9), st.integers(100, 2**50))
def test_halves_are_the_same_claims_at_the_same_positions(amounts_fen: list[int], position: int) -> None:
    slots = list(range(len(amounts_fen)))
    claims = Claims(7, [f"user{slot}" for slot in slots], slots, amounts_fen, AT_MS, position)
    first, second = claims.halves()
    assert [*first.slots, *second.slots] == slots
    assert [*first.user_ids, *second.user_ids] == claims.user_ids
    assert [*first.amounts_fen, *second.amounts_fen] == amounts_fen
    assert (first.position, second.position) == (position - len(second.slots), position)
    assert min(len(first.slots), len(second.slots)) >= 1


def test_claims_of_one_packet_are_told_together() -> None:
    event = ClaimsEvent(1, AT_MS, [PacketClaims(NUMBER, ["a:b", "c"], ["0:5", "1:7"], True)])
    assert changes_of(event, 12) == [
        Claims(int(NUMBER), ["a:b", "c"], [0, 1], [5, 7], AT_MS, 12),
        Ending(int(NUMBER), PacketState.EXHAUSTED, 0, 0, AT_MS, 12),
    ]


@given(st.lists(packets, min_size=1, max_size=6), st.integers(100, 2**50))
def test_packets_of_one_event_are_told_as_if_each_had_come_alone(claimed: list[PacketClaims], position: int) -> None:
    ends = itertools.accumulate([len(packet.users) for packet in claimed], initial=position)
    alone = [changes_of(ClaimsEvent(1, AT_MS, [packet]), end) for packet, end in zip(claimed, [*ends][1:], strict=True)]
    event = ClaimsEvent(1, AT_MS, claimed)
    assert changes_of(event, position + event.changes) == list(itertools.chain.from_iterable(alone))


def test_shares_that_only_match_across_packets_are_unreadable() -> None:
    claimed = [
        PacketClaims(NUMBER, ["ada"], ["0:5", "1:7"], False),
        PacketClaims(NUMBER, ["bob", "cat"], ["0:5"], False),
    ]
    with pytest.raises(UnreadableEventError, match="users and shares do not match"):
        changes_of(ClaimsEvent(1, AT_MS, claimed), 10)


def test_an_opening_and_a_closing_are_one_change_each() -> None:
    assert changes_of(OpenedEvent(1, AT_MS, NUMBER), 3) == [Opening(int(NUMBER), AT_MS, 3)]
    closed = ClosedEvent(1, AT_MS, NUMBER, PacketState.RETRACTED, 2, 12)
    assert changes_of(closed, 4) == [Ending(int(NUMBER), PacketState.RETRACTED, 2, 12, AT_MS, 4)]


@pytest.mark.parametrize(
    "event",
    [
        ["opened", 2, AT_MS, NUMBER],
        ["opened", 0, AT_MS, NUMBER],
        ["opened", 1, AT_MS],
        ["opened", 1, "now", NUMBER],
        ["opened", 1, AT_MS, int(NUMBER)],
        ["lost", 1, AT_MS, NUMBER],
        ["opened", 2, {"of": "another form"}],
        ["closed", 1, AT_MS, NUMBER, "bored", 1, 1],
        ["closed", 1, AT_MS, NUMBER, "expired", 1, 1.5],
        ["claims", 1, AT_MS, [[NUMBER, ["ada"], [5], False]]],
        {"kind": "opened"},
        [],
        None,
    ],
)
def test_anything_else_is_unreadable(event: object) -> None:
    with pytest.raises(UnreadableEventError):
        decode(msgspec.msgpack.encode(event))


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x94\xa6opened", b"not msgpack", b"\x94\xa6opened\x01\x01\xa1\xff", b"\x91" * 100_000]
)
def test_what_is_no_msgpack_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableEventError):
        decode(payload)


@pytest.mark.parametrize(
    "claimed",
    [
        PacketClaims(NUMBER, ["ada"], ["0:5", "1:7"], False),
        PacketClaims(NUMBER, ["ada"], ["0"], False),
        PacketClaims(NUMBER, ["ada"], ["x:5"], False),
        PacketClaims(NUMBER, ["ada"], ["0:\u0665"], False),
        PacketClaims(NUMBER, ["ada"], ["0:5-1"], False),
        PacketClaims(NUMBER, ["ada"], ["0:5,1:7"], False),
        PacketClaims(NUMBER, ["ada", "bob"], ["0:5:1", "7"], False),
        PacketClaims(NUMBER, ["ada", "bob"], ["0,5", "1:7:3"], False),
        PacketClaims(NUMBER, ["ada", "bob"], ["0:5"], False),
        PacketClaims("not a number", ["ada"], ["0:5"], False),
    ],
)
def test_shares_that_make_no_sense_are_unreadable(claimed: PacketClaims) -> None:
    with pytest.raises(UnreadableEventError):
        changes_of(ClaimsEvent(1, AT_MS, [claimed]), 10)


@pytest.mark.parametrize("event", [["opened", 2, AT_MS, NUMBER], ["opened", 2, [AT_MS]], ["blessed", 9]])
def test_a_newer_event_is_told_from_garbage(event: object) -> None:
    with pytest.raises(NewerEventError, match="has version"):
        decode(msgspec.msgpack.encode(event))


@pytest.mark.parametrize(
    "event",
    [
        OpenedEvent(1, 2**63, NUMBER),
        OpenedEvent(1, -1, NUMBER),
        ClosedEvent(1, AT_MS, NUMBER, PacketState.OPEN, 1, 1),
        ClosedEvent(1, AT_MS, NUMBER, PacketState.EXPIRED, 2**40, 1),
        ClosedEvent(1, AT_MS, NUMBER, PacketState.EXPIRED, 1, 2**60),
        ClaimsEvent(1, AT_MS, [PacketClaims(NUMBER, ["ada"], [f"{2**40}:5"], False)]),
        ClaimsEvent(1, AT_MS, [PacketClaims(NUMBER, ["ada"], [f"0:{2**70}"], False)]),
        ClaimsEvent(1, AT_MS, [PacketClaims(NUMBER, [], [], False)]),
    ],
)
def test_what_no_column_can_hold_is_unreadable(event: Event) -> None:
    with pytest.raises(UnreadableEventError):
        changes_of(event, 10)
