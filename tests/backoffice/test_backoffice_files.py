"""One packet, one user, the lanes, the day's figures, notes."""

from datetime import timedelta

import pytest

from engine.auditing import day_movements
from engine.auditing.day_movements import count_on, of_day
from engine.backoffice.lanes_now import lanes_now, peek
from engine.backoffice.notes import Notes, SubjectKind, add_in
from engine.backoffice.overview import overview
from engine.backoffice.packet_file import Moment, PacketFiles
from engine.backoffice.user_file import UserFiles
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.errors import InvalidFieldsError, UnknownPacketError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.packets.refunds import close_now
from engine.records import SplitKind
from engine.recovery.history import recoveries
from engine.settings import Settings
from tests.support.days import whole_day
from tests.support.dispute_scene import open_scene, with_small_disputes
from tests.support.scenes import caught_up, let_time_run_out, persisting, send, settled


async def test_a_packet_is_shown_with_its_timeline_and_both_sides(engine: Engine, settings: Settings) -> None:
    files = PacketFiles(engine.pool, engine.store)
    sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
    await engine.claims.claim(sent.packet_id, "bob")
    before = await files.one(sent.packet_id)
    assert (before.facts.state, before.agrees) == ("funded", False)  # Redis has given a share that the ledger lacks
    async with persisting(settings):
        await caught_up(engine)
        told = await files.one(sent.packet_id)
        assert told.agrees
        assert told.redis is not None
        assert (told.redis.given_count, told.redis.left_fen, told.ledger.given_fen) == (1, 20, 10)
        await let_time_run_out(engine, sent.packet_id)
        await close_now(engine.store, sent.packet_id)
        await settled(engine, sent.packet_id)
        told = await files.one(sent.packet_id)
        moments = [(entry.moment, entry.amount_fen) for entry in told.timeline if entry.moment is not Moment.EXPIRES]
        assert sorted(moments) == sorted(
            [
                (Moment.SENT, 30),
                (Moment.FIRST_CLAIM, None),
                (Moment.LAST_CLAIM, None),
                (Moment.ENDED, None),
                (Moment.REFUND, 20),
                (Moment.SETTLED, None),
            ]
        )
        assert told.facts.custody_fen == 0
        assert [claim.user_id for claim in (await files.claims(sent.packet_id, after=None, limit=5)).rows] == ["bob"]
        assert told.facts.packet_id == sent.packet_id
    await command(engine.redis, "DEL", keys.packet(sent.packet_id))
    gone = await files.one(sent.packet_id)
    assert (gone.redis, gone.redis_error, gone.agrees) == (None, None, None)
    for odd in ("1", "x", "1000000000000000001"):
        with pytest.raises(UnknownPacketError):
            await files.one(odd)


async def test_a_user_is_shown_with_everything(settings: Settings) -> None:
    async with open_scene(with_small_disputes(settings)) as scene:
        engine = scene.engine
        files = UserFiles(engine.pool, engine.wallets, engine.profiles)
        dispute = await scene.file()
        async with engine.pool.acquire() as connection:
            await add_in(connection, SubjectKind.USER, "bob", "called twice", by="root")
        bob = await files.one("bob")
        assert bob.is_known
        assert (bob.wallet.balance_fen, bob.account.frozen, len(bob.disputes)) == (2_000, ["account"], 1)
        assert [note.note for note in bob.notes] == ["called twice"]
        assert bob.disputes[0].dispute_id == dispute.dispute_id
        assert (await files.one("alice")).sent_today_fen == 4_000
        nobody = await files.one("nobody")
        assert (nobody.is_known, nobody.wallet.balance_fen) == (False, 0)


async def test_notes_are_paged_checked_and_never_changed(engine: Engine) -> None:
    notes = Notes(engine.pool)
    async with engine.pool.acquire() as connection:
        for text in ("one", "two", "三"):
            await add_in(connection, SubjectKind.PACKET, "1000000000000000001", text, by="root")
        for odd in ("", "x" * 2_001, "a\0b", "\u202e"):
            with pytest.raises(InvalidFieldsError):
                await add_in(connection, SubjectKind.USER, "bob", odd, by="root")
    first = await notes.page(SubjectKind.PACKET, "1000000000000000001", after=None, limit=2)
    rest = await notes.page(SubjectKind.PACKET, "1000000000000000001", after=first.next, limit=2)
    assert [note.note for note in first.rows + rest.rows] == ["三", "two", "one"]
    assert rest.next is None
    assert (await notes.page(SubjectKind.USER, "1000000000000000001", after=None, limit=2)).rows == []
    for change in ("UPDATE notes SET note = 'x'", "DELETE FROM notes", "TRUNCATE notes"):
        with pytest.raises(Exception, match="never changed"):
            await engine.pool.execute(change)


