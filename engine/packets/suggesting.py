"""Reads what suggestions depend on: the day, the sender's limits and wallet, and what was sent before."""

from dataclasses import dataclass
from datetime import date

import asyncpg

from engine.calendar.china_time import day_of
from engine.calendar.occasions import Occasion, occasions_of
from engine.ledger.database import ledger_errors
from engine.ledger.money import now_ms
from engine.packets.suggestions import (
    Bounds,
    Habit,
    Reason,
    ReasonCode,
    Situation,
    Suggestion,
    reasons_of,
    suggest,
)
from engine.packets.terms import share_fen_max_on
from engine.queries import load
from engine.records import SplitKind
from engine.risk.limits import Room, room_of
from engine.settings import Settings

SQL, WALLET = load("suggestions"), load("wallet")
LOOKED_AT_MAX = 50
"""How many of the newest sendings of a user, and of a group, are looked at."""
SENDERS_MIN = 3
"""Of a group with fewer other senders nothing is told: what is usual would be what one of them sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """Suggestions for a day in China. ``occasion``: its festival, if any.

    ``reasons``: what the day is and, if there are no suggestions, why.
    """

    user_id: str
    label: str | None
    day: date
    occasion: Occasion | None
    suggestions: list[Suggestion]
    reasons: list[Reason]


class Suggestions:
    """Suggests packets to send. It only reads, and nothing of it is kept."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings

    async def of(
        self, user_id: str, *, label: str | None = None, people: int | None = None, at_ms: int | None = None
    ) -> Suggested:
        """Suggestions for a user, today. Raises UnavailableError if Postgres does not answer.

        ``label``: the group that the packet is for. ``people``: how many people it has. ``at_ms``: the moment, if not
        now.
        """
        with ledger_errors():
            at_ms = await now_ms(self._pool) if at_ms is None else at_ms
            room = await room_of(self._pool, self._settings, user_id, label, at_ms)
            situation = await self._situation(user_id, label, people, day_of(at_ms), room)
        occasions, reasons = occasions_of(situation.day), reasons_of(situation.day)
        found = suggest(situation) if room.may_send else []
        if not room.may_send:
            reasons.append(Reason(code=ReasonCode.CANNOT_SEND, text="This account cannot send now."))
        elif not found:
            text = "No lucky amount is within the limits that are left today."
            reasons.append(Reason(code=ReasonCode.NOTHING_FITS, text=text))
        return Suggested(
            user_id=user_id,
            label=label,
            day=situation.day,
            occasion=occasions[0] if occasions else None,
            suggestions=found,
            reasons=reasons,
        )

    async def _situation(self, user_id: str, label: str | None, people: int | None, day: date, room: Room) -> Situation:
        own = await self._pool.fetchrow(SQL["own"], user_id, LOOKED_AT_MAX)
        group = None
        if label is not None:
            group = await self._pool.fetchrow(SQL["of_group"], label, LOOKED_AT_MAX, user_id, SENDERS_MIN)
        return Situation(
            day=day,
            people=people,
            has_label=label is not None,
            own=_habit(own),
            group=_habit(group),
            balance_fen=await self._pool.fetchval(WALLET["balance"], user_id, None) or 0,
            bounds=self._bounds(day, room),
        )

    def _bounds(self, day: date, room: Room) -> Bounds:
        settings, most_fen = self._settings, room.most_fen
        if settings.freeze_large_fen:  # a packet that gets its sender's account frozen is no good advice
            below_fen = settings.freeze_large_fen - 1
            most_fen = below_fen if most_fen is None else min(most_fen, below_fen)
        return Bounds(
            share_fen_min=settings.share_fen_min,
            share_fen_max=share_fen_max_on(day, settings),
            count_max=room.count_max,
            greeting_length_max=settings.greeting_length_max,
            most_fen=most_fen,
        )


def _habit(row: asyncpg.Record | None) -> Habit | None:
    return None if row is None else Habit(row["share_fen"], row["count"], SplitKind(row["split"]))
