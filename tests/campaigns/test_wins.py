"""What a user has won in a campaign is told at once, while a wave is going on, and for good."""

import pytest

from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.terms import Entry, PrizeTerms
from engine.campaigns.wins import CampaignWins
from engine.engine import Engine
from engine.errors import UnknownCampaignError
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.coupons import make_batch, with_keys
from tests.support.rains import grab_until_told, make, make_of, running
from tests.support.scenes import fund, persisting, sweeping
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    return with_keys(settings)


def fen_of(wins: CampaignWins) -> dict[int, list[int]]:
    return {wave.wave: [share.amount_fen for share in wave.shares] for wave in wins.waves}


@pytest.mark.long  # its waves are long enough for a machine with other work
async def test_each_share_is_told_before_and_after_the_ledger_has_it(engine: Engine, settings: Settings) -> None:
    entry = Entry(wave_wins_max=2)
    waves = ((1_000, 5, 1_000, 10), (7_000, 5, 1_000, 10), (3_600_000, 1, 1_000, 10))
    campaign_id = (await make(engine, *waves, entry=entry)).campaign_id
    assert fen_of(await engine.wins.of(campaign_id, "bob")) == {}
    won: dict[int, list[int]] = {1: [], 2: []}
    async with persisting(settings), sweeping(settings):
        for wave in (1, 2):
            await running(engine, campaign_id, wave)
            for _ in range(wave):  # one in the first, two in the second
                grab = await grab_until_told(engine, campaign_id, "bob")
                won[wave] += [share.amount_fen for share in grab.shares]
                told = fen_of(await engine.wins.of(campaign_id, "bob"))
                assert {number: sorted(shares) for number, shares in told.items()} == {
                    number: sorted(shares) for number, shares in won.items() if shares
                }
        assert fen_of(await engine.wins.of(campaign_id, "carol")) == {}

        async def is_booked() -> bool:
            view = await engine.campaign_views.get(campaign_id)
            return all(prize.returned_fen is not None for wave in view.waves[:2] for prize in wave.prizes)

        await wait_until(is_booked, timeout_s=30, what="the waves being settled")
    told = fen_of(await engine.wins.of(campaign_id, "bob"))
    assert {number: sorted(shares) for number, shares in told.items()} == {
        number: sorted(shares) for number, shares in won.items()
    }
    with pytest.raises(UnknownCampaignError):
        await engine.wins.of("999", "bob")


async def test_a_coupon_is_told_with_its_code_which_others_do_not_see(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 4)
    await fund(engine, "mall", 1)
    prizes = (PrizeTerms(total_fen=4, count=4, split=SplitKind.EQUAL, asset=f"COUPON_{batch_id}"),)
    campaign_id = (await make_of(engine, (200, 60, prizes))).campaign_id
    async with persisting(settings), sweeping(settings):
        await running(engine, campaign_id, 1)
        grab = await grab_until_told(engine, campaign_id, "bob")
        told = await engine.wins.of(campaign_id, "bob")
    assert told.waves[0].shares == grab.shares
    coupon = told.waves[0].shares[0].coupon
    assert coupon is not None
    assert coupon.code is not None
    (hidden,) = told.without_codes().waves[0].shares
    assert hidden.coupon is not None
    assert (hidden.coupon.code, hidden.coupon.coupon_id) == (None, coupon.coupon_id)
