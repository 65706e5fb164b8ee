"""What a process remembers of ended buckets: it is bounded, and reads nothing again and again."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from engine.campaigns import ended as ended_module
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.ended import Ended
from engine.engine import Engine
from engine.settings import Settings
from tests.support.rains import buckets_of, grab_until_told, make, ready
from tests.support.scenes import changed, persisting, settled, sweeping
from tests.support.waiting import wait_until


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(changed(settings, lanes=4)) as engine:
        yield engine


async def over(engine: Engine, monkeypatch: pytest.MonkeyPatch, hands: int) -> list[str]:
    """The buckets of a wave that some have won in and its owner has ended."""
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    campaign_id = (await make(engine, (0, 60, 400, 40))).campaign_id
    async with persisting(engine.settings), sweeping(engine.settings):
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
        for number in range(hands):
            await grab_until_told(engine, campaign_id, f"hand{number}")
        await engine.campaigns.end(campaign_id, "mall")
        (buckets,) = await buckets_of(engine, campaign_id)
        await settled(engine, *buckets)
    return buckets


def has_lost(ended: Ended, packet_id: str, user_id: str) -> bool:
    """Whether it is certain that a user has no share of a bucket."""
    return ended.not_lost([packet_id], user_id) == []


async def test_buckets_that_nobody_won_in_are_forgotten_too(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = await over(engine, monkeypatch, hands=0)
    monkeypatch.setattr(ended_module, "WINNERS_MAX", 2 * ended_module._BUCKET_SIZE)
    ended = Ended(engine.pool)
    for packet_id in buckets:
        assert await ended.is_booked(packet_id)
        await wait_until(partial(has_lost, ended, packet_id, "ada"), what="learning it")
    assert [has_lost(ended, packet_id, "ada") for packet_id in buckets] == [False, False, True, True]


@pytest.mark.long
async def test_a_bucket_that_lacks_a_winner_is_not_read_at_every_tap(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a claim waits in quarantine."""
    (packet_id, *_) = await over(engine, monkeypatch, hands=20)
    await engine.pool.execute("UPDATE packets SET remaining_count = remaining_count - 1")
    ended, begun = Ended(engine.pool), 0
    for _ in range(5):
        assert await ended.is_booked(packet_id)
        begun += len(ended._loading)
        await wait_until(lambda: not ended._loading, what="its end")
    assert begun == 1
    assert not has_lost(ended, packet_id, "nobody")


@pytest.mark.long
async def test_a_bucket_with_a_claim_in_quarantine_has_not_ended(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its winner has the share in Redis alone: whoever lost it there could go on and win again."""
    buckets = await over(engine, monkeypatch, hands=3)
    await engine.pool.execute(
        "INSERT INTO quarantine (lane, position, packet_id, kind, user_id, slot, amount_fen, at_ms, reason) "
        "VALUES (0, 1, $1, 'claim', 'hand1', 0, 1, 0, 'a test')",
        int(buckets[0]),
    )
    ended = Ended(engine.pool)
    assert [await ended.is_booked(packet_id) for packet_id in buckets] == [False, True, True, True]
    await engine.pool.execute(
        "UPDATE quarantine SET resolution = 'retried', resolved_at_ms = 0, resolved_by = 'a test'"
    )
    assert await ended.is_booked(buckets[0])
    await ended.close()
