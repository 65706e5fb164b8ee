"""A packet rain of coupons: each winner has one, and what nobody won comes back to the merchant."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.grabbing import GrabOutcome
from engine.campaigns.terms import CampaignTerms, WaveTerms, campaign_terms
from engine.engine import Engine
from engine.errors import InvalidFieldsError
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.coupons import make_batch, problems, statement, with_keys
from tests.support.rains import buckets_of, grab_until_told, ready
from tests.support.scenes import changed, persisting, settled, sweeping
from tests.support.waiting import wait_until

CODES = [f"rain-{number:02d}" for number in range(30)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(changed(settings, lanes=3))


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves may start at once."""
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)


async def rain(engine: Engine, batch_id: str, *, count: int, total: int, seconds: int = 3) -> str:
    """A campaign of one wave of coupons; its number."""

    async def terms(now_ms: int) -> CampaignTerms:
        wave = WaveTerms(starts_at_ms=now_ms + 1_000, seconds=seconds, total_fen=total, count=count)
        asset = f"COUPON_{batch_id}"
        return campaign_terms(
            settings=engine.settings, now_ms=now_ms, name="券雨", split=SplitKind.EQUAL, waves=[wave], asset=asset
        )

    made = await engine.campaigns.make("mall", terms, address="", idempotency_key=uuid4().hex, request_hash=b"rain")
    return made.campaign_id


async def test_each_winner_of_a_rain_has_a_coupon(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 30, codes=CODES)
    async with persisting(settings), sweeping(settings):
        campaign_id = await rain(engine, batch_id, count=24, total=24)
        await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")

        async def has_begun() -> bool:
            return (await engine.grabbing.grab(campaign_id, "user0")).outcome is not GrabOutcome.NOT_STARTED

        await wait_until(has_begun, what="the wave")
        users = [f"user{number}" for number in range(9)]
        outcomes = {(await grab_until_told(engine, campaign_id, user)).outcome for user in users}
        assert outcomes <= {GrabOutcome.CLAIMED, GrabOutcome.ALREADY_CLAIMED}
        packets = [packet_id for wave in await buckets_of(engine, campaign_id) for packet_id in wave]
        await settled(engine, *packets)
        pages = [
            await engine.coupons.of_holder(user, state=None, after=None, limit=9, shows_codes=True) for user in users
        ]
        shown = [coupon.code for page in pages for coupon in page.coupons]
        assert len(shown) == len(set(shown)) == 9
        found = await statement(engine, batch_id)
        assert (found.held, found.unsent, found.in_packets) == (9, 21, 0)
        assert await problems(engine) == []


async def test_a_rain_gives_one_coupon_per_share_and_ends_with_them(engine: Engine) -> None:
    batch_id = await make_batch(engine, 30, valid_in_ms=(0, 60_000))
    with pytest.raises(InvalidFieldsError, match="waves: all together, total_fen must be"):
        await rain(engine, batch_id, count=3, total=6)
    with pytest.raises(InvalidFieldsError, match="waves: all together, ttl_s must end by"):
        await rain(engine, batch_id, count=3, total=3, seconds=600)
