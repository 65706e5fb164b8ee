"""Disputes over HTTP: who sees them, who decides, what bad input is told."""

from collections.abc import AsyncIterator

import pytest

from engine.disputes.filing import EVIDENCE_LENGTH_MAX, EVIDENCE_MAX
from engine.ids import new_packet_number
from engine.settings import Settings
from tests.support.dispute_scene import with_small_disputes
from tests.support.front import Client, Json, open_front
from tests.support.scenes import persisting
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_small_disputes(settings)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client, persisting(settings):
        yield client


async def filed(client: Client, user: str = "alice", status: int = 201, **changes: object) -> Json:
    """What POST /v1/disputes answers for a packet of which bob has a share."""
    packet_id = await client.send("alice", total_fen=2_000, count=1)
    claim = await client.claim(packet_id, "bob")
    assert claim["outcome"] == "claimed"
    view = (await client.http.get(f"/v1/packets/{packet_id}", headers=client.as_user("alice"))).json()

    async def is_settled() -> bool:
        answer = await client.http.get(f"/v1/packets/{packet_id}", headers=client.as_user("alice"))
        return answer.json()["settled_at_ms"] is not None

    await wait_until(is_settled, what="the packet's settling")
    body: Json = {"kind": "fraud", "number": packet_id, "at_ms": view["created_at_ms"], "counterparty": "bob"}
    body |= {"evidence": ["he lied", "第二份证据"], **changes}
    answer = await client.http.post("/v1/disputes", json=body, headers=client.as_user(user))
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


async def test_over_http_parties_and_admins_see_it(client: Client) -> None:
    dispute = await filed(client)
    path = f"/v1/disputes/{dispute['dispute_id']}"
    seen = {
        user: await client.http.get(path, headers=headers)
        for user, headers in (
            ("alice", client.as_user("alice")),
            ("bob", client.as_user("bob")),
            ("root", client.as_user("root", "admin")),
            ("mallory", client.as_user("mallory")),
            ("nobody", client.as_backend()),
        )
    }
    assert {user: answer.status_code for user, answer in seen.items()} == {
        **dict.fromkeys(("alice", "bob", "root"), 200),
        **dict.fromkeys(("mallory", "nobody"), 404),
    }
    assert seen["alice"].json() == seen["root"].json() == dispute
    assert seen["bob"].json() == dispute | {"evidence": None}
    assert seen["mallory"].json()["code"] == "unknown_dispute"


async def test_over_http_an_admin_decides(client: Client) -> None:
    dispute = await filed(client)
    path, root = f"/v1/disputes/{dispute['dispute_id']}/decision", client.as_user("root", "admin")
    upheld = {"outcome": "upheld", "reason": "it is so"}
    refused = await client.http.post(path, json=upheld, headers=client.as_user("alice"))
    assert refused.status_code == 403
    for _ in range(2):
        decided = await client.http.post(path, json=upheld, headers=root)
        assert (decided.status_code, decided.json()["state"]) == (200, "upheld")
    other = await client.http.post(path, json=upheld | {"outcome": "rejected"}, headers=root)
    assert (other.status_code, other.json()["code"]) == (409, "dispute_decided")
    wallet = await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))
    assert wallet.json()["balance_fen"] == 2_000
    reasons = ("a\nb", "a\x85b", "")
    for bad in (
        {"outcome": "open", "reason": "x"},
        {"outcome": "upheld"},
        *(upheld | {"reason": text} for text in reasons),
    ):
        answer = await client.http.post(path, json=bad, headers=root)
        assert answer.status_code == 422, bad


async def test_over_http_a_system_fault_is_seen_by_who_filed_it_and_admins(client: Client) -> None:
    """It has no counterparty, so a backend that speaks for nobody must not pass for one."""
    dispute = await filed(client, kind="system_fault", counterparty=None)
    assert dispute["counterparty"] is None
    path = f"/v1/disputes/{dispute['dispute_id']}"
    for headers, status in (
        (client.as_user("alice"), 200),
        (client.as_backend("alice"), 200),
        (client.as_user("root", "admin"), 200),
        (client.as_user("bob"), 404),
        (client.as_backend("bob"), 404),
        (client.as_backend(), 404),
    ):
        assert (await client.http.get(path, headers=headers)).status_code == status


async def test_over_http_only_who_paid_files(client: Client) -> None:
    refused = await filed(client, "bob", 403, counterparty="alice")
    assert refused["code"] == "not_sender"
    number = new_packet_number(0)
    unknown = await filed(client, status=404, number=number)
    assert (unknown["code"], [problem["field"] for problem in unknown["errors"]]) == ("unknown_transaction", ["number"])
    receipt = await client.http.get(f"/v1/transactions/{number}/receipt", headers=client.as_user("alice"))
    assert (receipt.status_code, receipt.json()["detail"]) == (404, unknown["detail"])


async def test_over_http_the_longest_evidence_is_taken(client: Client) -> None:
    evidence = ["证" * EVIDENCE_LENGTH_MAX] * EVIDENCE_MAX
    assert (await filed(client, evidence=evidence))["evidence"] == evidence


BAD_FIELDS: list[tuple[Json, str]] = [
    ({"kind": "theft"}, "kind"),
    ({"number": "12"}, "number"),
    ({"number": "x" * 65}, "number"),
    ({"at_ms": -1}, "at_ms"),
    ({"at_ms": "now"}, "at_ms"),
    ({"counterparty": "a b"}, "counterparty"),
    ({"evidence": []}, "evidence"),
    ({"evidence": ["x"] * (EVIDENCE_MAX + 1)}, "evidence"),
    ({"evidence": ["x" * (EVIDENCE_LENGTH_MAX + 1)]}, "evidence[0]"),
    ({"evidence": [""]}, "evidence[0]"),
    ({"evidence": ["\0"]}, "evidence[0]"),
    ({"evidence": "x"}, "evidence"),
    ({"amount_fen": 1}, "amount_fen"),
]


async def test_over_http_every_bad_field_is_named(client: Client) -> None:
    body: Json = {"kind": "fraud", "number": new_packet_number(0), "at_ms": 1, "counterparty": "bob", "evidence": ["x"]}
    for change, field in BAD_FIELDS:
        answer = await client.http.post("/v1/disputes", json=body | change, headers=client.as_user("alice"))
        assert answer.status_code == 422, answer.text
        assert [problem["field"] for problem in answer.json()["errors"]] == [field]
