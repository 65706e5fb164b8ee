"""Alerts for the people who watch over the money."""

from dataclasses import dataclass

import asyncpg
import orjson

from engine.ledger.database import Connection, ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. ``delivered_at_ms`` None: the webhook has not delivered it. ``tries``: how often it tried."""

    alert_id: str
    kind: str
    user_id: str | None
    at_ms: int
    details: dict[str, object]
    tries: int
    delivered_at_ms: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsPage:
    """Alerts, newest first."""

    alerts: list[Alert]
    next: str | None


async def note(
    connection: Connection, kind: str, user_id: str | None, *, is_delivered: bool, **details: object
) -> None:
    """Record an alert in the transaction that it is about. It gets its number when this is committed.

    ``is_delivered``: whether there is a webhook for it. ``details``: values that JSON can hold.
    """
    await connection.execute(SQL["note"], kind, user_id, orjson.dumps(details).decode(), is_delivered)


class Alerts:
    """Reading alerts."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, *, after: str | None, limit: int) -> AlertsPage:
        """Alerts, newest first. Raises InvalidFieldsError for an invalid cursor, UnavailableError."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["page"], below, limit + 1)
        alerts = [
            Alert(**{**row, "alert_id": str(row["alert_id"]), "details": orjson.loads(row["details"])})
            for row in rows[:limit]
        ]
        return AlertsPage(alerts=alerts, next=alerts[-1].alert_id if len(rows) > limit else None)
