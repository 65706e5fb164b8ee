"""A packet over HTTP whose number begins with a later volume of the ledger: every route knows it."""

import re
from collections.abc import AsyncIterator

import pytest

from api.paths import PACKET_NUMBER_FORM
from engine.engine import Engine
from engine.ids import FIRST_VOLUME, LAST_VOLUME, new_packet_number
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.ledger_volumes import begin
from tests.support.scenes import persisting, settled


@pytest.fixture
async def later(engine: Engine, settings: Settings) -> AsyncIterator[Client]:
    """A front whose new packets go to the second volume, and a persister at work."""
    assert await begin(engine) == 11
    async with persisting(settings), open_front(settings) as client:
        yield client


async def get(client: Client, path: str, user: str) -> Json:
    answer = await client.http.get(f"/v1{path}", headers=client.as_user(user))
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def post(client: Client, path: str, user: str, body: object = None) -> Json:
    answer = await client.http.post(f"/v1{path}", json=body, headers=client.as_user(user) | new_key())
    assert answer.status_code in (200, 201), answer.text
    said: Json = answer.json()
    return said


def test_numbers_of_every_volume_have_the_form_of_the_paths() -> None:
    for volume in range(FIRST_VOLUME, LAST_VOLUME + 1):
        assert re.fullmatch(PACKET_NUMBER_FORM, new_packet_number(999, volume))
    for text in ("0900000000000000000", "9200000000000000000", "11" + "0" * 16, "11" + "0" * 18):
        assert not re.fullmatch(PACKET_NUMBER_FORM, text)


async def test_a_packet_is_claimed_looked_at_and_proven(later: Client, engine: Engine) -> None:
    packet_id = await later.send("alice", total_fen=300, count=3)
    assert packet_id.startswith("11")
    assert (await get(later, f"/packets/{packet_id}", "alice"))["state"] == "open"
    assert (await later.claim(packet_id, "bob"))["outcome"] == "claimed"
    claims = {"claims": [{"packet_id": packet_id, "user_id": user} for user in ("carol", "dave")]}
    answer = await later.http.post("/v1/claims", json=claims, headers=later.as_backend())
    assert [result["outcome"] for result in answer.json()["results"]] == ["claimed", "claimed"]
    await settled(engine, packet_id)
    listed = (await get(later, f"/packets/{packet_id}/claims", "alice"))["claims"]
    assert len(listed) == 3
    assert (await get(later, f"/packets/{packet_id}/proof", "bob"))["packet_id"] == packet_id
    await get(later, f"/transactions/{packet_id}/receipt", "bob")
    paid_at_ms = (await get(later, f"/packets/{packet_id}", "alice"))["created_at_ms"]
    dispute = {"kind": "system_fault", "number": packet_id, "at_ms": paid_at_ms, "evidence": ["x"]}
    assert (await post(later, "/disputes", "alice", dispute))["number"] == packet_id
    (received,) = (await get(later, "/users/bob/packets?role=received", "bob"))["packets"]
    (entry,) = (await get(later, "/wallets/bob/transfers", "bob"))["transfers"]
    assert received["packet_id"] == entry["packet_id"] == packet_id


async def test_a_packet_is_taken_back(later: Client) -> None:
    packet_id = await later.send("alice", total_fen=300, count=3)
    await post(later, f"/packets/{packet_id}/views", "bob")
    await post(later, f"/packets/{packet_id}/retraction/consent", "bob")
    await post(later, f"/packets/{packet_id}/retraction", "alice", {})


async def test_a_transfer_is_looked_at_and_cancelled(later: Client) -> None:
    await later.deposit("alice", 500)
    number = (await post(later, "/transfers", "alice", {"to": "bob", "amount_fen": 500}))["transfer_id"]
    assert number.startswith("11")
    assert (await get(later, f"/transfers/{number}", "bob"))["transfer_id"] == number
    assert (await post(later, f"/transfers/{number}/cancellation", "alice"))["state"] == "cancelled"
