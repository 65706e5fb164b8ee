"""Alerts by webhook: signed as an independent library wants it, tried again, at last given up."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError
from structlog.testing import capture_logs

from engine.engine import Engine
from engine.errors import OperatorError
from engine.observability import metrics
from engine.risk import alerts
from engine.risk.webhooks import AT_ONCE_MAX, Webhook, wait_s
from engine.settings import Settings
from tests.support.front import open_front
from tests.support.ports import held_port
from tests.support.scenes import changed, fund, send, sweeping
from tests.support.waiting import wait_until

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"


@dataclass
class Receiver:
    """A server that answers by turns, and keeps what it was sent."""

    url: str
    answers: list[int | str]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Keep the request; answer as it is said for this turn, 204 when nothing more is said."""
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        answer = self.answers.pop(0) if self.answers else 204
        if answer == "silence":
            await asyncio.Event().wait()
        if answer == "redirect":
            return web.Response(status=307, headers={"location": self.url})
        return web.Response(status=int(answer), text="x" * 100_000)

    def ids(self) -> list[str]:
        """Which messages came, in order."""
        return [headers["webhook-id"] for headers, _ in self.got]


@asynccontextmanager
async def receiving(*answers: int | str) -> AsyncIterator[Receiver]:
    with held_port() as port:
        receiver = Receiver(f"http://127.0.0.1:{port}/alerts", list(answers))
        app = web.Application()
        app.router.add_post("/alerts", receiver.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield receiver
        finally:
            await runner.cleanup()


def told(settings: Settings, receiver: Receiver, **more: object) -> Settings:
    values: dict[str, object] = {"webhook_retry_s": 0.01, "alert_large_fen": 1_000, "webhook_secret": SECRET}
    return changed(settings, webhook_url=receiver.url, **(values | more))


async def note(engine: Engine, user: str = "alice", **details: object) -> int:
    async with engine.pool.acquire() as connection, connection.transaction():
        await alerts.note(connection, "large_movement", user, is_delivered=True, **details)
    return int(await engine.pool.fetchval("SELECT max(alert_id) FROM alerts"))


async def row_of(engine: Engine, alert_id: int) -> dict[str, Any]:
    row = await engine.pool.fetchrow("SELECT * FROM alerts WHERE alert_id = $1", alert_id)
    assert row is not None
    return dict(row)


@pytest.mark.long
async def test_an_alert_is_delivered_though_its_receiver_fails_first(settings: Settings) -> None:
    async with receiving(500, "redirect", "silence", 429) as receiver:
        settings = told(settings, receiver, webhook_timeout_s=2)
        async with Engine.open(settings) as engine, sweeping(settings):
            await send(engine, "alice", total_fen=1_000, count=1)
            await wait_until(lambda: len(receiver.got) == 5, what="five tries")

            async def is_delivered() -> bool:
                (alert,) = (await engine.alerts.page(after=None, limit=10)).alerts
                return alert.delivered_at_ms is not None and alert.tries == 5 and alert.last_error is None

            await wait_until(is_delivered, what="the delivery's being noted")
    assert len(set(receiver.ids())) == 1  # a receiver knows a repeat by its id
    assert len({body for _, body in receiver.got}) == 1
    for headers, body in receiver.got:
        message = Verifier(SECRET).verify(body, headers)  # raises when anything is wrong
        assert message["type"] == "alert.large_movement"
        assert message["data"]["user_id"] == "alice"
        assert message["data"]["details"] == {"what": "packet", "amount_fen": 1_000}
        assert headers["content-type"] == "application/json"


async def test_what_is_changed_on_the_way_does_not_verify(settings: Settings) -> None:
    async with receiving() as receiver:
        settings = told(settings, receiver)
        async with Engine.open(settings) as engine, httpx.AsyncClient(trust_env=False) as http:
            await note(engine)
            assert await Webhook(engine.pool, settings, http).deliver_due() == 1
    ((headers, body),) = receiver.got
    Verifier(SECRET).verify(body, headers)
    other_secret = f"whsec_{base64.b64encode(b'o' * 32).decode()}"
    wrong: list[Callable[[], object]] = [
        lambda: Verifier(SECRET).verify(body.replace(b"alice", b"mallory"), headers),
        lambda: Verifier(SECRET).verify(body, headers | {"webhook-id": "alert_2"}),
        lambda: Verifier(other_secret).verify(body, headers),
    ]
    for attempt in wrong:
        with pytest.raises(WebhookVerificationError):
            attempt()


async def test_while_a_secret_is_changed_a_receiver_may_know_either(settings: Settings) -> None:
    old, new = SECRET, f"whsec_{base64.b64encode(b'n' * 32).decode()}"
    async with receiving() as receiver:
        settings = told(settings, receiver, webhook_secret=f"{new}, {old}")
        async with Engine.open(settings) as engine, httpx.AsyncClient(trust_env=False) as http:
            await note(engine)
            assert await Webhook(engine.pool, settings, http).deliver_due() == 1
    ((headers, body),) = receiver.got
    for secret in (old, new):
        Verifier(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(f"whsec_{base64.b64encode(b'x' * 32).decode()}").verify(body, headers)


async def test_after_the_last_try_it_is_given_up_and_said_so(settings: Settings) -> None:
    async with receiving(*[500] * 10) as receiver:
        settings = told(settings, receiver, webhook_tries_max=3)
        before = metrics.WEBHOOK_TRIES.labels("given_up")._value.get()
        async with Engine.open(settings) as engine:
            alert_id = await note(engine)
            with capture_logs() as logs:
                async with sweeping(settings):
                    # The ledger has it first, then the metric and the log: a stop in between leaves those out.
                    await wait_until(
                        lambda: any(log["event"] == "alert_given_up" for log in logs), what="giving up and saying so"
                    )
            row = await row_of(engine, alert_id)
    assert (row["tries"], row["delivered_at_ms"], row["next_try_at_ms"]) == (3, None, None)
    assert row["last_error"] == "NotTakenError: it answered 500"
    assert len(receiver.got) == 3
    assert [log["tries"] for log in logs if log["event"] == "alert_given_up"] == [3]
    assert metrics.WEBHOOK_TRIES.labels("given_up")._value.get() == before + 1


async def test_nobody_listens(settings: Settings, port: int) -> None:
    settings = changed(settings, webhook_url=f"http://127.0.0.1:{port}/", webhook_secret=SECRET)
    async with Engine.open(settings) as engine, httpx.AsyncClient(trust_env=False) as http:
        alert_id = await note(engine)
        assert await Webhook(engine.pool, settings, http).deliver_due() == 1
        row = await row_of(engine, alert_id)
        assert row["last_error"].startswith("ConnectError")
        assert row["next_try_at_ms"] > row["at_ms"]
        assert await Webhook(engine.pool, settings, http).deliver_due() == 0  # not yet


async def test_two_senders_share_the_alerts_and_one_that_dies_leaves_its_own(settings: Settings) -> None:
    async with receiving() as receiver:
        settings = told(settings, receiver)
        async with Engine.open(settings) as engine, httpx.AsyncClient(trust_env=False) as http:
            noted = [await note(engine, number=number) for number in range(AT_ONCE_MAX + 15)]
            senders = [Webhook(engine.pool, settings, http) for _ in range(2)]
            assert sum(await asyncio.gather(*(sender.deliver_due() for sender in senders))) == len(noted)
            assert sorted(receiver.ids()) == sorted(f"alert_{number}" for number in noted)
            # One was taken by somebody who died: its time comes again.
            await engine.pool.execute(
                "UPDATE alerts SET delivered_at_ms = NULL, next_try_at_ms = 1 WHERE alert_id = $1", noted[0]
            )
            assert await senders[1].deliver_due() == 1
    assert receiver.ids().count(f"alert_{noted[0]}") == 2


async def test_a_sweeper_that_is_told_to_stop_does_not_wait_for_a_silent_receiver(settings: Settings) -> None:
    async with receiving("silence") as receiver:
        settings = told(settings, receiver, webhook_timeout_s=60)
        async with Engine.open(settings) as engine:
            alert_id = await note(engine)
            async with asyncio.timeout(10):
                async with sweeping(settings):
                    await wait_until(lambda: receiver.got, what="the first try")
            assert (await row_of(engine, alert_id))["delivered_at_ms"] is None


async def test_without_a_webhook_alerts_are_only_listed(engine: Engine, settings: Settings) -> None:
    assert settings.webhook_url is None
    await fund(engine, "alice", 10**7)
    await send(engine, "alice", total_fen=settings.alert_large_fen, count=1_000)
    (alert,) = (await engine.alerts.page(after=None, limit=10)).alerts
    assert (alert.kind, alert.tries) == ("large_movement", 0)
    assert await engine.pool.fetchval("SELECT count(*) FROM alerts WHERE next_try_at_ms IS NOT NULL") == 0


async def test_alerts_are_read_page_by_page_newest_first(settings: Settings) -> None:
    async with open_front(settings) as client:
        for total_fen in (1, 2, 3):
            await client.send("alice", total_fen=total_fen * 5_000_000, count=1_000)
        headers = client.as_user("root", "admin")
        seen: list[int] = []
        after: str | None = None
        while True:
            query = {"limit": "2"} if after is None else {"limit": "2", "after": after}
            answer = await client.http.get("/v1/alerts", params=query, headers=headers)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            seen += [alert["details"]["amount_fen"] for alert in page["alerts"]]
            after = page["next"]
            if after is None:
                break
    assert seen == [15_000_000, 10_000_000, 5_000_000]


def test_waits_grow_to_a_bound() -> None:
    settings = Settings.model_construct(webhook_retry_s=5.0)
    waits = [wait_s(settings, tries) for tries in range(1, 101)]
    assert waits[:4] == [5, 20, 80, 320]
    assert waits == sorted(waits)
    assert waits[-1] == 21_600


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"webhook_url": "http://example.org/"}, "HONGBAO_WEBHOOK_URL cannot be used: it must begin with https://"),
        ({"webhook_url": "ftp://127.0.0.1/"}, "HONGBAO_WEBHOOK_URL cannot be used: it must begin with https://"),
        ({"webhook_url": "https://u:hidden@h/"}, "HONGBAO_WEBHOOK_URL cannot be used: it must not hold a user"),
        ({"webhook_url": "https://h:x/"}, "HONGBAO_WEBHOOK_URL cannot be used: its port"),
        ({"webhook_url": "https://example.org/"}, "HONGBAO_WEBHOOK_SECRET cannot be used: it must be set"),
        ({"webhook_secret": "whsec_hidden"}, "HONGBAO_WEBHOOK_SECRET cannot be used: it must be whsec_ and 24 to 64"),
        (
            {"webhook_secret": f"{SECRET},whsec_hidden"},
            "HONGBAO_WEBHOOK_SECRET cannot be used: it must be whsec_ and 24",
        ),
        ({"webhook_secret": ",".join([SECRET] * 5)}, "HONGBAO_WEBHOOK_SECRET cannot be used: there must be at most 4"),
        ({"webhook_secret": f"other_{SECRET[6:]}"}, "HONGBAO_WEBHOOK_SECRET cannot be used: it must be whsec_"),
    ],
)
def test_a_webhook_that_cannot_be_used_is_named_and_not_told(values: dict[str, str], named: str) -> None:
    with pytest.raises(OperatorError) as raised:
        Settings.load(**values)
    assert str(raised.value).startswith(named)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("url", ["https://example.org/x?y=1", "http://127.0.0.1:1/", "http://[::1]/"])
def test_a_webhook_goes_over_tls_or_to_this_machine(url: str) -> None:
    key = base64.b64encode(secrets.token_bytes(24)).decode()
    assert Settings.load(webhook_url=url, webhook_secret=f"whsec_{key}").webhook_url == url
    with pytest.raises(ValidationError):
        Settings.model_validate({"webhook_url": url})
