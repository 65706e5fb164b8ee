"""Every cell of the table in docs/access.md, asked: each endpoint with each set of scopes and each kind of token."""

from collections.abc import AsyncIterator
from itertools import combinations

import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.access.tokens import SCOPES, issue
from engine.settings import Settings
from tests.support.access_table import DOCUMENT, HOUR_S, Cell, Row, rows
from tests.support.asking import BODIES, ask, make_set_of_cards
from tests.support.front import Client, new_key, open_front

CODES = {401: "unauthorized", 404: "unknown_packet", 409: "insufficient_funds", 422: "invalid_fields"}

CONFLICTS = {
    "consent_to_retraction": "not_viewed",
    "get_proof": "not_settled",
    "get_receipt": "not_settled",
    "get_campaign_proof": "not_settled",
    "give_card": "card_lacking",
    "offer_card": "card_lacking",
    "accept_card_offer": "card_lacking",
    "list_card_grants": "not_drawn",
    "get_card_set_proof": "not_drawn",
    "claim_card_prize": "not_drawn",
}

OF_AN_OWNER = ("pause_campaign", "resume_campaign", "end_campaign", "decline_card_offer", "withdraw_card_offer")

NOT_FOUND = dict.fromkeys(("get_dispute", "decide_dispute"), "unknown_dispute")


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        await client.deposit("alice", 10_000)
        await client.http.put("/v1/assets/POINTS", json=BODIES["put_asset"], headers=client.as_user("root", "admin"))
        await client.withdraw("alice")
        made = await client.http.post(
            "/v1/campaigns", json=BODIES["make_campaign"], headers=client.as_user("alice", "send") | new_key()
        )
        assert made.json()["campaign_id"] == "1", made.text
        await make_set_of_cards(client)
        yield client


def speaking(client: Client, cell: Cell) -> dict[str, str]:
    """The headers of the cell's asker with the cell's scopes."""
    user = "backend" if "act" in cell.scopes else cell.asker.replace("anyone", "mallory")
    headers = {"authorization": f"Bearer {issue(client.secret, user, cell.scopes, HOUR_S)}"}
    speaks_for_another = "act" in cell.scopes and cell.asker in ("alice", "mallory")
    return headers | {"x-user-id": cell.asker} if speaks_for_another else headers


def test_every_route_has_rows_for_every_asker_and_nothing_else_has() -> None:
    guarded, free = {"alice", "mallory", "no one"}, {"anyone"}
    for operation in ROUTES:
        found = [cell for row in rows() if row.operation == operation.name for cell in row.cells]
        for packet in {cell.packet for cell in found}:
            askers = {cell.asker for cell in found if cell.packet == packet}
            assert askers == (free if operation.access is None else guarded), operation.name
        assert found, f"{operation.name} has no row in {DOCUMENT.name}"
        if "{packet_id}" in operation.path:
            assert {cell.packet for cell in found} == {"", "of a packet for alice"}
    assert {row.operation for row in rows()} == {operation.name for operation in ROUTES}


def test_every_row_has_every_scope_alone_and_every_pair() -> None:
    wanted = {(), *((scope,) for scope in SCOPES), *combinations(SCOPES, 2), SCOPES}
    for row in rows():
        asked = {cell.scopes for cell in row.cells}
        assert asked == (wanted if row.cells[0].asker != "no one" else {scopes for scopes in wanted if "act" in scopes})


@pytest.mark.parametrize("operation", ROUTES, ids=lambda operation: operation.name)
async def test_each_cell_is_what_is_answered(client: Client, operation: Operation) -> None:
    packets = {
        "": await client.send("alice"),
        "of a packet for alice": await client.send("bob", count=2, recipients=["alice", "carol"]),
    }
    asked = 0
    for row in of(operation):
        for cell in row.cells:
            answer = await ask(client, operation, speaking(client, cell), packets[cell.packet])
            assert answer.status_code == cell.status, (cell, answer.text)
            if cell.status >= 400:
                assert answer.json()["code"] == code_of(cell), (cell, answer.text)
            asked += 1
    assert asked >= 12


def code_of(cell: Cell) -> str:
    if cell.status == 404 and cell.operation in ("get_receipt", "file_dispute"):
        return "unknown_transaction"
    if cell.status == 409 and cell.operation in CONFLICTS:
        return CONFLICTS[cell.operation]
    if cell.status == 404 and cell.operation in NOT_FOUND:
        return NOT_FOUND[cell.operation]
    if cell.status == 409 and cell.operation == "complete_card_set":
        return "already_completed" if cell.asker == "alice" else "card_lacking"
    return CODES.get(cell.status, code_of_403(cell))


def code_of_403(cell: Cell) -> str:
    if cell.operation in ("retract_packet", *OF_AN_OWNER) and not {"send", "act"}.isdisjoint(cell.scopes):
        return "not_sender"
    if cell.operation == "make_card_set" and not {"send", "act"}.isdisjoint(cell.scopes):
        return "not_merchant"
    may_claim = not {"claim", "act"}.isdisjoint(cell.scopes)
    return "not_invited" if cell.operation == "claim" and cell.packet and may_claim else "forbidden"


def of(operation: Operation) -> list[Row]:
    return [row for row in rows() if row.operation == operation.name]
