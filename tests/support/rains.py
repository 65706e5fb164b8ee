"""Campaigns for tests: made, waited for, and grabbed in as clients do."""

from uuid import uuid4

from engine.access.admissions import Admission
from engine.campaigns.campaigns import CampaignMade
from engine.campaigns.draws import MILLION
from engine.campaigns.grabbing import Grab, GrabOutcome
from engine.campaigns.terms import CampaignTerms, Entry, PrizeTerms, WaveTerms, campaign_terms
from engine.campaigns.views import CampaignState
from engine.engine import Engine
from engine.errors import UnavailableError
from engine.records import SplitKind
from tests.support.scenes import fund
from tests.support.waiting import wait_until

NAME = "春节红包雨"


async def make(
    engine: Engine,
    *waves: tuple[int, int, int, int],
    owner: str = "mall",
    key: str | None = None,
    name: str = NAME,
    split: SplitKind = SplitKind.LUCKY,
    odds_millionths: int = MILLION,
    lanes: int | None = None,
    entry: Entry | None = None,
    has_money: bool = True,
) -> CampaignMade:
    """A campaign of waves (starts in ms, seconds, total, count) that give money."""
    if has_money:
        await fund(engine, owner, sum(total_fen for _, _, total_fen, _ in waves))
    of_money = [
        (in_ms, seconds, (PrizeTerms(total_fen=total_fen, count=count, split=split),))
        for in_ms, seconds, total_fen, count in waves
    ]
    return await make_of(
        engine, *of_money, owner=owner, key=key, name=name, odds_millionths=odds_millionths, lanes=lanes, entry=entry
    )


async def make_of(
    engine: Engine,
    *waves: tuple[int, int, tuple[PrizeTerms, ...]],
    owner: str = "mall",
    key: str | None = None,
    name: str = NAME,
    odds_millionths: int = MILLION,
    lanes: int | None = None,
    entry: Entry | None = None,
) -> CampaignMade:
    """A campaign of waves (starts in ms, seconds, prizes), whose owner has what they give."""

    async def terms(now_ms: int) -> CampaignTerms:
        return campaign_terms(
            settings=engine.settings,
            now_ms=now_ms,
            name=name,
            waves=[
                WaveTerms(starts_at_ms=now_ms + in_ms, seconds=seconds, prizes=prizes)
                for in_ms, seconds, prizes in waves
            ],
            odds_millionths=odds_millionths,
            lanes=lanes,
            entry=entry,
        )

    return await engine.campaigns.make(
        owner, terms, address="", idempotency_key=key or uuid4().hex, request_hash=b"rain"
    )


async def ready(engine: Engine, campaign_id: str) -> bool:
    """Whether every share is in Redis."""
    return (await engine.campaign_views.get(campaign_id)).state is not CampaignState.LOADING


async def running(engine: Engine, campaign_id: str, wave: int) -> None:
    """Wait until a wave is going on and its shares are there."""

    async def is_running() -> bool:
        grab = await engine.grabbing.grab(campaign_id, "nobody-in-particular")
        return grab.wave == wave and grab.outcome not in (GrabOutcome.NOT_STARTED, GrabOutcome.BETWEEN_WAVES)

    await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
    await wait_until(is_running, what=f"wave {wave}")


async def grab_until_told(engine: Engine, campaign_id: str, user_id: str, admission: Admission | None = None) -> Grab:
    """As clients do: whoever is told to try again tries again."""

    async def told() -> Grab | None:
        try:
            return await engine.grabbing.grab(campaign_id, user_id, admission)
        except UnavailableError:
            return None

    grab = await wait_until(told, timeout_s=60, what=f"an answer to {user_id}")
    assert isinstance(grab, Grab)
    return grab


def fen_of(grab: Grab) -> int:
    """What a grab of money tells, in fen: one share's amount, or that of all together."""
    assert {share.asset for share in grab.shares} <= {"CNY"}
    return sum(share.amount_fen for share in grab.shares)


async def buckets_of(engine: Engine, campaign_id: str) -> list[list[str]]:
    """The packets of each wave."""
    rows = await engine.pool.fetch(
        "SELECT wave, packet_id FROM campaign_buckets WHERE campaign_id = $1 ORDER BY wave, bucket", int(campaign_id)
    )
    waves: dict[int, list[str]] = {}
    for row in rows:
        waves.setdefault(row["wave"], []).append(str(row["packet_id"]))
    return list(waves.values())
