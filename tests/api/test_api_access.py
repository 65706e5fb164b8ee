"""Whose packets and wallets are shown to whom, in what words; every single status is in test_api_access_table.py."""

from collections.abc import AsyncIterator

import httpx
import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.access.tokens import SCOPES
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.paths import path_of

GUARDED = [row for row in ROUTES if row.access is not None]
BODIES: dict[str, Json] = {
    "send_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "preview_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "claim": {},
    "claim_many": {"claims": [{"packet_id": f"10000{'0' * 14}", "user_id": "bob"}]},
    "deposit": {"amount_fen": 1},
    "send_transfer": {"to": "bob", "amount_fen": 1},
    "file_dispute": {"kind": "system_fault", "number": f"10000{'0' * 14}", "at_ms": 1, "evidence": ["x"]},
    "decide_dispute": {"outcome": "rejected", "reason": "x"},
    "choose_arrival_delay": {"arrives_after_s": 0},
    "set_payment_password": {"password": "135790"},
    "withdraw": {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": "135790"},
}
NAMES_A_USER = (
    "get_wallet",
    "get_statement",
    "list_transfers",
    "list_packets",
    "get_arrival_delay",
    "list_withdrawals",
)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def ask(client: Client, row: Operation, headers: dict[str, str], packet_id: str = "") -> httpx.Response:
    """A proper request for alice's things."""
    path = path_of(row, packet_id or f"10000{'0' * 14}")
    query = {"role": "sent"} if row.name == "list_packets" else None
    body = BODIES.get(row.name)
    return await client.http.request(row.method, path, params=query, json=body, headers=new_key() | headers)


@pytest.mark.parametrize("row", [row for row in GUARDED if row.access and row.access.scopes], ids=lambda row: row.name)
async def test_a_scope_that_lacks_is_named(client: Client, row: Operation) -> None:
    assert row.access is not None
    for scope in set(SCOPES) - set(row.access.scopes) - {"act"}:
        answer = await ask(client, row, client.as_user("alice", scope))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), scope
        assert all(needed in answer.json()["detail"] for needed in row.access.scopes)


@pytest.mark.parametrize("row", GUARDED, ids=lambda row: row.name)
async def test_a_backend_must_name_the_user_where_one_is_needed(client: Client, row: Operation) -> None:
    answer = await ask(client, row, client.as_user("backend", "act", "send", "claim"))
    assert row.access is not None
    if row.access.for_user or row.name in (*NAMES_A_USER, "get_withdrawal", "get_transfer"):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
        assert [error["field"] for error in answer.json()["errors"]] == ["X-User-Id"]
    else:
        assert "X-User-Id" not in answer.text


@pytest.mark.parametrize("row", [row for row in GUARDED if row.name in NAMES_A_USER], ids=lambda row: row.name)
async def test_a_users_money_is_shown_to_that_user_and_to_admins(client: Client, row: Operation) -> None:
    for headers in (
        client.as_user("alice", "claim"),
        client.as_backend("alice"),
        client.as_user("root", "admin"),
        client.as_user("root", "act", "admin"),
    ):
        assert (await ask(client, row, headers)).status_code == 200
    for headers in (client.as_user("mallory", "send", "claim"), client.as_backend("mallory")):
        answer = await ask(client, row, headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_packet_for_others_looks_like_none(client: Client) -> None:
    packet_id = await client.send("alice", recipients=["bob", "carol", *(f"user{number}" for number in range(8))])
    rows = [row for row in GUARDED if row.name in ("get_packet", "list_claims")]
    for row in rows:
        for headers in (
            client.as_user("alice"),
            client.as_user("bob"),
            client.as_backend("carol"),
            client.as_user("root", "admin"),
        ):
            assert (await ask(client, row, headers, packet_id)).status_code == 200
        for headers in (client.as_user("mallory"), client.as_backend("mallory"), client.as_backend()):
            hidden = await ask(client, row, headers, packet_id)
            absent = await ask(client, row, headers, f"10000{'9' * 14}")
            assert (hidden.status_code, hidden.json()) == (404, absent.json())
            assert hidden.headers == absent.headers


async def test_only_the_invited_may_claim(client: Client) -> None:
    packet_id = await client.send("alice", count=2, recipients=["bob", "carol"])
    path = f"/v1/packets/{packet_id}/claims"
    answer = await client.http.post(path, headers=client.as_user("mallory"))
    assert (answer.status_code, answer.json()["code"]) == (403, "not_invited")
    assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"


async def test_a_backend_acts_for_the_user_it_names(client: Client) -> None:
    await client.deposit("alice", 100)
    headers = client.as_backend("alice") | new_key()
    sent = await client.http.post("/v1/packets", json=BODIES["send_packet"], headers=headers)
    path = f"/v1/packets/{sent.json()['packet_id']}/claims"
    claimed = await client.http.post(path, headers=client.as_backend("bob"))
    assert (claimed.json()["user_id"], claimed.json()["outcome"]) == ("bob", "claimed")
    again = await client.http.post(path, headers=client.as_user("bob", "claim"))
    assert again.json() == claimed.json() | {"outcome": "already_claimed"}


async def test_a_key_used_by_another_user_opens_nothing_of_theirs(client: Client) -> None:
    await client.deposit("alice", 100)
    key = new_key()
    sent = await client.http.post("/v1/packets", json=BODIES["send_packet"], headers=client.as_user("alice") | key)
    assert sent.status_code == 201
    for headers in (client.as_user("mallory"), client.as_backend("mallory")):
        answer = await client.http.post("/v1/packets", json=BODIES["send_packet"], headers=headers | key)
        assert (answer.status_code, answer.json()["code"]) == (409, "insufficient_funds")
        assert sent.json()["packet_id"] not in answer.text
    again = await client.http.post("/v1/packets", json=BODIES["send_packet"], headers=client.as_backend("alice") | key)
    assert again.json()["packet_id"] == sent.json()["packet_id"]


async def test_records_show_a_users_own_packets_only(client: Client) -> None:
    packet_id = await client.send("alice", count=2)
    await client.claim(packet_id, "bob")
    for role in ("sent", "received"):
        answer = await client.http.get(f"/v1/users/mallory/packets?role={role}", headers=client.as_user("mallory"))
        assert (answer.status_code, packet_id in answer.text) == (200, False)