async def test_the_day_is_summed_whether_or_not_it_was_counted(engine: Engine, settings: Settings) -> None:
    day = await whole_day()
    async with persisting(settings):
        sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
        await engine.claims.claim(sent.packet_id, "bob")
        await let_time_run_out(engine, sent.packet_id)
        await close_now(engine.store, sent.packet_id)
        await settled(engine, sent.packet_id)

    async def sums() -> dict[str, tuple[int, int]]:
        found = await of_day(engine.pool, day)
        assert found.is_whole
        return {one.kind: (one.count, one.fen) for one in found.movements if one.asset is None}

    expected = {"deposit": (1, 30), "send": (1, 30), "claim": (1, 10), "refund": (1, 20)}
    assert await sums() == expected
    assert await count_on(engine.pool, step_max=2)
    assert await sums() == expected
    while await count_on(engine.pool, step_max=1):
        assert await sums() == expected
    assert await sums() == expected
    assert await engine.pool.fetchval("SELECT sum(count) FROM day_movements") == 4
    assert not await count_on(engine.pool)
    assert await engine.pool.fetchval("SELECT sum(count) FROM day_movements") == 4
    await send(engine, total_fen=5, count=1)
    assert (await sums())["send"] == (2, 35)
    assert (await of_day(engine.pool, day - timedelta(days=1))).movements == []


async def test_a_tail_that_is_too_long_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_movements, "TAIL_MAX", 1)
    await send(engine, total_fen=5, count=1)
    assert not (await of_day(engine.pool, today())).is_whole
    while await count_on(engine.pool):
        pass
    assert (await of_day(engine.pool, today())).is_whole


async def test_lanes_are_told_from_both_sides_and_their_streams_are_peeked(engine: Engine, settings: Settings) -> None:
    sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
    await engine.claims.claim(sent.packet_id, "bob")
    lane = lane_of(sent.packet_id)
    lines = {line.lane: line for line in await lanes_now(engine.pool, engine.store, engine.stream)}
    assert set(lines) == set(engine.lanes)
    line = lines[lane]
    assert (line.serves, line.position, line.behind, line.backlog, line.checkpoint) == (True, 2, 2, 2, 0)
    assert line.behind_s is not None
    claims, opened = await peek(engine.pool, engine.stream, lane)
    assert (claims.kind, claims.packets, claims.changes, claims.sums) == (
        "claims",
        (sent.packet_id,),
        1,
        ((10, None, None),),
    )
    assert (opened.kind, opened.is_applied) == ("opened", False)
    await command(engine.redis, "XADD", keys.events(lane), "9-1", "event", "x")
    assert (await peek(engine.pool, engine.stream, lane))[0].problem is not None
    assert await peek(engine.pool, engine.stream, 999) == []
    await engine.store.fence(lane)
    lines = {line.lane: line for line in await lanes_now(engine.pool, engine.store, engine.stream)}
    assert not lines[lane].serves
    assert (await recoveries(engine.pool, lane=None, after=None, limit=5)).rows == []


async def test_the_overview_tells_what_waits(settings: Settings) -> None:
    async with open_scene(with_small_disputes(settings)) as scene:
        await scene.file()
        engine = scene.engine
        told = await overview(engine.pool, engine.store, engine.stream)
        assert told.today == today()
        assert (told.movements.of("send").fen, told.movements.of("claim").fen) == (4_000, 4_000)
        assert told.movements.of("refund").count == 0
        assert (told.waiting.disputes.open, told.waiting.freezes, told.waiting.quarantine.rows) == (1, 1, 0)
        assert (told.open_packets, told.audit, told.reconciliation) == (0, None, None)
        assert all(line.serves for line in told.lanes)
