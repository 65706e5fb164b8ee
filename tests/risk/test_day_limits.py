"""What counts in a day's limit on sending once it has come back."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from engine.engine import Engine
from engine.errors import LimitExceededError
from engine.lanes.replies import CloseReason
from engine.packets.terms import terms_from
from engine.records import SplitKind
from engine.risk.limits import AccountKind, day_ms
from engine.settings import Settings
from tests.support.days import whole_day
from tests.support.scenes import assert_books_balance, fund, let_time_run_out, persisting, settled, sweeping

LABEL = "team"


@pytest.fixture(autouse=True)
async def _day() -> None:
    """What is sent is counted by the day: each test has one to itself."""
    await whole_day()


async def send(engine: Engine, sender: str, total_fen: int) -> str:
    terms = terms_from(settings=engine.settings, total_fen=total_fen, count=1, split=SplitKind.LUCKY, label=LABEL)
    sent = await engine.packets.send(sender, terms, idempotency_key=uuid4().hex, request_hash=b"send")
    return sent.packet_id


async def retracted(engine: Engine) -> str:
    """A packet of 700 that alice took back."""
    packet_id = await send(engine, "alice", 700)
    await engine.retractions.retract(packet_id, "alice", confirmed=True)
    return packet_id


async def cancelled(engine: Engine) -> str:
    """A transfer of 700 that alice called off."""
    key = uuid4().hex
    sent, _ = await engine.transfers.send("alice", "bob", 700, idempotency_key=key, request_hash=b"send")
    await engine.transfers.cancel(sent.transfer_id, "alice")
    return sent.transfer_id


async def limit(engine: Engine, limit_fen: int = 1_000) -> None:
    """What alice may send in a day."""
    await engine.profiles.put("alice", AccountKind.PERSON, [], {"day_sent_fen_max": limit_fen}, changed_by="root")


async def left_fen(engine: Engine, sender: str) -> int:
    """What the sender may still send today."""
    with pytest.raises(LimitExceededError) as caught:
        await send(engine, sender, 5_000)
    assert caught.value.until_ms == day_ms(await engine.store.now_ms(0))[1]
    return caught.value.left_fen


@pytest.mark.parametrize("take_back", [retracted, cancelled])
async def test_what_its_sender_takes_back_counts_no_more(
    engine: Engine, settings: Settings, take_back: Callable[[Engine], Awaitable[str]]
) -> None:
    await fund(engine, "alice", 10_000)
    await limit(engine)
    await send(engine, "alice", 200)
    for _ in range(2):
        packet_id = await take_back(engine)
        assert await left_fen(engine, "alice") == 100  # the ledger does not have it yet
        async with persisting(settings):
            await settled(engine, packet_id)
        assert await left_fen(engine, "alice") == 800
    await send(engine, "alice", 800)
    assert await left_fen(engine, "alice") == 0
    await assert_books_balance(engine.pool)


async def test_what_was_taken_back_does_not_count_in_a_limit_that_is_younger(
    engine: Engine, settings: Settings
) -> None:
    await fund(engine, "alice", 10_000)
    packet_id = await retracted(engine)
    async with persisting(settings):
        await settled(engine, packet_id)
    await send(engine, "alice", 200)
    await limit(engine)
    assert await left_fen(engine, "alice") == 800


async def test_taking_back_what_was_sent_without_a_limit_makes_no_more_room_than_there_was(
    engine: Engine, settings: Settings
) -> None:
    await fund(engine, "alice", 10_000)
    await limit(engine)
    await send(engine, "alice", 300)
    query = (
        "UPDATE profiles SET day_sent_fen_max = $1"  # as a setting that is read at a restart: nothing is counted anew
    )
    await engine.pool.execute(query, 0)
    packet_id = await send(engine, "alice", 700)
    await engine.pool.execute(query, 1_000)
    await engine.retractions.retract(packet_id, "alice", confirmed=True)
    async with persisting(settings):
        await settled(engine, packet_id)
    assert await left_fen(engine, "alice") == 700


async def test_a_groups_day_has_its_room_again_as_well(engine: Engine, settings: Settings) -> None:
    for user_id in ("alice", "carol"):
        await fund(engine, user_id, 10_000)
    await engine.profiles.put_label(LABEL, 1_000, changed_by="root")
    await send(engine, "carol", 200)
    packet_id = await retracted(engine)
    assert await left_fen(engine, "carol") == 100
    async with persisting(settings):
        await settled(engine, packet_id)
    assert await left_fen(engine, "carol") == 800


async def test_what_is_taken_back_after_its_day_leaves_the_next_day_alone(engine: Engine, settings: Settings) -> None:
    await fund(engine, "alice", 10_000)
    await limit(engine)
    packet_id = await send(engine, "alice", 300)
    await engine.pool.execute("UPDATE packets SET created_at_ms = created_at_ms - 86400000")
    await engine.pool.execute("UPDATE day_totals SET day = day - 1")
    await send(engine, "alice", 100)
    await engine.store.close(packet_id, CloseReason.RETRACTED)
    async with persisting(settings):
        await settled(engine, packet_id)
    assert await left_fen(engine, "alice") == 900
    days = await engine.pool.fetchval("SELECT count(*) FROM day_totals")
    assert days == 1  # yesterday's is gone, today's is there


async def test_what_expires_still_counts(engine: Engine, settings: Settings) -> None:
    await fund(engine, "alice", 10_000)
    await limit(engine)
    packet_id = await send(engine, "alice", 700)
    await let_time_run_out(engine, packet_id)
    async with persisting(settings), sweeping(settings):
        await settled(engine, packet_id)
    assert await left_fen(engine, "alice") == 300
