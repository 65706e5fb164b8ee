"""Every cell of the table in docs/access.md, asked: each endpoint with each set of scopes and each kind of token."""

import asyncio
from collections.abc import AsyncIterator
from itertools import combinations

import pytest

from api.dispatch import Operation
from api.routes import ROUTES
from engine.access.tokens import SCOPES, issue
from engine.lanes.reader import READ_WHOLE_COUNT_MAX
from engine.settings import Settings
from tests.support.access_table import DOCUMENT, HOUR_S, Cell, Row, rows
from tests.support.administrator import Administrator
from tests.support.asking import BODIES, QUERIES, ask, make_set_of_cards
from tests.support.copies import Left
from tests.support.coupons import with_keys
from tests.support.front import Client, new_key, open_front
from tests.support.paths import path_of
from tests.support.scenes import persisting

OF_COUPONS = {
    ("make_coupon_batch", 403): "not_merchant",
    ("upload_coupon_codes", 403): "not_sender",
    ("redeem_coupon_code", 403): "not_sender",
    ("redeem_coupon", 403): "not_sender",
    ("void_coupon", 403): "not_sender",
    ("get_coupon_batch", 404): "unknown_coupon_batch",
    ("get_coupon_statement", 404): "unknown_coupon_batch",
    ("list_redemptions", 404): "unknown_coupon_batch",
    ("redeem_coupon_code", 404): "unknown_coupon",
    ("get_coupon", 404): "unknown_coupon",
    ("transfer_coupon", 404): "unknown_coupon",
    ("redeem_coupon", 409): "coupon_ended",
    ("void_coupon", 409): "coupon_ended",
    ("transfer_coupon", 409): "coupon_ended",
}
"""Alice has a batch, and has claimed and redeemed a coupon of it. Mallory is no merchant."""
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

OF_AN_OWNER = (
    *("pause_campaign", "resume_campaign", "end_campaign", "extend_wave"),
    *("end_fundraiser", "decline_card_offer", "withdraw_card_offer"),
)

NOT_FOUND = dict.fromkeys(("get_dispute", "decide_dispute"), "unknown_dispute") | {
    "get_gift_receipt": "unknown_gift",
    "get_claim": "unknown_claim",
}


@pytest.fixture(scope="module")
def left(shared_settings: Settings) -> Left:
    """What the askers have and own, made once."""
    with asyncio.Runner() as runner:
        return runner.run(make_scene(with_keys(shared_settings)))


async def make_scene(settings: Settings) -> Left:
    async with open_front(settings) as client, persisting(settings):
        alice, root = client.as_user("alice", "send"), client.as_user("root", "admin")
        await client.deposit("alice", 10_000)
        await have_a_coupon_redeemed(client)
        await client.http.put("/v1/assets/POINTS", json=BODIES["put_asset"], headers=root)
        merchant = BODIES["put_wechatpay_merchant"]
        await client.http.put("/v1/wechatpay/merchants/1900000109", json=merchant, headers=root)
        await client.withdraw("alice")
        made = await client.http.post("/v1/campaigns", json=BODIES["make_campaign"], headers=alice | new_key())
        assert made.json()["campaign_id"] == "1", made.text
        for path, name in (("fundraisers", "make_fundraiser"), ("fundraisers/1/gifts", "give")):
            made = await client.http.post(f"/v1/{path}", json=BODIES[name], headers=alice | new_key())
            assert made.status_code == 201, made.text
        await client.http.put("/v1/accounts/alice/profile", json={"kind": "merchant"}, headers=root)
        await make_set_of_cards(client)
    return await Left.by(settings)


@pytest.fixture
async def client(left: Left, administrator: Administrator) -> AsyncIterator[Client]:
    """The front on a copy of it."""
    async with left.copied(administrator) as settings, open_front(settings) as client, persisting(settings):
        yield client


async def have_a_coupon_redeemed(client: Client) -> None:
    """Alice is a merchant, and redeems the first coupon of her first batch, which she has claimed herself."""
    alice, root = client.as_user("alice"), client.as_user("root", "admin")
    batch = BODIES["make_coupon_batch"] | {"codes": "uploaded", "is_transferable": True}
    packet = {"total_fen": 1, "count": 1, "split": "equal", "asset": "COUPON_1", "ttl_s": 60}
    for method, path, body, headers in (
        ("PUT", "/v1/accounts/alice/profile", {"kind": "merchant"}, root),
        ("POST", "/v1/coupon-batches", batch, alice),
        ("PUT", "/v1/coupon-batches/1/codes/1", BODIES["upload_coupon_codes"], alice),
        ("POST", "/v1/packets", packet, alice),
    ):
        answer = await client.http.request(method, path, json=body, headers=headers | new_key())
        assert answer.status_code in (200, 201), answer.text
    await client.claim(answer.json()["packet_id"], "alice")
    redeemed = await client.http.post("/v1/coupons/1-1/redemption", headers=alice | new_key())
    assert redeemed.status_code == 201, redeemed.text


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


@pytest.mark.long
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
    may_send = not {"send", "act"}.isdisjoint(cell.scopes)
    if (cell.operation, cell.status) in OF_COUPONS and (may_send or cell.status != 403):
        return OF_COUPONS[cell.operation, cell.status]
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
    if cell.operation in ("match_gifts", "make_card_set") and not {"send", "act"}.isdisjoint(cell.scopes):
        return "not_merchant"
    may_claim = not {"claim", "act"}.isdisjoint(cell.scopes)
    return "not_invited" if cell.operation == "claim" and cell.packet and may_claim else "forbidden"


def of(operation: Operation) -> list[Row]:
    return [row for row in rows() if row.operation == operation.name]


@pytest.mark.long
async def test_a_cursor_of_any_size_is_answered(client: Client) -> None:
    """Also one that is larger than the column which it is compared with."""
    packet_id = await client.send("alice", total_fen=2 * READ_WHOLE_COUNT_MAX, count=READ_WHOLE_COUNT_MAX + 1)
    alice = client.as_backend("alice", "admin")
    cursors = ("9999999999", "9" * 18, "1-9999999999", f"1-{2**63 - 1}", f"{'9' * 18}-{2**63 - 1}")
    pages = 0
    for operation in ROUTES:
        for after in cursors if operation.method == "GET" else ():
            params = (QUERIES.get(operation.name) or {}) | {"after": after}
            answer = await client.http.get(path_of(operation, packet_id), params=params, headers=alice)
            assert answer.status_code < 500, (operation.name, after, answer.text)
            pages += answer.status_code == 200
    assert pages > 50
