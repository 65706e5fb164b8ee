"""Alerts: what somebody who watches over the money should look at."""

import orjson

from engine.clients import Connection
from engine.queries import load

SQL = load("alerts")


async def note(connection: Connection, kind: str, user_id: str | None, *, is_delivered: bool, **details: object) -> int:
    """Record an alert, in the transaction of what it is about; gives its number.

    ``is_delivered``: whether there is a webhook it goes to. ``details``: what JSON can say.
    """
    alert_id: int = await connection.fetchval(SQL["note"], kind, user_id, orjson.dumps(details).decode(), is_delivered)
    return alert_id
