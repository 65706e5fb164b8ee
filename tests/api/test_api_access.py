"""Whose packets and wallets are shown to whom, in what words; every single status is in test_api_access_table.py."""

from collections.abc import AsyncIterator

import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.settings import Settings
from tests.support.asking import BODIES, NAMES_A_USER, ask, make_set_of_cards
from tests.support.front import Client, new_key, open_front

GUARDED = [row for row in ROUTES if row.access is not None]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


@pytest.mark.parametrize("row", [row for row in GUARDED if row.name in NAMES_A_USER], ids=lambda row: row.name)
async def test_a_users_money_is_shown_to_that_user_and_to_admins(client: Client, row: Operation) -> None:
    if row.name == "get_cards":  # of a set
        await client.deposit("alice", 100)
        await make_set_of_cards(client)
    if row.name == "list_wins":
        await client.deposit("alice", 2)
        headers = client.as_user("alice", "send") | new_key()
        made = await client.http.post("/v1/campaigns", json=BODIES["make_campaign"], headers=headers)
        assert made.json()["campaign_id"] == "1"
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
