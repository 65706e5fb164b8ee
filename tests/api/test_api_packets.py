"""Packets and wallets over HTTP: the contract's words, on real servers."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from engine.engine import Engine
from engine.persisting.persister import persist
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.waiting import wait_until

SEND: Json = {"total_fen": 1_000, "count": 10, "split": "lucky"}


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


@pytest.fixture
async def persisting(settings: Settings, client: Client) -> AsyncIterator[None]:
    """A persister at work beside the front."""
    stop = asyncio.Event()
    async with Engine.open(settings) as engine:
        task = asyncio.create_task(persist(settings, engine.store, engine.stream, engine.lanes, stop))
        yield
        stop.set()
        await task


async def test_a_packet_is_sent_once_for_one_key(client: Client) -> None:
    await client.deposit("alice", 5_000)
    headers = client.as_user("alice", "send") | new_key()
    body = SEND | {"greeting": "恭喜发财 🧧", "ttl_s": 60, "min_fen": 2, "max_fen": 900}
    first = await client.http.post("/v1/packets", json=body, headers=headers)
    assert first.status_code == 201
    sent = first.json()
    assert list(sent) == ["packet_id", "state", "total_fen", "count", "expires_at_ms", "commitment"]
    assert (sent["state"], sent["total_fen"], sent["count"]) == ("open", 1_000, 10)
    assert "idempotency-replayed" not in first.headers

    again = await client.http.post("/v1/packets", json=dict(reversed(body.items())), headers=headers)
    assert (again.status_code, again.json()) == (201, sent)
    assert again.headers["idempotency-replayed"] == "true"

    other = await client.http.post("/v1/packets", json=body | {"count": 9}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"

    wallet = await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))
    assert wallet.json() == {"user_id": "alice", "balance_fen": 4_000, "currency": "CNY", "scale": 2}


async def test_a_sender_without_money_sends_nothing(client: Client) -> None:
    headers = client.as_user("poor") | new_key()
    answer = await client.http.post("/v1/packets", json=SEND, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
    assert answer.headers["content-type"] == "application/problem+json"
    sent = await client.http.get("/v1/users/poor/packets?role=sent", headers=client.as_user("poor"))
    assert sent.json() == {"packets": [], "next": None}


async def test_claims_end_as_claimed_already_claimed_or_sold_out(client: Client) -> None:
    packet_id = await client.send("alice", total_fen=100, count=2, split="equal")
    won = await client.claim(packet_id, "bob")
    assert won == {"outcome": "claimed", "amount_fen": 50, "packet_id": packet_id, "user_id": "bob"}
    assert await client.claim(packet_id, "bob") == won | {"outcome": "already_claimed"}
    assert (await client.claim(packet_id, "carol"))["outcome"] == "claimed"
    assert await client.claim(packet_id, "dan") == {
        "outcome": "sold_out",
        "amount_fen": 0,
        "packet_id": packet_id,
        "user_id": "dan",
    }
    assert await client.claim(packet_id, "bob") == won | {"outcome": "already_claimed"}


async def test_a_claim_after_the_packets_time_is_told_so(client: Client) -> None:
    for ttl_s in (1, 4, 16):  # the longer ones for a machine on which the first claim came too late
        packet_id = await client.send("alice", total_fen=100_000, count=1_000, ttl_s=ttl_s)
        early = await client.claim(packet_id, "bob")
        if early["outcome"] == "claimed":
            break
    assert early["outcome"] == "claimed"
    users = (f"user{number}" for number in itertools.count())

    async def next_is_late() -> bool:
        return bool((await client.claim(packet_id, next(users)))["outcome"] == "expired")

    await wait_until(next_is_late, what="the packet expiring")
    late = await client.claim(packet_id, "late")
    assert late == {"outcome": "expired", "amount_fen": 0, "packet_id": packet_id, "user_id": "late"}
    assert await client.claim(packet_id, "bob") == early | {"outcome": "already_claimed"}


@pytest.mark.parametrize("content", [None, b"", b"{}", b" { } "])
async def test_a_claim_takes_no_body_or_an_empty_object(client: Client, content: bytes | None) -> None:
    packet_id = await client.send("alice")
    path = f"/v1/packets/{packet_id}/claims"
    answer = await client.http.post(path, content=content, headers=client.as_user("bob"))
    assert (answer.status_code, answer.json()["outcome"]) == (200, "claimed")


async def test_a_packet_and_its_claims_look_the_same_live_and_settled(client: Client, persisting: None) -> None:
    packet_id = await client.send("alice", total_fen=300, count=3, greeting="hi")
    for user in ("bob", "carol", "dan"):
        await client.claim(packet_id, user)
    headers = client.as_user("anyone")
    live = (await client.http.get(f"/v1/packets/{packet_id}", headers=headers)).json()
    claims = (await client.http.get(f"/v1/packets/{packet_id}/claims", headers=headers)).json()
    assert (live["state"], live["greeting"], live["sender"]) == ("exhausted", "hi", "alice")
    assert (live["claimed_count"], live["claimed_fen"], live["remaining_count"], live["remaining_fen"]) == (
        3,
        300,
        0,
        0,
    )
    assert [claim["slot"] for claim in claims["claims"]] == sorted(claim["slot"] for claim in claims["claims"])
    assert sum(claim["amount_fen"] for claim in claims["claims"]) == 300
    assert any(live["luckiest"].items() <= claim.items() for claim in claims["claims"])
    assert claims["next"] is None

    async def settled() -> bool:
        view = (await client.http.get(f"/v1/packets/{packet_id}", headers=headers)).json()
        return view == live | {"settled_at_ms": view["settled_at_ms"]} and view["settled_at_ms"] is not None

    await wait_until(settled, what="the same packet, settled")
    assert (await client.http.get(f"/v1/packets/{packet_id}/claims", headers=headers)).json() == claims


async def test_claims_come_in_pages(client: Client) -> None:
    packet_id = await client.send("alice", count=5)
    for number in range(5):
        await client.claim(packet_id, f"user{number}")
    headers = client.as_user("anyone")
    whole = (await client.http.get(f"/v1/packets/{packet_id}/claims", headers=headers)).json()["claims"]
    found, after = [], ""
    for expected in (2, 2, 1):
        page = (await client.http.get(f"/v1/packets/{packet_id}/claims?limit=2{after}", headers=headers)).json()
        assert len(page["claims"]) == expected
        found += page["claims"]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert found == whole


async def test_a_batch_answers_each_claim_in_order(client: Client) -> None:
    packet_id = await client.send("alice", total_fen=20, count=2, split="equal")
    private = await client.send("alice", total_fen=20, count=2, split="equal", recipients=["bob", "carol"])
    unknown = f"10001{'9' * 14}"
    claims = [(packet_id, "bob"), (packet_id, "bob"), (unknown, "bob"), ("10", "bob"), (packet_id, "carol")]
    claims += [(f"10999{'9' * 14}", "x"), (private, "dan"), (packet_id, "dan"), (private, "carol")]
    body = {"claims": [{"packet_id": packet, "user_id": user} for packet, user in claims]}
    answer = await client.http.post("/v1/claims", json=body, headers=client.as_backend())
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [(result["packet_id"], result["user_id"]) for result in results] == claims
    assert [result.get("outcome", result.get("code")) for result in results] == [
        *("claimed", "already_claimed", "unknown_packet", "unknown_packet", "claimed"),
        *("unknown_packet", "not_invited", "sold_out", "claimed"),
    ]
    assert all(set(result) == {"packet_id", "user_id", "code", "detail"} for result in results if "code" in result)
    assert [result["amount_fen"] for result in results if "outcome" in result] == [10, 10, 10, 0, 10]


async def test_a_batch_may_have_a_thousand_claims(client: Client) -> None:
    packet_id = await client.send("alice", total_fen=10_000, count=1_000)
    claims = [{"packet_id": packet_id, "user_id": f"user{number:03d}"} for number in range(1_000)]
    answer = await client.http.post("/v1/claims", json={"claims": claims}, headers=client.as_backend())
    assert sum(result["amount_fen"] for result in answer.json()["results"]) == 10_000
    over = await client.http.post("/v1/claims", json={"claims": [*claims, claims[0]]}, headers=client.as_backend())
    assert (over.status_code, over.json()["errors"][0]["field"]) == (422, "claims")


async def test_a_preview_splits_the_terms_and_stores_nothing(client: Client) -> None:
    answer = await client.http.post("/v1/packets/preview", json=SEND, headers=client.as_user("poor"))
    assert answer.status_code == 200
    preview = answer.json()
    assert (sum(preview["amounts_fen"]), len(preview["amounts_fen"])) == (1_000, 10)
    assert {name: preview[name] for name in SEND} == SEND
    sent = await client.http.get("/v1/users/poor/packets?role=sent", headers=client.as_user("poor"))
    assert sent.json()["packets"] == []


async def test_money_moves_and_records_show_it(client: Client, persisting: None) -> None:
    packet_id = await client.send("alice", total_fen=100, count=1)
    await client.claim(packet_id, "bob")

    async def balance_fen(user: str) -> int:
        answer = await client.http.get(f"/v1/wallets/{user}", headers=client.as_user(user))
        return int(answer.json()["balance_fen"])

    async def is_credited() -> bool:
        return await balance_fen("bob") == 100

    await wait_until(is_credited, what="the claim being credited")
    assert await balance_fen("alice") == 0
    answer = await client.http.get("/v1/wallets/alice/transfers?limit=1", headers=client.as_backend("alice"))
    (newest,) = answer.json()["transfers"]
    assert (newest["amount_fen"], newest["packet_id"]) == (-100, packet_id)
    after = answer.json()["next"]
    answer = await client.http.get(f"/v1/wallets/alice/transfers?after={after}", headers=client.as_backend("alice"))
    assert [transfer["amount_fen"] for transfer in answer.json()["transfers"]] == [100]
    assert answer.json()["next"] is None
    for user, role, amount_fen in (("alice", "sent", 100), ("bob", "received", 100)):
        answer = await client.http.get(f"/v1/users/{user}/packets?role={role}", headers=client.as_user(user))
        (record,) = answer.json()["packets"]
        assert (record["packet_id"], record["role"], record["amount_fen"]) == (packet_id, role, amount_fen)


async def test_a_deposit_is_made_once_for_one_key(client: Client) -> None:
    headers = client.as_user("root", "admin") | new_key()
    answers = [
        await client.http.post("/v1/wallets/alice/deposits", json={"amount_fen": 7}, headers=headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json() | {"transfer_id": ""} == {
        "transfer_id": "",
        "user_id": "alice",
        "amount_fen": 7,
        "balance_fen": 7,
        "asset": "CNY",
    }
    # The same key for another wallet is another deposit, and must not be taken for the first.
    other = await client.http.post("/v1/wallets/bob/deposits", json={"amount_fen": 7}, headers=headers)
    assert (other.status_code, other.json()["user_id"], other.json()["balance_fen"]) == (201, "bob", 7)
    assert other.json()["transfer_id"] != answers[0].json()["transfer_id"]


async def test_probes_and_headers(client: Client) -> None:
    assert (await client.http.get("/livez")).json() == {"status": "live"}
    ready = await client.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "not_serving": []})
    assert ready.headers["cache-control"] == "no-store"
    assert ready.headers["x-content-type-options"] == "nosniff"
