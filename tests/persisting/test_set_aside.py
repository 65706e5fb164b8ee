"""A bad entry in the stream of a lane: all name it, no other lane suffers, and this one goes on once it is aside."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.engine import Engine
from engine.errors import OperatorError, UnavailableError
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.replies import CloseReason
from engine.persisting.quarantine import Quarantine
from engine.records import Ack, Outcome
from engine.settings import Settings
from tests.support.bad_entries import (
    NEWER,
    Fields,
    behind,
    gauge,
    last_entry,
    put_counted,
    put_foreign,
    set_aside,
    spoil,
    told,
    write_all_off,
    wrong,
)
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order
from tests.support.scenes import caught_up, changed, claimed, persisting, positions, send_in, settled
from tests.support.waiting import wait_until

CLAIM = ["claims", 1, 1, [["1000000000000000001", ["bob"], ["0:5"], False]]]


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """Two lanes: the first is harmed, the second must not notice."""
    async with Engine.open(changed(settings, lanes=2, redis_timeout_s=2.0)) as engine:
        yield engine


async def claims(engine: Engine, packet_id: str, *users: str) -> dict[str, int]:
    """Claim, one after the other; what each has."""
    won = {}
    for user in users:
        result = await engine.claims.claim(packet_id, user)
        assert result.outcome is Outcome.CLAIMED
        won[user] = result.amount_fen
    return won


def event(*words: object) -> bytes:
    return msgspec.msgpack.encode(words)


async def test_a_foreign_entry_stops_the_lane_until_it_is_set_aside(engine: Engine) -> None:
    packet, other = await send_in(engine, 0, count=10), await send_in(engine, 1, count=10)
    won = await claims(engine, packet, "ann", "bob")
    entry_id = await put_foreign(engine)
    with pytest.raises(UnavailableError):
        await engine.claims.claim(packet, "cat")
    with capture_logs() as logs:
        async with persisting(engine.settings):
            await claims(engine, other, "dan")
            await wait_until(lambda: [log for log in logs if log["event"] == "unreadable_event"], what="the log")

            async def has_what_came_before() -> bool:
                return await claimed(engine.pool, packet) == won and await behind(engine, 1) == 0

            await wait_until(has_what_came_before, what="applying what comes before, and the other lane")
            for name, said in (await told(engine)).items():
                assert entry_id.removesuffix("-0") in said, name
                assert name == "metrics" or ("ane 0" in said and entry_id in said), name
            assert await gauge(engine, 1) == 0
            assert "the lane did not count it" in await set_aside_elsewhere(engine, entry_id)
            await wait_until(lambda: is_served(engine, packet, "cat"), what="serving again")
            await caught_up(engine)
    (log,) = [log for log in logs if log["event"] == "unreadable_event"]
    assert (log["lane"], log["position"], log["entry"]) == (0, int(entry_id[:-2]), entry_id)
    assert "cannot be read" in log["found"]
    assert await claimed(engine.pool, packet) == won | await amounts(engine, packet, "cat")
    assert await gauge(engine) == 0
    await assert_in_order(engine)
    async with Quarantine.open(engine.settings) as quarantine:
        (kept,) = [entry async for entry in quarantine.entries()]
    assert (kept.lane, kept.entry_id, kept.changes, kept.set_aside_by, kept.reason) == (
        0,
        entry_id,
        0,
        "root",
        "a test",
    )
    assert [bytes.fromhex(part) for part in kept.fields] == [b"event", b"garbage"]


async def set_aside_elsewhere(engine: Engine, entry_id: str) -> str:
    """Set aside, while a persister wants the lane as well; what was said of another entry before."""
    with pytest.raises(OperatorError, match=r"77-0 is not what stops lane 0") as refused:
        await set_aside(engine, "77-0")
    assert "nothing else was changed" in await set_aside(engine, entry_id)
    return str(refused.value)


async def is_served(engine: Engine, packet: str, user: str) -> bool:
    try:
        return (await engine.claims.claim(packet, user)).outcome in (Outcome.CLAIMED, Outcome.ALREADY)
    except UnavailableError:
        return False


async def amounts(engine: Engine, packet: str, user: str) -> dict[str, int]:
    """What a user has of a packet, by Redis."""
    row = await engine.store.claim_of(packet, user)
    assert row is not None
    return {user: row.amount_fen}


@pytest.mark.long
@pytest.mark.parametrize("ahead", [1, 1_000_000])
async def test_a_foreign_entry_that_was_deleted_by_hand_stops_nobody_for_long(engine: Engine, ahead: int) -> None:
    """Redis remembers the last ID of a stream: without help the lane could not write for good."""
    packet = await send_in(engine, 0, count=10)
    entry_id = await put_foreign(engine, ahead=ahead)
    await command(engine.redis, "XDEL", keys.events(0), entry_id)
    with pytest.raises(UnavailableError):
        await engine.claims.claim(packet, "ann")
    assert entry_id in " ".join(await engine.ready())
    async with persisting(engine.settings):
        await wait_until(lambda: is_served(engine, packet, "ann"), what="serving again")
        await caught_up(engine)
    await assert_in_order(engine)


async def test_recover_lets_such_a_lane_serve_where_no_persister_does(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=10)
    async with persisting(engine.settings):
        await caught_up(engine)
    await command(engine.redis, "XDEL", keys.events(0), await put_foreign(engine))
    assert (await told(engine))["recover"] == "in order"
    await claims(engine, packet, "ann")


async def test_a_foreign_entry_between_two_events_goes_and_they_join_on(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=10)
    entry_id = await put_foreign(engine)
    users = ["ann", "bob", "cat"]
    await engine.claims.claim_many([(packet, user) for user in users])  # one event of three changes goes past it
    assert await engine.ready() == []
    assert entry_id in (await told(engine))["audit"]
    await set_aside(engine, entry_id)
    async with persisting(engine.settings):
        await caught_up(engine)
    assert set(await claimed(engine.pool, packet)) == set(users)
    await assert_in_order(engine)


async def test_what_redis_shows_of_a_spoilt_event_comes_into_the_ledger(engine: Engine) -> None:
    packet, small = await send_in(engine, 0, count=10), await send_in(engine, 0, count=2, total_fen=100)
    async with persisting(engine.settings):
        await caught_up(engine)
    spoilt_users = ["ann", "bob"]
    await engine.claims.claim_many([(packet, "ann"), (packet, "bob"), (small, "ann"), (small, "bob")])
    entry_id = await last_entry(engine)
    after = await claims(engine, packet, "cat")
    await spoil(engine, entry_id, b"garbage")
    assert await engine.ready() == []  # claims go on
    said = await told(engine)
    assert {name: entry_id in text for name, text in said.items() if name not in ("metrics", "readyz")} == {
        "doctor": True,
        "audit": True,
        "recover": True,
    }
    assert "replaces 4 of its changes" in said["recover"]
    assert "Redis shows 4" in await set_aside(engine, entry_id)
    async with persisting(engine.settings):
        await settled(engine, small)
        await caught_up(engine)
    for user in spoilt_users:
        assert (packet, user) in await amounts_in_ledger(engine)
        assert (small, user) in await amounts_in_ledger(engine)
    assert (await claimed(engine.pool, packet))["cat"] == after["cat"]
    await assert_in_order(engine)


async def test_a_spoilt_opening_and_a_spoilt_end_are_found_as_well(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=10)
    opening = await last_entry(engine)
    await spoil(engine, opening, b"")
    assert "Redis shows 1" in await set_aside(engine, opening)
    await claims(engine, packet, "ann")
    await engine.store.close(packet, CloseReason.RETURNED)
    end = await last_entry(engine)
    await spoil(engine, end, event("closed", 1, 1, packet, "bored", 1, 1))
    assert "Redis shows 1" in await set_aside(engine, end)
    async with persisting(engine.settings):
        await settled(engine, packet)
    await assert_in_order(engine)


async def test_two_spoilt_events_are_set_aside_one_after_the_other(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=3)
    won: dict[str, int] = {}
    spoilt = []
    for user in ("ann", "bob", "cat"):
        won |= await claims(engine, packet, user)
        spoilt.append(await last_entry(engine))
    for entry_id in spoilt:
        await spoil(engine, entry_id, b"garbage")
    for entry_id in spoilt:
        assert "Redis shows 1" in await set_aside(engine, entry_id)
    async with persisting(engine.settings):
        await settled(engine, packet)
    assert await claimed(engine.pool, packet) == won
    await assert_in_order(engine)


async def test_what_nobody_knows_is_told_by_the_audit_until_it_is_written_off(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=10)
    won = await claims(engine, packet, "ann")
    entry_id = await put_counted(engine, changes=3)
    assert "3 of them are unknown" in await set_aside(engine, entry_id)
    won |= await claims(engine, packet, "bob")
    async with persisting(engine.settings):
        await caught_up(engine)
    assert await claimed(engine.pool, packet) == won
    (problem,) = (await wrong(engine)).pop("nothing_quarantined")
    assert "lane 0, change 5: 3 changes are not known: entry 5-0 was set aside" in problem
    async with Quarantine.open(engine.settings) as quarantine:
        (row,) = [row async for row in quarantine.rows()]
        assert (row.kind, row.packet_id, row.position) == ("unreadable", None, 5)
        assert "these changes are unknown" in (await quarantine.retry(row.quarantine_id, by="root")).sentence
    await write_all_off(engine)
    await assert_in_order(engine)


async def test_a_newer_event_waits_for_the_upgrade_unless_the_operator_insists(engine: Engine) -> None:
    packet = await send_in(engine, 0, count=10)
    await claims(engine, packet, "ann")
    entry_id = await last_entry(engine)
    await spoil(engine, entry_id, NEWER)
    with pytest.raises(OperatorError, match=r"version 2; this release knows 1.*upgrade.*--force"):
        await set_aside(engine, entry_id)
    assert await engine.redis.xlen(keys.events(0)) == 2
    assert "Redis shows 1" in await set_aside(engine, entry_id, force=True)
    async with persisting(engine.settings):
        await caught_up(engine)
    assert set(await claimed(engine.pool, packet)) == {"ann"}
    await assert_in_order(engine)


async def test_claims_that_wait_for_the_ledger_make_the_process_not_ready(engine: Engine, settings: Settings) -> None:
    entry_id = await put_counted(engine)
    assert await engine.ready() == []
    async with Engine.open(changed(settings, lanes=2, ack=Ack.LEDGER)) as strict:
        assert entry_id in " ".join(await strict.ready())


async def test_nothing_is_set_aside_that_stops_nobody(engine: Engine) -> None:
    await send_in(engine, 0, count=10)
    with pytest.raises(OperatorError, match="No entry stops lane 0"):
        await set_aside(engine, await last_entry(engine))
    with pytest.raises(OperatorError, match="There is no lane 7"):
        await set_aside(engine, "1-0", lane=7)
    await engine.redis.delete(keys.lane(0))
    with pytest.raises(OperatorError, match="run `hongbao recover` first"):
        await set_aside(engine, "1-0")


async def test_a_lane_that_a_persister_works_on_is_not_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the lane's lease for as long as nothing stops it."""
    packet = await send_in(engine, 0, count=10)
    async with persisting(engine.settings):
        await claims(engine, packet, "ann")
        await caught_up(engine)
        monkeypatch.setattr("engine.recovery.gate.wait_for_lease", None)
        with pytest.raises(OperatorError, match="No entry stops lane 0"):
            await set_aside(engine, "1-0")


