"""A receiver of alerts with the Python client: what the server delivers is read, and nothing else is."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from hongbao_client.webhooks import AlertEvent, ForgedError, Receiver

from engine.engine import Engine
from engine.risk.webhooks import signed
from engine.settings import Settings, webhook_keys
from tests.support.ports import held_port
from tests.support.scenes import changed, send, sweeping

OLD, NEW = (f"whsec_{base64.b64encode(letter * 32).decode()}" for letter in (b"o", b"n"))
BODY = json.dumps(
    {
        "type": "alert.large_movement",
        "timestamp": "2026-11-30T00:00:00+00:00",
        "data": {"alert_id": "7", "user_id": "alice", "at_ms": 1, "details": {"amount_fen": 5}},
    }
).encode()


def headers_of(secrets: str, body: bytes = BODY, *, at_s: int | None = None) -> dict[str, str]:
    """As the server signs a body."""
    return signed(webhook_keys(secrets), "alert_7", int(time.time()) if at_s is None else at_s, body)


@pytest.mark.parametrize("secrets", [NEW, f"{OLD},{NEW}", f"{NEW},{OLD}"])
def test_an_alert_is_read_by_whoever_knows_one_of_the_secrets(secrets: str) -> None:
    event = Receiver(OLD, NEW).read({name.title(): value for name, value in headers_of(secrets).items()}, BODY)
    assert (event.message_id, event.type, event.data.user_id) == ("alert_7", "alert.large_movement", "alice")
    assert event.data.details == {"amount_fen": 5}
    assert Receiver(NEW).read(headers_of(secrets), BODY) == event


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (headers_of(OLD), BODY),
        (headers_of(NEW), BODY.replace(b"alice", b"mallory")),
        (headers_of(NEW, at_s=int(time.time()) - 3_600), BODY),
        (headers_of(NEW) | {"webhook-id": "alert_8"}, BODY),
        (headers_of(NEW) | {"webhook-timestamp": "soon"}, BODY),
        (headers_of(NEW, b"[]"), b"[]"),
        (headers_of(NEW, b"\xff"), b"\xff"),
        (headers_of(NEW, b"{}"), b"{}"),
    ],
    ids=["unsigned", "another secret", "changed", "old", "another id", "no time", "a list", "no text", "empty"],
)
def test_what_is_not_the_servers_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(ForgedError):
        Receiver(NEW).read(headers, body)


def test_a_receiver_needs_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        Receiver()


@pytest.fixture
async def delivered(settings: Settings) -> AsyncIterator[AlertEvent]:
    """What a real server has delivered of an alert, as the receiver read it."""
    found: asyncio.Queue[AlertEvent] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        found.put_nowait(Receiver(NEW).read(request.headers, await request.read()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/alerts", take)
    runner = web.AppRunner(app)
    await runner.setup()
    with held_port() as port:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        url = f"http://127.0.0.1:{port}/alerts"
        watched = changed(settings, webhook_url=url, webhook_secret=NEW, alert_large_fen=1_000)
        async with Engine.open(watched) as engine, sweeping(watched):
            await send(engine, "alice", total_fen=1_000, count=1)
            yield await asyncio.wait_for(found.get(), 30)
    await runner.cleanup()


async def test_an_alert_of_a_real_server_arrives(delivered: AlertEvent) -> None:
    assert (delivered.type, delivered.data.user_id) == ("alert.large_movement", "alice")
    assert delivered.data.details == {"what": "packet", "amount_fen": 1_000}
