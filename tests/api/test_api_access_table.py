"""Every cell of the table in docs/access.md, asked: each endpoint with each set of scopes and each kind of token."""

from collections.abc import AsyncIterator
from itertools import combinations

import httpx
import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.access.tokens import SCOPES, issue
from engine.settings import Settings
from tests.support.access_table import DOCUMENT, HOUR_S, Cell, Row, rows, wrong_tokens
from tests.support.front import Client, Json, new_key, open_front
from tests.support.paths import path_of

BODIES: dict[str, Json] = {
    "send_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "preview_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "claim": {},
    "claim_many": {"claims": [{"packet_id": f"10000{'0' * 14}", "user_id": "bob"}]},
    "deposit": {"amount_fen": 1},
    "retract_packet": {},
    "send_transfer": {"to": "bob", "amount_fen": 1},
    "freeze_account": {"reason": "odd"},
    "put_profile": {"kind": "person"},
    "put_label": {"day_sent_fen_max": 1},
    "file_dispute": {"kind": "system_fault", "number": f"10000{'0' * 14}", "at_ms": 1, "evidence": ["x"]},
    "decide_dispute": {"outcome": "rejected", "reason": "x"},
    "choose_arrival_delay": {"arrives_after_s": 0},
    "set_payment_password": {"password": "135790", "current_password": "135790"},
    "withdraw": {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": "135790"},
}
QUERIES = {"list_packets": {"role": "sent"}, "lift_freeze": {"reason": "all is well"}}
CODES = {401: "unauthorized", 404: "unknown_packet", 409: "insufficient_funds", 422: "invalid_fields"}

CONFLICTS = {"consent_to_retraction": "not_viewed", "get_proof": "not_settled", "get_receipt": "not_settled"}

NOT_FOUND = dict.fromkeys(("get_dispute", "decide_dispute"), "unknown_dispute")


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        await client.deposit("alice", 10_000)
        await client.withdraw("alice")
        yield client


def speaking(client: Client, cell: Cell) -> dict[str, str]:
    """The headers of the cell's asker with the cell's scopes."""
    user = "backend" if "act" in cell.scopes else cell.asker.replace("anyone", "mallory")
    headers = {"authorization": f"Bearer {issue(client.secret, user, cell.scopes, HOUR_S)}"}
    speaks_for_another = "act" in cell.scopes and cell.asker in ("alice", "mallory")
    return headers | {"x-user-id": cell.asker} if speaks_for_another else headers


async def ask(client: Client, row: Operation, headers: dict[str, str], packet_id: str) -> httpx.Response:
    """A proper request for alice's things."""
    path = path_of(row, packet_id)
    return await client.http.request(
        row.method, path, params=QUERIES.get(row.name), json=BODIES.get(row.name), headers=new_key() | headers
    )


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
    return CODES.get(cell.status, code_of_403(cell))


def code_of_403(cell: Cell) -> str:
    if cell.operation == "retract_packet" and not {"send", "act"}.isdisjoint(cell.scopes):
        return "not_sender"
    may_claim = not {"claim", "act"}.isdisjoint(cell.scopes)
    return "not_invited" if cell.operation == "claim" and cell.packet and may_claim else "forbidden"


@pytest.mark.parametrize("operation", ROUTES, ids=lambda operation: operation.name)
async def test_no_genuine_token_no_answer(client: Client, operation: Operation) -> None:
    (without,) = {row.without for row in of(operation)}
    assert without == (200 if operation.access is None else 401)
    packet_id = await client.send("alice")
    for kind, token in wrong_tokens(client.secret).items():
        for more in ({}, {"x-user-id": "alice"}):
            headers = more if token is None else {**more, "authorization": token}
            answer = await ask(client, operation, headers, packet_id)
            assert answer.status_code == without, (kind, answer.text)
            if without == 401:
                assert answer.json()["code"] == "unauthorized", kind
                assert answer.headers["www-authenticate"] == 'Bearer realm="hongbao"', kind


@pytest.mark.parametrize(
    "operation", [row for row in ROUTES if row.access is not None], ids=lambda operation: operation.name
)
async def test_a_user_cannot_speak_for_another(client: Client, operation: Operation) -> None:
    scopes = [scope for scope in SCOPES if scope != "act"]
    for speaks_for in ("bob", "alice"):
        headers = client.as_user("alice", *scopes) | {"x-user-id": speaks_for}
        answer = await ask(client, operation, headers, f"10000{'0' * 14}")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "act" in answer.json()["detail"]


def of(operation: Operation) -> list[Row]:
    return [row for row in rows() if row.operation == operation.name]
