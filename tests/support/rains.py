"""Campaigns for tests: made, waited for, and grabbed in as clients do."""

from uuid import uuid4

from engine.campaigns.campaigns import CampaignMade
from engine.campaigns.draws import MILLION
from engine.campaigns.grabbing import Grab
from engine.campaigns.terms import CampaignTerms, WaveTerms, campaign_terms
from engine.campaigns.views import CampaignState
from engine.engine import Engine
from engine.errors import UnavailableError
from engine.records import SplitKind
from tests.support.scenes import fund
from tests.support.waiting import wait_until


async def make(
    engine: Engine,
    *waves: tuple[int, int, int, int],
    owner: str = "mall",
    key: str | None = None,
    split: SplitKind = SplitKind.LUCKY,
    odds_millionths: int = MILLION,
    buckets: int | None = None,
    has_money: bool = True,
) -> CampaignMade:
    """A campaign of waves (starts in ms, seconds, total, count)."""
    if has_money:
        await fund(engine, owner, sum(total_fen for _, _, total_fen, _ in waves))

    async def terms(now_ms: int) -> CampaignTerms:
        of_waves = [
            WaveTerms(starts_at_ms=now_ms + in_ms, seconds=seconds, total_fen=total_fen, count=count)
            for in_ms, seconds, total_fen, count in waves
        ]
        return campaign_terms(
            settings=engine.settings,
            now_ms=now_ms,
            name="春节红包雨",
            split=split,
            waves=of_waves,
            odds_millionths=odds_millionths,
            buckets=buckets,
        )

    return await engine.campaigns.make(
        owner, terms, address="", idempotency_key=key or uuid4().hex, request_hash=b"rain"
    )


async def ready(engine: Engine, campaign_id: str) -> bool:
    """Whether every share is in Redis."""
    return (await engine.campaign_views.get(campaign_id)).state is not CampaignState.LOADING


async def grab_until_told(engine: Engine, campaign_id: str, user_id: str) -> Grab:
    """As clients do: whoever is told to try again tries again."""

    async def told() -> Grab | None:
        try:
            return await engine.grabbing.grab(campaign_id, user_id)
        except UnavailableError:
            return None

    grab = await wait_until(told, timeout_s=60, what=f"an answer to {user_id}")
    assert isinstance(grab, Grab)
    return grab


async def buckets_of(engine: Engine, campaign_id: str) -> list[list[str]]:
    """The packets of each wave."""
    rows = await engine.pool.fetch(
        "SELECT wave, packet_id FROM campaign_buckets WHERE campaign_id = $1 ORDER BY wave, bucket", int(campaign_id)
    )
    waves: dict[int, list[str]] = {}
    for row in rows:
        waves.setdefault(row["wave"], []).append(str(row["packet_id"]))
    return list(waves.values())
