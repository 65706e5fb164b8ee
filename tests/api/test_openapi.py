"""The OpenAPI document: complete, consistent in itself, and true of real answers."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import orjson
import pytest

from api.documents.openapi import document, statuses
from api.failures import ALL, codes_by_status, failures_of
from api.problems import kind_of
from api.routes import RESOURCES, ROUTES
from engine.settings import Settings
from tests.support.asking import BODIES
from tests.support.coupons import with_keys
from tests.support.documented import PROBLEM, UNROUTED, check, codes_of
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import persisting

DOCUMENT: Json = orjson.loads(document(ROUTES))


Asked = tuple[str, str, dict[str, str], object, int]
"""A request: method, path, headers, body; and the status of its answer."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


def nodes(value: object) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def resolved(schema: Json) -> Json:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def mismatches(value: object, schema: Json, place: str = "answer") -> list[str]:
    """Where ``value`` is not what ``schema`` says; of JSON Schema, the part the document uses."""
    schema = resolved(schema)
    if "anyOf" in schema:
        found = [mismatches(value, option, place) for option in schema["anyOf"]]
        return [] if [] in found else [f"{place}: none of {len(found)} alternatives"]
    problems = [f"{place}: {value!r} is not in {schema['enum']}"] if value not in schema.get("enum", [value]) else []
    kind = schema.get("type")
    types: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
    types["boolean"] = bool
    if kind is not None and not isinstance(value, types[kind]):
        return [*problems, f"{place}: {value!r} is no {kind}"]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        problems += [f"{place}: lacks {name}" for name in schema.get("required", []) if name not in value]
        problems += [f"{place}: {name} is not documented" for name in value if name not in known]
        for name in value.keys() & known.keys():
            problems += mismatches(value[name], known[name], f"{place}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            problems += mismatches(item, schema.get("items", {}), f"{place}[{index}]")
    return problems


def test_every_route_is_documented_and_nothing_else() -> None:
    documented = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    assert documented == {(row.path, row.method) for row in ROUTES}
    assert DOCUMENT["openapi"] == "3.1.0"


def test_every_status_a_route_can_answer_is_documented() -> None:
    for row in ROUTES:
        operation = DOCUMENT["paths"][row.path][row.method.lower()]
        assert set(operation["responses"]) == {str(status) for status in statuses(row)}
        assert ("security" in operation) == (row.access is not None)


def test_every_code_is_documented_where_it_is_answered() -> None:
    listed = set()
    for row in ROUTES:
        for status, codes in codes_by_status(failures_of(row)).items():
            answer = DOCUMENT["paths"][row.path][row.method.lower()]["responses"][str(status)]
            assert answer["x-codes"] == codes
            assert {kind_of(error).status for error in ALL if error.code in codes} == {status}
            listed |= set(codes)
    everything = {error.code for error in ALL}
    assert everything - listed == {"method_not_allowed"}  # which is the answer where there is no operation
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == everything


def test_a_code_that_is_not_documented_is_seen() -> None:
    assert codes_of("POST", "/v1/packets", 409) == {
        *("idempotency_in_flight", "insufficient_funds", "limit_exceeded", "limit_reached"),
    }
    assert codes_of("GET", "/v1/disputes/7", 404) == {"not_found", "unknown_dispute"}
    assert codes_of("POST", "/v1/packets/preview", 409) == set()
    assert codes_of("PATCH", "/v1/packets", 405) == codes_of("GET", "/v1/nothing", 404) == UNROUTED


async def test_a_client_of_the_tests_refuses_a_code_that_is_not_documented(client: Client) -> None:
    answer = httpx.Response(
        409,
        json={"code": "not_settled"},
        headers={"content-type": PROBLEM},
        request=client.http.build_request("GET", "/v1/wallets/alice"),
    )
    with pytest.raises(AssertionError, match="not_settled"):
        await check(answer)
    assert client.http.event_hooks["response"] == [check]


def test_references_and_names_lead_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for node in nodes(DOCUMENT):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/components/schemas/") in schemas
    operations = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(set(operations)) == len(operations)
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))


def test_bodies_are_documented_with_their_fields() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["PacketBody"]["required"] == ["total_fen", "count", "split"]
    assert schemas["PacketBody"]["additionalProperties"] is False
    assert schemas["ClaimsBody"]["properties"]["claims"]["maxItems"] == 1_000


async def test_the_document_is_served(client: Client) -> None:
    assert (await client.http.get("/openapi.json")).json() == DOCUMENT


