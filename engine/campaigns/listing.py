"""All campaigns for operators: whose, when, and how far. It reads the ledger alone."""

from dataclasses import dataclass

import asyncpg

from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("campaigns")
PAGE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRow:
    """One campaign. ``money_fen``: what it gives of the ledger's currency. ``now_ms``: the ledger's clock."""

    campaign_id: str
    owner: str
    name: str
    created_at_ms: int
    is_paused: bool
    ended_at_ms: int | None
    odds_millionths: int
    starts_at_ms: int
    ends_at_ms: int
    waves: int
    shares: int
    money_fen: int
    now_ms: int

    @property
    def is_over(self) -> bool:
        """Whether nobody grabs in it any more."""
        return self.ended_at_ms is not None or self.now_ms >= self.ends_at_ms

    @property
    def has_begun(self) -> bool:
        """Whether its first wave has started."""
        return self.now_ms >= self.starts_at_ms


async def campaigns(
    pool: asyncpg.Pool, *, owner: str | None, after: str | None, limit: int
) -> tuple[list[CampaignRow], str | None]:
    """Campaigns, newest first, and the cursor of the page after it.

    Raises InvalidFieldsError for a bad cursor, UnavailableError.
    """
    (below,) = parse(after, parts=1, start=(NEWEST,))
    limit = min(limit, PAGE_MAX)
    with ledger_errors():
        rows = await pool.fetch(SQL["listed"], owner, below, limit + 1)
    found = [CampaignRow(**{**row, "campaign_id": str(row["campaign_id"])}) for row in rows[:limit]]
    return found, found[-1].campaign_id if len(rows) > limit else None