async def test_a_change_that_is_gone_is_no_bad_entry(engine: Engine) -> None:
    """What comes after it is the lane's own, and must not be set aside for it."""
    packet = await send_in(engine, 0, count=10)
    await claims(engine, packet, "ann")
    await command(engine.redis, "XDEL", keys.events(0), await last_entry(engine))
    await claims(engine, packet, "bob")
    with pytest.raises(OperatorError, match="No entry stops lane 0"):
        await set_aside(engine, await last_entry(engine))
    assert "are gone from the stream" in (await told(engine))["audit"]


@pytest.mark.long
@pytest.mark.parametrize("harm", [keys.events(0), keys.lane(0)], ids=["the stream", "the lane"])
@pytest.mark.parametrize("kind", ["SET", "RPUSH"])
async def test_a_key_of_another_type_harms_no_other_lane_and_is_rebuilt(engine: Engine, harm: str, kind: str) -> None:
    packet, other = await send_in(engine, 0, count=10), await send_in(engine, 1, count=10)
    async with persisting(engine.settings):
        won = await claims(engine, packet, "ann")
        await caught_up(engine)
    await engine.redis.delete(harm)
    await command(engine.redis, kind, harm, "garbage")
    with pytest.raises(UnavailableError):
        await engine.claims.claim(packet, "bob")
    await engine.measure()
    assert "Lane 0" in " ".join(await engine.ready())
    assert "lane 0" in " ".join((await wrong(engine))["stream_continues_ledger"])
    await claims(engine, other, "ann")
    async with persisting(changed(engine.settings, recover_automatically=True)):
        await wait_until(lambda: is_served(engine, packet, "bob"), what="serving again")
        await caught_up(engine)
    assert (await claimed(engine.pool, packet))["ann"] == won["ann"]
    await assert_in_order(engine)


