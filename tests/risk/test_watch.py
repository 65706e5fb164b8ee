"""Watching what moves: large movements, new places, bursts; and the freeze above a threshold."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from engine.engine import Engine
from engine.errors import FrozenError, InsufficientFundsError
from engine.packets.terms import terms_from
from engine.records import FreezeScope, SplitKind
from engine.risk.watch import FROZEN_BY, PLACES_MAX, network_of
from engine.settings import Settings
from tests.support.front import new_key, open_front
from tests.support.scenes import changed, fund


@pytest.fixture
async def watched(settings: Settings) -> AsyncIterator[Engine]:
    settings = changed(settings, alert_large_fen=1_000, alert_sends_a_minute_max=5, freeze_large_fen=5_000)
    async with Engine.open(settings) as engine:
        await fund(engine, "alice", 1_000_000)
        yield engine


async def send(engine: Engine, total_fen: int = 10, *, sender: str = "alice", address: str = "") -> None:
    terms = terms_from(settings=engine.settings, total_fen=total_fen, count=1, split=SplitKind.LUCKY)
    await engine.packets.send(sender, terms, address=address, idempotency_key=uuid4().hex, request_hash=b"send")


async def kinds(engine: Engine) -> Counter[str]:
    return Counter(alert.kind for alert in (await engine.alerts.page(after=None, limit=1_000)).alerts)


async def test_a_large_movement_is_told(watched: Engine) -> None:
    await send(watched, 999)
    assert await kinds(watched) == {}
    await send(watched, 1_000)
    (alert,) = (await watched.alerts.page(after=None, limit=10)).alerts
    assert (alert.kind, alert.user_id) == ("large_movement", "alice")
    assert alert.details == {"what": "packet", "amount_fen": 1_000}
    assert await watched.freezes.in_force("alice") == []


async def test_above_a_threshold_the_account_is_frozen_after_the_movement(watched: Engine) -> None:
    await send(watched, 5_000)
    assert await watched.pool.fetchval("SELECT sum(total_fen) FROM packets") == 5_000  # it stands
    assert await watched.freezes.in_force("alice") == [FreezeScope.ACCOUNT]
    (freeze,) = await watched.freezes.of("alice")
    assert (freeze.frozen_by, freeze.reason) == (FROZEN_BY, "a packet of 5000 fen")
    with pytest.raises(FrozenError):
        await send(watched)
    await watched.freezes.lift("alice", reason="it was me", lifted_by="root")
    await send(watched)


async def test_a_repeat_is_told_once(settings: Settings) -> None:
    async with open_front(changed(settings, alert_large_fen=1_000, freeze_large_fen=1_000)) as client:
        await client.deposit("alice", 10_000)
        body = {"total_fen": 1_000, "count": 1, "split": "lucky"}
        headers, root = client.as_user("alice") | {"idempotency-key": "once"}, client.as_user("root", "admin")
        assert (await client.http.post("/v1/packets", json=body, headers=headers)).status_code == 201
        query = {"reason": "well"}
        await client.http.delete("/v1/accounts/alice/freeze", params=query, headers=root)
        assert (await client.http.post("/v1/packets", json=body, headers=headers)).status_code == 201
        found = (await client.http.get("/v1/accounts/alice", headers=root)).json()
        assert (found["frozen"], len(found["freezes"])) == ([], 1)
        assert len((await client.http.get("/v1/alerts", headers=root)).json()["alerts"]) == 1


async def test_what_is_not_paid_for_is_not_told(watched: Engine) -> None:
    await fund(watched, "poor", 100)
    with pytest.raises(InsufficientFundsError):
        await send(watched, 6_000, sender="poor", address="192.0.2.1")
    assert await watched.freezes.in_force("poor") == []
    assert await kinds(watched) == {}
    assert await watched.pool.fetchval("SELECT count(*) FROM places") == 0


async def test_a_new_place_is_told_and_the_first_is_not(watched: Engine) -> None:
    for address in ("192.0.2.1", "192.0.2.200", "", "unix:", "192.0.3.1", "2001:db8::1", "2001:db8::ffff", "192.0.3.9"):
        await send(watched, address=address)
        await watched.pool.execute("UPDATE packets SET created_at_ms = 1")  # so that it is no burst
    alerts = (await watched.alerts.page(after=None, limit=10)).alerts
    assert [alert.details["network"] for alert in alerts] == ["2001:db8::/64", "192.0.3.0/24"]
    assert {alert.kind for alert in alerts} == {"new_place"}


async def test_places_are_bounded_and_the_last_are_kept(watched: Engine) -> None:
    await watched.pool.execute(
        "INSERT INTO places SELECT 'alice', 'place' || number, number FROM generate_series(1, $1) AS number",
        PLACES_MAX + 5,
    )
    await send(watched, address="192.0.2.1")
    rows = await watched.pool.fetch("SELECT network FROM places ORDER BY first_at_ms")
    assert len(rows) == PLACES_MAX
    assert (rows[0]["network"], rows[-1]["network"]) == ("place7", "192.0.2.0/24")


async def test_new_places_are_not_looked_at_where_nobody_wants_to_know(settings: Settings) -> None:
    async with Engine.open(changed(settings, alert_new_place=False)) as engine:
        await fund(engine, "alice", 1_000)
        for address in ("192.0.2.1", "198.51.100.1"):
            await send(engine, address=address)
        assert await kinds(engine) == {}
        assert await engine.pool.fetchval("SELECT count(*) FROM places") == 0


async def test_a_burst_is_told_once_a_minute(watched: Engine) -> None:
    for _ in range(5):
        await send(watched)
    assert await kinds(watched) == {}
    for _ in range(4):
        await send(watched)
    assert await kinds(watched) == {"burst": 1}
    (alert,) = (await watched.alerts.page(after=None, limit=10)).alerts
    assert alert.details == {"sent_in_a_minute": 6}
    await watched.pool.execute("UPDATE alerts SET at_ms = at_ms - 60001")
    await send(watched)
    assert await kinds(watched) == {"burst": 2}


async def test_a_burst_at_once_is_told_once(watched: Engine) -> None:
    await asyncio.gather(*(send(watched) for _ in range(20)))
    assert await kinds(watched) == {"burst": 1}


async def test_a_withdrawal_is_a_movement_too(settings: Settings) -> None:
    settings = changed(
        settings,
        alert_large_fen=1_000,
        freeze_large_fen=2_000,
        payment_password_hash_kib=64,
        trusted_proxies="127.0.0.1",
    )
    async with open_front(settings) as client:
        await client.deposit("shop", 10_000)
        shop, root = client.as_user("shop"), client.as_user("root", "admin")
        await client.http.put("/v1/wallets/shop/payment-password", json={"password": "135790"}, headers=shop)
        profile = {"kind": "merchant", "addresses": ["192.0.2.0/24"]}
        await client.http.put("/v1/accounts/shop/profile", json=profile, headers=root)

        async def withdraw(amount_fen: int, address: str) -> tuple[int, str]:
            body = {"amount_fen": amount_fen, "bank_account": "6222020200112233", "payment_password": "135790"}
            headers = shop | new_key() | {"x-forwarded-for": address}
            answer = await client.http.post("/v1/wallets/shop/withdrawals", json=body, headers=headers)
            return answer.status_code, answer.json().get("code", "")

        assert await withdraw(1_000, "198.51.100.1") == (403, "address_not_allowed")
        assert await withdraw(1_000, "192.0.2.1") == (201, "")
        (alert,) = (await client.http.get("/v1/alerts", headers=root)).json()["alerts"]
        assert alert["details"] == {"what": "withdrawal", "amount_fen": 1_000}
        assert await withdraw(2_000, "192.0.2.1") == (201, "")
        assert await withdraw(1, "192.0.2.1") == (403, "account_frozen")
        found = (await client.http.get("/v1/accounts/shop", headers=root)).json()
        assert [row["reason"] for row in found["freezes"]] == ["a withdrawal of 2000 fen"]


def test_a_place_is_a_network() -> None:
    assert network_of("192.0.2.77") == "192.0.2.0/24"
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network_of("") is None
    assert network_of("example.org") is None