async def test_real_answers_are_as_documented(client: Client) -> None:
    packet_id = await client.send("alice", count=1)
    taken_back = await client.send("alice", count=1)
    await client.deposit("alice", 3_000)
    packet = {"total_fen": 1_000, "count": 1, "split": "lucky"}
    claims = {"claims": [{"packet_id": packet_id, "user_id": "bob"}, {"packet_id": "1", "user_id": "bob"}]}
    withdrawal = {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": "135790"}
    alice, bob, backend = client.as_user("alice"), client.as_user("bob"), client.as_backend()
    root, carol = client.as_user("root", "admin"), client.as_user("carol", "send")
    transfer = await client.http.post("/v1/transfers", json={"to": "bob", "amount_fen": 1}, headers=alice | new_key())
    transfer_id = transfer.json()["transfer_id"]
    view = await client.http.get(f"/v1/packets/{packet_id}", headers=alice)
    dispute = {"kind": "system_fault", "number": packet_id, "at_ms": view.json()["created_at_ms"], "evidence": ["x"]}
    calls: list[Asked] = [
        ("POST", "/v1/packets", alice, packet, 201),
        ("POST", "/v1/packets", client.as_user("poor"), packet, 409),
        ("POST", "/v1/packets", alice, packet | {"count": 0}, 422),
        ("POST", "/v1/packets/preview", alice, packet, 200),
        ("POST", f"/v1/packets/{packet_id}/claims", bob, None, 200),
        ("POST", f"/v1/packets/{packet_id}/claims", bob, None, 200),
        ("POST", f"/v1/packets/{packet_id}/claims", alice, None, 200),
        ("POST", "/v1/packets/1/claims", bob, None, 404),
        ("POST", f"/v1/packets/{packet_id}/claims", {}, None, 401),
        ("POST", f"/v1/packets/{packet_id}/claims", root, None, 403),
        ("GET", f"/v1/packets/{packet_id}", bob, None, 200),
        ("GET", f"/v1/packets/{packet_id}/claims", bob, None, 200),
        ("GET", f"/v1/packets/{packet_id}/claims/bob", bob, None, 200),
        ("GET", f"/v1/packets/{packet_id}/claims/bob", alice, None, 404),
        ("PUT", "/v1/users/bob/display", bob, BODIES["put_display"], 200),
        ("PUT", "/v1/users/bob/display", bob, {"name": ""}, 422),
        ("GET", "/v1/users/bob/display", bob, None, 200),
        ("DELETE", "/v1/users/bob/display", bob, None, 200),
        ("GET", f"/v1/packets/{packet_id}/proof", bob, None, 409),
        ("GET", f"/v1/transactions/{packet_id}/receipt", alice, None, 409),
        ("POST", f"/v1/packets/{taken_back}/views", bob, None, 200),
        ("POST", f"/v1/packets/{taken_back}/retraction", alice, {}, 409),
        ("POST", f"/v1/packets/{taken_back}/retraction/consent", bob, None, 200),
        ("POST", f"/v1/packets/{taken_back}/retraction", alice, None, 200),
        ("POST", "/v1/transfers", alice, {"to": "bob", "amount_fen": 1, "arrives_after_s": 7_200}, 201),
        ("GET", f"/v1/transfers/{transfer_id}", bob, None, 200),
        ("POST", f"/v1/transfers/{transfer_id}/confirmation", bob, None, 409),
        ("POST", f"/v1/packets/{transfer_id}/claims", bob, None, 409),
        ("POST", f"/v1/transfers/{transfer_id}/cancellation", alice, None, 200),
        ("GET", "/v1/wallets/alice/arrival-delay", alice, None, 200),
        ("PUT", "/v1/wallets/alice/arrival-delay", alice, {"arrives_after_s": 7_200}, 200),
        ("POST", "/v1/disputes", alice, dispute, 201),
        ("POST", "/v1/disputes", alice, dispute | {"evidence": ["y"]}, 409),
        ("GET", "/v1/disputes/1", alice, None, 200),
        ("GET", "/v1/disputes/1", bob, None, 404),
        ("POST", "/v1/disputes/1/decision", root, {"outcome": "rejected", "reason": "x"}, 200),
        ("POST", "/v1/disputes/1/decision", root, {"outcome": "upheld", "reason": "x"}, 409),
        ("POST", "/v1/claims", backend, claims, 200),
        ("POST", "/v1/wallets/alice/deposits", root, {"amount_fen": 5}, 201),
        ("GET", "/v1/wallets/alice", alice, None, 200),
        ("GET", "/v1/wallets/alice/transfers", alice, None, 200),
        ("GET", "/v1/users/alice/packets?role=sent", alice, None, 200),
        ("GET", "/v1/users/alice/suggestions?label=team&count=6", alice, None, 200),
        ("POST", "/v1/wallets/alice/withdrawals", alice, withdrawal, 409),
        ("PUT", "/v1/wallets/alice/payment-password", alice, {"password": "135790"}, 200),
        ("PUT", "/v1/wallets/alice/payment-password", alice, {"password": "135790"}, 422),
        ("POST", "/v1/wallets/alice/withdrawals", alice, withdrawal, 201),
        *([("POST", "/v1/wallets/alice/withdrawals", alice, withdrawal | {"payment_password": "0" * 6}, 403)] * 4),
        ("POST", "/v1/wallets/alice/withdrawals", alice, withdrawal | {"payment_password": "0" * 6}, 423),
        ("GET", "/v1/wallets/alice/withdrawals", alice, None, 200),
        ("GET", "/v1/wallets/alice/withdrawals/1", alice, None, 200),
        ("GET", "/v1/wallets/alice/withdrawals/2", alice, None, 404),
        ("PUT", "/v1/accounts/alice/freeze", root, {"reason": "odd"}, 200),
        ("GET", "/v1/accounts/alice", root, None, 200),
        ("POST", "/v1/packets", alice, packet, 403),
        ("DELETE", "/v1/accounts/alice/freeze?reason=well", root, None, 200),
        ("PUT", "/v1/accounts/alice/profile", root, {"kind": "merchant", "transaction_fen_max": 1}, 200),
        ("POST", "/v1/packets", alice, packet, 409),
        ("PUT", "/v1/labels/team", root, {"day_sent_fen_max": 1}, 200),
        ("PUT", "/v1/assets/POINTS", root, {"scale": 1, "name": "积分"}, 200),
        ("PUT", "/v1/assets/POINTS", root, {"scale": 2, "name": "积分"}, 409),
        ("POST", "/v1/wallets/alice/deposits", root, {"amount_fen": 5, "asset": "POINTS"}, 201),
        ("GET", "/v1/assets", alice, None, 200),
        ("GET", "/v1/assets/POINTS", alice, None, 200),
        ("GET", "/v1/assets/MILES", alice, None, 404),
        ("GET", "/v1/wallets/alice/holdings", alice, None, 200),
        ("POST", "/v1/wallets/carol/deposits", root, {"amount_fen": 5}, 201),
        ("POST", "/v1/campaigns", carol, BODIES["make_campaign"], 201),
        ("POST", "/v1/campaigns", carol, BODIES["make_campaign"] | {"lanes": 0}, 422),
        ("GET", "/v1/campaigns/1", alice, None, 200),
        ("GET", "/v1/campaigns/1/wins/alice", alice, None, 200),
        ("GET", "/v1/campaigns/2/wins/alice", alice, None, 404),
        ("GET", "/v1/campaigns/2", alice, None, 404),
        ("GET", "/v1/users/carol/campaigns", carol, None, 200),
        ("POST", "/v1/campaigns/1/grabs", alice, {}, 200),
        ("POST", "/v1/grabs", backend, {"grabs": [{"campaign_id": name, "user_id": "a"} for name in ("1", "2")]}, 200),
        ("PUT", "/v1/campaigns/1/waves/1", carol, BODIES["extend_wave"], 200),
        ("PUT", "/v1/campaigns/1/waves/0", carol, BODIES["extend_wave"], 422),
        ("POST", "/v1/campaigns/1/grants", backend | {"x-user-id": "alice"}, {"wins": 2}, 201),
        ("PUT", "/v1/campaigns/1/pause", carol, None, 200),
        ("PUT", "/v1/campaigns/1/pause", alice, None, 403),
        ("DELETE", "/v1/campaigns/1/pause", carol, None, 200),
        ("POST", "/v1/campaigns/1/end", carol, None, 200),
        ("PUT", "/v1/campaigns/1/pause", carol, None, 409),
        ("GET", "/v1/campaigns/1/proof", alice, None, 409),
        ("PUT", "/v1/accounts/carol/profile", root, {"kind": "merchant"}, 200),
        ("POST", "/v1/fundraisers", carol, BODIES["make_fundraiser"], 201),
        ("POST", "/v1/fundraisers", carol, BODIES["make_fundraiser"] | {"goal_fen": 0}, 422),
        ("GET", "/v1/fundraisers/2", alice, None, 404),
        ("GET", "/v1/users/carol/fundraisers", carol, None, 200),
        ("POST", "/v1/fundraisers/1/matches", client.as_user("dave"), BODIES["match_gifts"], 403),
        ("POST", "/v1/fundraisers/1/matches", carol, BODIES["match_gifts"], 201),
        ("POST", "/v1/fundraisers/1/gifts", carol, BODIES["give"], 201),
        ("POST", "/v1/fundraisers/1/gifts", carol, BODIES["give"] | {"amount_fen": 100}, 409),
        ("GET", "/v1/fundraisers/1", alice, None, 200),
        ("GET", "/v1/fundraisers/1/gifts", alice, None, 200),
        ("GET", "/v1/fundraisers/1/gifts/1/receipt", carol, None, 200),
        ("GET", "/v1/fundraisers/1/gifts/1/receipt", alice, None, 404),
        ("POST", "/v1/fundraisers/1/end", alice, None, 403),
        ("POST", "/v1/fundraisers/1/end", carol, None, 200),
        ("POST", "/v1/fundraisers/1/gifts", carol, BODIES["give"], 409),
        *_of_cards(client),
        ("PUT", "/v1/wechatpay/merchants/1900000109", root, BODIES["put_wechatpay_merchant"], 200),
        ("GET", "/v1/wechatpay/merchants/1900000109", root, None, 200),
        ("GET", "/v1/wechatpay/merchants", root, None, 200),
        ("POST", "/v1/wechatpay/merchants/1900000109/keys", root, BODIES["renew_wechatpay_key"], 200),
        ("GET", "/v1/alerts", root, None, 200),
        ("GET", "/livez", {}, None, 200),
        ("GET", "/readyz", {}, None, 200),
    ]
    answered = await answered_as_documented(client, calls)
    of_coupons = {row.name for row in RESOURCES["Coupons 优惠券"]}
    assert answered == {row.name for row in ROUTES} - of_coupons - {"show_metrics", "show_openapi", "get_statement"}


async def answered_as_documented(client: Client, calls: Sequence[Asked]) -> set[str]:
    """The operations that were asked."""
    answered = set()
    for method, path, headers, body, status in calls:
        answer = await client.http.request(method, path, json=body, headers=headers | new_key())
        assert answer.status_code == status, (method, path, answer.text)
        (row,) = [row for row in ROUTES if row.method == method and _matches(row.path, path)]
        answered.add(row.name)
        content = DOCUMENT["paths"][row.path][method.lower()]["responses"][str(status)]["content"]
        schema = content[answer.headers["content-type"]]["schema"]
        assert mismatches(answer.json(), schema, f"{method} {path} {status}") == []
    return answered


async def test_answers_about_coupons_are_as_documented(client: Client, settings: Settings) -> None:
    alice, bob, backend = client.as_user("alice"), client.as_user("bob"), client.as_backend()
    root, carol = client.as_user("root", "admin"), client.as_user("carol", "send")
    uploaded = BODIES["make_coupon_batch"] | {"codes": "uploaded", "is_transferable": True}
    making: list[Asked] = [
        ("POST", "/v1/coupon-batches", carol, BODIES["make_coupon_batch"], 403),
        ("PUT", "/v1/accounts/carol/profile", root, {"kind": "merchant"}, 200),
        ("POST", "/v1/coupon-batches", carol, BODIES["make_coupon_batch"] | {"count": 0}, 422),
        ("POST", "/v1/coupon-batches", carol, uploaded, 201),
        ("GET", "/v1/coupon-batches/1", carol, None, 200),
        ("GET", "/v1/coupon-batches/1", bob, None, 404),
        ("GET", "/v1/users/carol/coupon-batches", carol, None, 200),
        ("PUT", "/v1/coupon-batches/1/codes/1", carol, {"codes": ["code-1", "code-2"]}, 200),
        ("PUT", "/v1/coupon-batches/1/codes/1", carol, {"codes": ["code-3"]}, 409),
        ("PUT", "/v1/coupon-batches/1/codes/2", carol, {"codes": ["code-2"]}, 422),
    ]
    answered = await answered_as_documented(client, making)
    packet = {"total_fen": 2, "count": 2, "split": "equal", "asset": "COUPON_1", "ttl_s": 60}
    dropped = (await client.http.post("/v1/packets", json=packet, headers=carol | new_key())).json()["packet_id"]
    claiming: list[Asked] = [
        ("POST", f"/v1/packets/{dropped}/claims", bob, None, 200),
        ("POST", "/v1/claims", backend, {"claims": [{"packet_id": dropped, "user_id": "bob"}]}, 200),
        ("GET", "/v1/coupons/1-1", bob, None, 200),
        ("GET", "/v1/coupons/1-2", bob, None, 404),
        ("GET", "/v1/users/bob/coupons?state=held", bob, None, 200),
        ("POST", "/v1/coupons/1-1/transfer", bob, {"to": "dave"}, 201),
        ("POST", "/v1/coupon-batches/1/redemptions", carol, {"code": "code-1"}, 201),
        ("POST", "/v1/coupons/1-1/redemption", carol, None, 409),
        ("POST", f"/v1/packets/{dropped}/claims", alice, None, 200),
        ("POST", "/v1/coupons/1-2/redemption", bob, None, 403),
        ("POST", "/v1/coupons/1-2/void", carol, {"note": "odd"}, 201),
        ("GET", "/v1/coupon-batches/1/statement", carol, None, 200),
        ("POST", f"/v1/packets/{dropped}/claims", alice, None, 200),
    ]
    async with persisting(settings):
        answered |= await answered_as_documented(client, claiming)
    assert answered >= {row.name for row in RESOURCES["Coupons 优惠券"]} - {"list_redemptions"}


def _of_cards(client: Client) -> list[tuple[str, str, dict[str, str], object, int]]:
    """Calls about a set of cards of carol's."""
    carol, bob, backend = client.as_user("carol", "send", "claim"), client.as_user("bob"), client.as_backend()
    root, body = client.as_user("root", "admin"), BODIES["make_card_set"]
    return [
        ("POST", "/v1/card-sets", bob, body, 403),
        ("PUT", "/v1/accounts/carol/profile", root, {"kind": "merchant"}, 200),
        ("POST", "/v1/wallets/carol/deposits", root, {"amount_fen": 100}, 201),
        ("POST", "/v1/card-sets", carol, body, 201),
        ("POST", "/v1/card-sets", carol, body, 409),
        ("POST", "/v1/card-sets", carol, body | {"min_fen": 2}, 422),
        ("GET", "/v1/card-sets/1", bob, None, 200),
        ("GET", "/v1/card-sets/2", bob, None, 404),
        ("POST", "/v1/card-sets/1/gifts", carol, {"card": 2, "to_user": "bob"}, 201),
        ("POST", "/v1/card-sets/1/gifts", bob, {"card": 1, "to_user": "carol"}, 409),
        ("POST", "/v1/card-sets/1/grants", backend, BODIES["grant_card"] | {"user_id": "dave"}, 201),
        ("GET", "/v1/card-sets/1/grants", bob, None, 409),
        ("POST", "/v1/card-sets/1/offers", carol, BODIES["offer_card"], 201),
        ("POST", "/v1/card-sets/1/offers", carol, BODIES["offer_card"] | {"to_user": "dave"}, 201),
        ("POST", "/v1/card-sets/1/offers", carol, BODIES["offer_card"] | {"to_user": "bob"}, 201),
        ("GET", "/v1/card-sets/1/offers", bob, None, 200),
        ("GET", "/v1/users/carol/card-offers?role=made", carol, None, 200),
        ("GET", "/v1/card-offers/1", bob, None, 200),
        ("GET", "/v1/card-offers/2", bob, None, 404),
        ("POST", "/v1/card-offers/1/accept", bob, None, 200),
        ("POST", "/v1/card-offers/1/withdraw", carol, None, 409),
        ("POST", "/v1/card-offers/2/withdraw", carol, None, 200),
        ("POST", "/v1/card-offers/3/decline", carol, None, 403),
        ("POST", "/v1/card-offers/3/decline", bob, None, 200),
        ("POST", "/v1/card-sets/1/completions", carol, None, 201),
        ("POST", "/v1/card-sets/1/completions", bob, None, 409),
        ("POST", "/v1/card-sets/1/prize", carol, None, 409),
        ("GET", "/v1/card-sets/1/shares", bob, None, 200),
        ("GET", "/v1/card-sets/1/proof", bob, None, 409),
        ("GET", "/v1/users/carol/cards?set_id=1", carol, None, 200),
        ("GET", "/v1/users/carol/card-sets", carol, None, 200),
    ]


def _matches(template: str, path: str) -> bool:
    pattern = (
        "/v1/packets/preview" if template == "/v1/packets/preview" else re.sub(r"{\w+}", r"[0-9A-Za-z-]+", template)
    )
    return re.fullmatch(pattern, path.partition("?")[0]) is not None and not (
        template == "/v1/packets/{packet_id}" and path == "/v1/packets/preview"
    )
