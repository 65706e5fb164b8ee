"""Delivers alerts by webhook, in the form of Standard Webhooks: signed, with an id that is the same in every try.

Delivery is at least once: a receiver drops an id that it has seen. The wait between tries grows. After the last try the
alert is given up. The metric and the log report this, and GET /v1/alerts still has the alert.
"""

import asyncio
import base64
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import httpx
import orjson
import structlog

from engine.loops import end, every
from engine.observability import metrics
from engine.queries import load
from engine.settings import Settings, webhook_keys

LOG = structlog.get_logger()
SQL = load("alerts")
AT_ONCE_MAX = 20
_LOOK_S = 0.5
_WAIT_S_MAX = 21_600.0
_WAIT_GROWTH = 4.0
_LEASE_MS_MORE = 10_000
_ERROR_LENGTH_MAX = 200
_TRIES = _DELIVERED, _FAILED, _GIVEN_UP = "delivered", "failed", "given_up"
"""The outcomes in the metric."""
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class NotTakenError(Exception):
    """The receiver answered, but not that it has taken the alert."""


def signed(keys: Sequence[bytes], message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers with the message's id, its time and its signature.

    One signature per key, with spaces between them: a receiver that knows any of the secrets verifies it.
    """
    content = f"{message_id}.{at_s}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        "content-type": "application/json",
    }


def body_of(row: asyncpg.Record) -> bytes:
    """An alert as the receiver gets it: the same in every try."""
    at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC)
    details = orjson.loads(row["details"])
    data = {"alert_id": str(row["alert_id"]), "user_id": row["user_id"], "at_ms": row["at_ms"], "details": details}
    return orjson.dumps({"type": f"alert.{row['kind']}", "timestamp": at.isoformat(), "data": data})


def wait_s(settings: Settings, tries: int) -> float:
    """The wait after this many tries."""
    return min(settings.webhook_retry_s * _WAIT_GROWTH ** min(tries - 1, 20), _WAIT_S_MAX)


class Webhook:
    """The receiver. ``client`` is closed by its maker."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, client: httpx.AsyncClient) -> None:
        if settings.webhook_url is None or settings.webhook_secret is None:
            raise ValueError("a webhook has a URL and a secret")
        self._pool, self._settings, self._client = pool, settings, client
        self._url, self._keys = settings.webhook_url, webhook_keys(settings.webhook_secret.get_secret_value())

    async def deliver_due(self) -> int:
        """Try a page of the alerts that are due, each once. Returns how many. Raises asyncpg's errors."""
        lease_ms = int(self._settings.webhook_timeout_s * 1000) + _LEASE_MS_MORE
        rows = await self._pool.fetch(SQL["take"], AT_ONCE_MAX, lease_ms)
        for ended in await asyncio.gather(*map(self._try, rows), return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
        return len(rows)

    async def _try(self, row: asyncpg.Record) -> None:
        try:
            await self._send(row)
        except (NotTakenError, *_FAILURES) as error:
            await self._note_failure(row, error)
        else:
            await self._pool.execute(SQL["delivered"], row["alert_id"])
            metrics.WEBHOOK_TRIES.labels(_DELIVERED).inc()

    async def _send(self, row: asyncpg.Record) -> None:
        """Send it. Raises NotTakenError, httpx's errors, and TimeoutError, which is an OSError."""
        body = body_of(row)
        headers = signed(self._keys, f"alert_{row['alert_id']}", row["now_ms"] // 1000, body)
        async with asyncio.timeout(self._settings.webhook_timeout_s):
            # Only the status counts. The body is not read, and no redirect is followed.
            async with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                if not answer.is_success:
                    raise NotTakenError(f"it answered {answer.status_code}")

    async def _note_failure(self, row: asyncpg.Record, error: Exception) -> None:
        alert_id, tries = row["alert_id"], row["tries"]
        said = f"{type(error).__name__}: {error}"[:_ERROR_LENGTH_MAX]
        is_last = tries >= self._settings.webhook_tries_max
        wait_ms = None if is_last else int(wait_s(self._settings, tries) * 1000)
        await self._pool.execute(SQL["failed"], alert_id, said, wait_ms)
        metrics.WEBHOOK_TRIES.labels(_GIVEN_UP if is_last else _FAILED).inc()
        if is_last:
            LOG.error("alert_given_up", alert_id=alert_id, kind=row["kind"], tries=tries, error=said)
        else:
            LOG.warning("alert_not_delivered", alert_id=alert_id, tries=tries, again_in_ms=wait_ms, error=said)


async def deliver_alerts(pool: asyncpg.Pool, settings: Settings, stop: asyncio.Event) -> None:
    """Deliver alerts until ``stop`` is set, if a webhook is set."""
    if settings.webhook_url is None:
        return
    metrics.show(metrics.WEBHOOK_TRIES, *_TRIES)
    # No proxies or certificates from the environment: only the settings read that.
    async with httpx.AsyncClient(timeout=settings.webhook_timeout_s, follow_redirects=False, trust_env=False) as client:
        webhook = Webhook(pool, settings, client)

        async def once() -> bool:
            return await _unless_stopped(webhook, stop) == AT_ONCE_MAX

        await every("webhooks", _LOOK_S, stop, once)


async def _unless_stopped(webhook: Webhook, stop: asyncio.Event) -> int:
    """One round. A stop ends it in the middle: the next process tries again what was under way."""
    tried = 0

    async def deliver() -> None:
        nonlocal tried
        tried = await webhook.deliver_due()

    work, stopping = asyncio.create_task(deliver()), asyncio.create_task(_wait_for(stop))
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(stopping)
        was_done = work.done()
        await end(work)
    if was_done:
        work.result()
    return tried


async def _wait_for(stop: asyncio.Event) -> None:
    await stop.wait()
