"""Campaigns as operators look them up: whose they are, how far they are, what they put up and what came back.

All of it is from the ledger, so a list asks no server of Redis. ``views`` shows one campaign with its counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.ids import is_user_id
from engine.ledger.database import Pool, ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("campaigns")
PAGE_MAX = 200


class Stage(StrEnum):
    """How far a campaign is, by the ledger. Whether its shares are in Redis already is in its view."""

    TO_COME = "to_come"
    RUNNING = "running"
    PAUSED = "paused"
    OVER = "over"
    ENDED = "ended"  # before its last wave, by its owner or an operator


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRow:
    """A campaign in a list. ``money_fen``: what it gives of the ledger's currency; ``assets``: how many others.

    ``returned_shares``, ``returned_fen``: of the parts that have ended. ``open_parts``: how many have not.
    """

    campaign_id: str
    owner: str
    name: str
    created_at_ms: int
    stage: Stage
    odds_millionths: int
    waves: int
    starts_at_ms: int
    ends_at_ms: int
    shares: int
    money_fen: int
    assets: int
    returned_shares: int
    returned_fen: int
    open_parts: int


async def page(
    pool: Pool, *, owner: str | None = None, name: str | None = None, after: str | None = None, limit: int = 50
) -> tuple[Sequence[CampaignRow], str | None]:
    """Campaigns of an owner (None: of all), newest first, and the cursor of the page after it.

    ``name``: those whose names begin so, whatever the case of ASCII letters, by their names.

    Raises InvalidFieldsError for a bad cursor, UnavailableError. Nobody has an ``owner`` that is no user id.
    """
    (last,) = parse(after, parts=1, start=(NEWEST if name is None else 0,))
    limit = min(limit, PAGE_MAX)
    if owner is not None and not is_user_id(owner):
        return [], None
    with ledger_errors():
        rows = await pool.fetch(SQL["lines"], owner, last, limit + 1, name)
    found = []
    for row in rows[:limit]:
        values = dict(row)
        is_paused, ended_at_ms, now_ms = (values.pop(name) for name in ("is_paused", "ended_at_ms", "now_ms"))
        stage = _stage(values["starts_at_ms"], values["ends_at_ms"], now_ms, is_paused, ended_at_ms is not None)
        found.append(CampaignRow(**{**values, "campaign_id": str(values["campaign_id"]), "stage": stage}))
    return found, found[-1].campaign_id if len(rows) > limit else None


def _stage(starts_at_ms: int, ends_at_ms: int, now_ms: int, is_paused: bool, is_ended: bool) -> Stage:
    if is_ended:
        return Stage.ENDED
    if now_ms >= ends_at_ms:
        return Stage.OVER
    if is_paused:
        return Stage.PAUSED
    return Stage.RUNNING if now_ms >= starts_at_ms else Stage.TO_COME
