"""Alerts as operators work through them: filtered, acknowledged, delivered again."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import orjson

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.risk.alerts import SQL
from engine.settings import Settings

AT_ONCE_MAX = 500
"""How many alerts one call changes at most."""
KINDS = ("large_movement", "new_place", "burst", "take_back_burst", "dispute_overdue")
"""The kinds that have words of their own on the pages. Others are shown as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts. Times are of the alert, ``before_ms`` exclusive.

    ``assigned_to``: those of this operator. ``is_for_nobody``: only those that are assigned to nobody.
    """

    kind: str | None = None
    user_id: str | None = None
    is_waiting: bool | None = None
    is_delivered: bool | None = None
    from_ms: int | None = None
    before_ms: int | None = None
    assigned_to: str | None = None
    is_for_nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAlert:
    """One alert. ``next_try_at_ms`` None: it is delivered, given up, or there is no webhook."""

    alert_id: str
    kind: str
    user_id: str | None
    at_ms: int
    details: dict[str, object]
    tries: int
    next_try_at_ms: int | None
    delivered_at_ms: int | None
    last_error: str | None
    acknowledged_at_ms: int | None
    acknowledged_by: str | None
    acknowledged_note: str | None
    assigned_to: str | None


class AlertDesk:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, wanted: AlertFilter, *, after: str | None, limit: int) -> Page[ListedAlert]:
        """Alerts, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        times = (wanted.from_ms or 0, NEWEST if wanted.before_ms is None else wanted.before_ms)
        some = (below, wanted.kind, wanted.user_id)
        last = (*times, wanted.assigned_to, wanted.is_for_nobody, limit + 1)
        with ledger_errors():
            if wanted.is_waiting:
                rows = await self._pool.fetch(SQL["waiting"], *some, wanted.is_delivered, *last)
            else:
                rows = await self._pool.fetch(SQL["listed"], *some, wanted.is_waiting, wanted.is_delivered, *last)
        found = [
            ListedAlert(**{**row, "alert_id": str(row["alert_id"]), "details": orjson.loads(row["details"])})
            for row in rows
        ]
        return page_of(found, limit, lambda row: row.alert_id)

    async def waiting(self, most: int) -> int:
        """How many nobody has acknowledged, counted up to ``most``."""
        with ledger_errors():
            count: int = await self._pool.fetchval(SQL["waiting_count"], most)
        return count

    async def acknowledge(self, alert_ids: Sequence[int], *, by: str, note: str | None = None) -> list[str]:
        """Acknowledge alerts. Returns those that nobody had acknowledged before. Raises InvalidFieldsError."""
        return await self._change(SQL["acknowledge"], alert_ids, by, note)

    async def deliver_again(self, alert_ids: Sequence[int], settings: Settings) -> list[str]:
        """Have alerts delivered once more, from the first try on. Raises InvalidFieldsError if there is no webhook."""
        if settings.webhook_url is None:
            raise InvalidFieldsError([FieldProblem("alerts", "cannot be delivered: HONGBAO_WEBHOOK_URL is not set")])
        return await self._change(SQL["deliver_again"], alert_ids)

    async def _change(self, query: str, alert_ids: Sequence[int], *values: str | None) -> list[str]:
        if not 1 <= len(alert_ids) <= AT_ONCE_MAX:
            raise InvalidFieldsError([FieldProblem("alerts", f"must be from 1 to {AT_ONCE_MAX}")])
        async with ledger_change(self._pool) as connection:
            rows = await connection.fetch(query, list(alert_ids), *values)
        return sorted((str(row["alert_id"]) for row in rows), key=int)


async def assign_in(connection: Connection, alert_ids: Sequence[int], to: str | None) -> list[str]:
    """Assign alerts to an operator (None: to nobody) inside the caller's transaction. Returns those that wait still."""
    rows = await connection.fetch(SQL["assign"], list(alert_ids), to)
    return sorted((str(row["alert_id"]) for row in rows), key=int)