@pytest.mark.parametrize(
    "payload",
    [
        event("claims", 1, 1, [["1000000000000000001", ["bob"], [f"0:{2**70}"], False]]),
        event("claims", 1, 1, [["1000000000000000001", ["b\0b"], ["0:5"], False]]),
        event("claims", 1, 1, [["1000000000000000001", ["b" * 5_000], ["0:5"], False]]),
        event("claims", 1, 1, [["1000100000000000001", ["bob"], ["0:5"], False]]),  # of another lane
        msgspec.msgpack.encode(CLAIM).replace(b"\xa3bob", b"\xa3b\xffb"),
        event("opened", 1, 2**60, "1000000000000000001"),
        event("closed", 1, 1, "1000000000000000001", "exhausted", 0, 0),
    ],
    ids=["amount", "user", "long user", "lane", "utf-8", "time", "reason"],
)
async def test_values_that_nothing_can_hold_stop_the_lane_and_are_set_aside(engine: Engine, payload: bytes) -> None:
    entry_id = await put_counted(engine, ("event", payload))
    async with persisting(engine.settings):
        assert entry_id in (await told(engine))["audit"]
        await set_aside(engine, entry_id)
        await caught_up(engine)
    assert len(await write_all_off(engine)) == 1
    await assert_in_order(engine)


