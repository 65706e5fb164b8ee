"""Fundraisers and gifts as everybody sees them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from engine.errors import UnknownFundraiserError
from engine.fundraising.terms import Mode
from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("fundraising")


class FundraiserState(StrEnum):
    """``open -> ending -> paid_out``, or ``open -> ending -> returning -> returned``."""

    OPEN = "open"  # it takes gifts
    ENDING = "ending"  # its time is over, and what becomes of it comes within seconds
    PAID_OUT = "paid_out"  # the beneficiary has all of it
    RETURNING = "returning"  # the goal was missed, and gifts go back
    RETURNED = "returned"  # every gift is back


class GiftState(StrEnum):
    """``held -> paid_out | returned``. The last two are final."""

    HELD = "held"
    PAID_OUT = "paid_out"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchView:
    """A merchant's match: ``percent`` of each gift that came after it, until ``budget_fen`` is used up."""

    match_id: str
    merchant: str
    percent: int
    budget_fen: int
    matched_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraiserView:
    """A fundraiser. ``now_ms``: the server's clock; ``left_ms``: the time until its end.

    ``raised_fen``: what was given and matched, whatever became of it later. The goal is reached if it is as much.
    ``returned_count``, ``returned_fen``: the gifts that have gone back so far.
    """

    fundraiser_id: str
    owner: str
    beneficiary: str
    title: str
    story: str
    mode: Mode
    goal_fen: int
    state: FundraiserState
    now_ms: int
    created_at_ms: int
    ends_at_ms: int
    is_ended_early: bool
    left_ms: int
    gift_count: int
    given_fen: int
    matched_fen: int
    raised_fen: int
    is_goal_reached: bool
    returned_count: int
    returned_fen: int
    settled_at_ms: int | None
    matches: list[MatchView]


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraiserLine:
    """One line of an owner's fundraisers."""

    fundraiser_id: str
    owner: str
    title: str
    goal_fen: int
    raised_fen: int
    state: FundraiserState
    created_at_ms: int
    ends_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraisersPage:
    """An owner's fundraisers, newest first."""

    fundraisers: list[FundraiserLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftView:
    """A gift. ``giver`` None: they do not want to be named. ``matched_fen``: what merchants added to it."""

    gift_id: str
    giver: str | None
    amount_fen: int
    matched_fen: int
    message: str
    given_at_ms: int
    state: GiftState


@dataclass(frozen=True, slots=True, kw_only=True)
class GiftsPage:
    """A fundraiser's gifts, newest first."""

    gifts: list[GiftView]
    next: str | None


class FundraiserViews:
    """Read-only use cases. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, fundraiser_id: str) -> FundraiserView:
        """A fundraiser. Raises UnknownFundraiserError."""
        number = int(fundraiser_id)
        with ledger_errors():
            matches = await self._pool.fetch(SQL["matches"], number)
            row = await self._pool.fetchrow(SQL["fundraiser"], number)
        if row is None:
            raise UnknownFundraiserError("No fundraiser has this number.")
        state = state_of(row)
        raised_fen = row["given_fen"] + row["matched_fen"]
        same = ("owner", "beneficiary", "title", "story", "goal_fen", "now_ms", "created_at_ms", "ends_at_ms")
        sums = ("is_ended_early", "gift_count", "given_fen", "matched_fen", "returned_count", "returned_fen")
        return FundraiserView(
            fundraiser_id=fundraiser_id,
            **{name: row[name] for name in (*same, *sums, "settled_at_ms")},
            mode=Mode(row["mode"]),
            state=state,
            left_ms=max(0, row["ends_at_ms"] - row["now_ms"]) if state is FundraiserState.OPEN else 0,
            raised_fen=raised_fen,
            is_goal_reached=raised_fen >= row["goal_fen"],
            matches=[_match(match) for match in matches],
        )

    async def of_owner(self, owner: str, *, after: str | None, limit: int) -> FundraisersPage:
        """An owner's fundraisers, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        lines = await newest(self._pool, limit + 1, owner=owner, below=below)
        page = lines[:limit]
        return FundraisersPage(fundraisers=page, next=page[-1].fundraiser_id if len(lines) > limit else None)

    async def gifts(
        self, fundraiser_id: str, *, reader: str | None, sees_all: bool, after: str | None, limit: int
    ) -> GiftsPage:
        """A fundraiser's gifts, newest first.

        ``reader``: who asks; they see their own name, and with ``sees_all`` every name. Raises UnknownFundraiserError,
        and InvalidFieldsError for an invalid cursor.
        """
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            if await self._pool.fetchrow(SQL["fundraiser"], int(fundraiser_id)) is None:
                raise UnknownFundraiserError("No fundraiser has this number.")
            rows = await self._pool.fetch(SQL["gifts"], int(fundraiser_id), below, limit + 1)
        gifts = [_gift(row, is_named=sees_all or row["giver"] == reader) for row in rows[:limit]]
        return GiftsPage(gifts=gifts, next=gifts[-1].gift_id if len(rows) > limit else None)


async def newest(
    pool: asyncpg.Pool, limit: int, *, owner: str | None = None, below: int = NEWEST
) -> list[FundraiserLine]:
    """The newest fundraisers of an owner (None: of all) with numbers below ``below``. Raises UnavailableError."""
    with ledger_errors():
        rows = await pool.fetch(SQL["of_owner"], owner, below, limit)
    return [
        FundraiserLine(
            fundraiser_id=str(row["fundraiser_id"]),
            owner=row["owner"],
            title=row["title"],
            goal_fen=row["goal_fen"],
            raised_fen=row["given_fen"] + row["matched_fen"],
            state=state_of(row),
            created_at_ms=row["created_at_ms"],
            ends_at_ms=row["ends_at_ms"],
        )
        for row in rows
    ]


def state_of(row: asyncpg.Record) -> FundraiserState:
    """A fundraiser's state, by its row and the clock in it."""
    match row["state"]:
        case "open" if row["now_ms"] < row["ends_at_ms"]:
            return FundraiserState.OPEN
        case "open" | "paying":
            return FundraiserState.ENDING
        case settled:
            return FundraiserState(settled)


def state_of_gift(row: asyncpg.Record) -> GiftState:
    """What became of a gift, by its row and its fundraiser's state."""
    if row["return_transfer_id"] is not None:
        return GiftState.RETURNED
    return GiftState.PAID_OUT if row["state"] == FundraiserState.PAID_OUT else GiftState.HELD


def _match(row: asyncpg.Record) -> MatchView:
    amounts: dict[str, Any] = {name: row[name] for name in ("merchant", "percent", "budget_fen", "matched_fen")}
    return MatchView(match_id=str(row["match_id"]), **amounts)


def _gift(row: asyncpg.Record, *, is_named: bool) -> GiftView:
    return GiftView(
        gift_id=str(row["gift_id"]),
        giver=None if row["is_anonymous"] and not is_named else row["giver"],
        amount_fen=row["amount_fen"],
        matched_fen=row["matched_fen"],
        message=row["message"],
        given_at_ms=row["given_at_ms"],
        state=state_of_gift(row),
    )
