"""Making a campaign: it is paid whole or not at all, and each bad field is named."""

from collections.abc import AsyncIterator

import pytest

from engine.campaigns import terms as campaign_terms_module
from engine.engine import Engine
from engine.errors import (
    InsufficientFundsError,
    InvalidFieldsError,
    UnknownCampaignError,
)
from engine.settings import Settings
from tests.support.rains import make
from tests.support.scenes import changed, fund


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return changed(settings, lanes=4)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves may start at once."""
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)


async def test_a_campaign_is_paid_at_once_or_not_at_all(engine: Engine) -> None:
    await fund(engine, "mall", 699)
    with pytest.raises(InsufficientFundsError):
        await make(engine, (1_000, 60, 400, 40), (120_000, 60, 300, 30), has_money=False)
    assert (await engine.wallets.get("mall")).balance_fen == 699
    for table in ("packets", "campaigns", "campaign_waves", "campaign_prizes", "campaign_buckets"):
        assert await engine.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    await fund(engine, "mall", 1)
    made = await make(engine, (1_000, 60, 400, 40), (120_000, 60, 300, 30), has_money=False, key="k")
    again = await make(engine, (1_000, 60, 400, 40), (120_000, 60, 300, 30), has_money=False, key="k")
    assert (again.campaign_id, again.replayed) == (made.campaign_id, True)
    assert (await engine.wallets.get("mall")).balance_fen == 0


@pytest.mark.parametrize(
    ("waves", "fields"),
    [
        ([], ["waves"]),
        ([(0, 0, 10, 1)], ["waves[0].seconds"]),
        ([(0, 86_401, 10, 1)], ["waves[0].seconds"]),
        ([(-1_000, 5, 10, 1)], ["waves[0].starts_at_ms"]),
        ([(0, 5, 10, 1), (4_999, 5, 10, 1)], ["waves[1].starts_at_ms"]),
        ([(91 * 86_400_000, 5, 10, 1)], ["waves[0].starts_at_ms"]),
        ([(2**53, 5, 10, 1)], ["waves[0].starts_at_ms"]),
        ([(-(2**53), 5, 10, 1)], ["waves[0].starts_at_ms"]),
        ([(0, 5, 10, 0)], ["waves[0].prizes[0].count"]),
        ([(0, 5, 1, 2)], ["waves[0].prizes[0].total_fen"]),
        ([(0, 5, 40_001, 2), (6_000, 5, 0, 1)], ["waves[0].prizes[0].total_fen", "waves[1].prizes[0].total_fen"]),
    ],
)
async def test_bad_waves_are_named(engine: Engine, waves: list[tuple[int, int, int, int]], fields: list[str]) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await make(engine, *waves, has_money=False)
    assert [problem.field for problem in caught.value.problems] == fields


async def test_many_shares_need_time_to_be_loaded(settings: Settings) -> None:
    """Three million took 4 s on two cores, and no wave is loaded before the others."""
    settings = changed(settings, count_max=10_000_000, merchant_count_max=10_000_000)
    async with Engine.open(settings) as engine:
        waves = [(4_000, 5, 1_000_000, 1_000_000), (20_000, 5, 1, 1)]
        with pytest.raises(InvalidFieldsError, match="at least 5 s"):
            await make(engine, *waves, has_money=False)
        waves[0] = (5_000, *waves[0][1:])
        assert (await make(engine, *waves)).count == 1_000_001


async def test_bad_terms_are_named_all_at_once(engine: Engine) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await make(engine, (0, 5, 10, 2), odds_millionths=0, lanes=5, has_money=False)
    assert [problem.field for problem in caught.value.problems] == ["odds_millionths", "lanes"]
    with pytest.raises(UnknownCampaignError):
        await engine.grabbing.grab("77", "ada")


async def test_what_is_refused_for_the_whole_of_it_names_the_waves(settings: Settings) -> None:
    async with Engine.open(changed(settings, count_max=39)) as engine:
        with pytest.raises(InvalidFieldsError) as caught:
            await make(engine, (1_000, 5, 400, 20), (7_000, 5, 400, 20))
        assert [problem.field for problem in caught.value.problems] == ["waves"]
        with pytest.raises(InsufficientFundsError) as short:
            await make(engine, (1_000, 5, 4_000, 20), has_money=False)
        assert short.value.field == "waves"


async def test_a_large_campaign_is_told_and_freezes_as_a_packet_does(settings: Settings) -> None:
    settings = changed(settings, alert_large_fen=1_000, freeze_large_fen=2_000, alert_sends_a_minute_max=4)
    async with Engine.open(settings) as engine:
        for total_fen in (999, 1_999, 2_000):
            assert await engine.freezes.of("mall") == []
            await make(engine, (1_000, 5, total_fen - 100, 20), (7_000, 5, 100, 10))
        alerts = (await engine.alerts.page(after=None, limit=10)).alerts
        assert {alert.kind for alert in alerts} == {"large_movement"}  # three campaigns are no burst of packets