@pytest.mark.parametrize("share", ["0:-5", "0:5", "-1:5"])
async def test_values_that_break_a_rule_of_the_ledger_are_quarantined_as_ever(engine: Engine, share: str) -> None:
    """An unknown packet, and an amount or a share that no packet has."""
    payload = event("claims", 1, 1, [[new_packet_number(0), ["bob"], [share], False]])
    await put_counted(engine, ("event", payload))
    async with persisting(engine.settings):
        await caught_up(engine)
    assert len(await write_all_off(engine)) == 1


PAYLOADS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([NEWER, b"", event(), event("opened"), event("opened", 1, 1, "7"), event("claims", 1, 1, [])]),
    st.lists(st.one_of(st.integers(-5, 2**63), st.text(max_size=5), st.none()), max_size=6).map(msgspec.msgpack.encode),
)
FIELDS = st.tuples(st.sampled_from(["event", "Event", "", "other"]), PAYLOADS)
PLACES = st.sampled_from([("foreign", 1), ("foreign", 10**15), ("counted", 1), ("counted", 7), ("under", 1)])


@pytest.mark.long
@pytest.mark.long
@examples(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(fields=FIELDS, place=PLACES, before=st.integers(0, 3))
async def test_whatever_stands_in_the_stream_is_named_and_set_aside(
    engine: Engine, fields: Fields, place: tuple[str, int], before: int
) -> None:
    packet = await send_in(engine, 0, count=5)
    won = await claims(engine, packet, *(f"user{number}" for number in range(before)))
    kind, by = place
    if kind == "under":  # an ID that no script makes, below the lane's next
        entry_id = f"{(await positions(engine))[0]}-{by}"
        await command(engine.redis, "XADD", keys.events(0), entry_id, *fields)
    elif kind == "foreign":
        entry_id = await put_foreign(engine, fields, ahead=by)
    else:
        entry_id = await put_counted(engine, fields, changes=by)
    said = await told(engine)
    for name in ("audit", "recover"):
        assert f"ane 0 has a bad entry at {entry_id}" in said[name], name
    assert (entry_id in said["readyz"]) == (kind == "foreign")
    async with persisting(engine.settings):

        async def is_told() -> bool:
            return await gauge(engine) == int(entry_id.partition("-")[0])

        await wait_until(is_told, what="its being the next")
        assert entry_id in (await told(engine))["doctor"]
        await set_aside(engine, entry_id, force=True)
        won |= await claims(engine, packet, "last")
        await caught_up(engine)
    assert len(await write_all_off(engine)) == (kind == "counted")
    assert await claimed(engine.pool, packet) == won
    assert await gauge(engine) == 0
    await assert_in_order(engine)


async def test_two_operators_at_once_set_it_aside_once(engine: Engine) -> None:
    entry_id = await put_foreign(engine)
    results = await asyncio.gather(*(set_aside(engine, entry_id) for _ in range(2)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["OperatorError", "str"]
