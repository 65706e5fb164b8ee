"""A packet rain of coupons: each winner has one, and what nobody won comes back to the merchant."""

from collections.abc import AsyncIterator

import pytest

from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.grabbing import Asked, Grab, GrabOutcome
from engine.campaigns.terms import PrizeTerms
from engine.engine import Engine
from engine.errors import InvalidFieldsError
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.coupons import make_batch, problems, statement, with_keys
from tests.support.rains import buckets_of, grab_until_told, make_of, running
from tests.support.scenes import changed, fund, persisting, settled, sweeping

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


async def rain(engine: Engine, batch_id: str, *, count: int, total: int, seconds: int = 4) -> str:
    """A campaign of one wave of coupons and a little money; its number."""
    coupons = PrizeTerms(total_fen=total, count=count, split=SplitKind.EQUAL, asset=f"COUPON_{batch_id}")
    money = PrizeTerms(total_fen=300, count=3, split=SplitKind.LUCKY)
    await fund(engine, "mall", 300)
    return (await make_of(engine, (1_000, seconds, (coupons, money)))).campaign_id


@pytest.mark.long
async def test_each_winner_of_a_rain_has_a_coupon(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 30, codes=CODES)
    async with persisting(settings), sweeping(settings):
        campaign_id = await rain(engine, batch_id, count=24, total=24)
        await running(engine, campaign_id, 1)
        users = [f"user{number}" for number in range(9)]
        first = [await grab_until_told(engine, campaign_id, user) for user in users]
        many = await engine.grabbing.grab_many([Asked(campaign_id, user) for user in users])
        packets = [packet_id for wave in await buckets_of(engine, campaign_id) for packet_id in wave]
        await settled(engine, *packets)
        late = [await grab_until_told(engine, campaign_id, user) for user in users]
        assert {grab.outcome for grab in first} == {GrabOutcome.CLAIMED}
        for told, again, last in zip(first, many, late, strict=True):
            assert isinstance(again, Grab)
            assert (again.outcome, again.shares) == (GrabOutcome.ALREADY_CLAIMED, told.shares)
            assert (last.outcome, last.shares) == (GrabOutcome.ALREADY_CLAIMED, told.shares)
        shares = [share for grab in first for share in grab.shares]
        codes = [share.coupon.code for share in shares if share.coupon is not None]
        assert [share.asset for share in shares if share.coupon is None] == ["CNY"] * (9 - len(codes))
        assert len(set(codes)) == len(codes) >= 6
        assert set(codes) <= set(CODES)
        pages = [
            await engine.coupons.of_holder(user, state=None, after=None, limit=9, shows_codes=True) for user in users
        ]
        assert sorted(coupon.code or "" for page in pages for coupon in page.coupons) == sorted(map(str, codes))
        found = await statement(engine, batch_id)
        assert found.in_packets == 0
        assert (found.held, found.held + found.unsent) in ((len(codes), 30), (len(codes) + 1, 30))  # who waited for it
        assert await problems(engine) == []


async def test_a_rain_gives_one_coupon_per_share_and_ends_with_them(engine: Engine) -> None:
    batch_id = await make_batch(engine, 30, valid_in_ms=(0, 60_000))
    with pytest.raises(InvalidFieldsError, match=r"waves\[0\]\.prizes: total_fen must be"):
        await rain(engine, batch_id, count=3, total=6)
    with pytest.raises(InvalidFieldsError, match=r"^waves\[0\]\.seconds: must end by"):
        await rain(engine, batch_id, count=3, total=3, seconds=600)


async def test_a_wave_of_coupons_is_not_extended_past_their_time(engine: Engine) -> None:
    batch_id = await make_batch(engine, 30, valid_in_ms=(0, 60_000))
    until_ms = (await engine.coupon_batches.known(int(batch_id))).terms.valid_until_ms
    campaign_id = await rain(engine, batch_id, count=3, total=3, seconds=30)
    with pytest.raises(InvalidFieldsError, match=f"^ends_at_ms: must be at most {until_ms}, when the time of coupons"):
        await engine.campaigns.extend(campaign_id, "mall", 1, until_ms + 1)
    await engine.campaigns.extend(campaign_id, "mall", 1, until_ms)
    await engine.campaigns.extend(campaign_id, "mall", 1, until_ms)  # a repeat changes nothing
    assert (await engine.campaign_views.get(campaign_id)).waves[0].ends_at_ms == until_ms
