"""Coupons over HTTP: made, filled, dropped, claimed with their codes, redeemed once; and who sees what."""

from collections.abc import AsyncIterator

import orjson
import pytest

from engine.coupons import redemptions
from engine.settings import Settings
from tests.support.asking import BODIES, TOMORROW_MS
from tests.support.coupons import with_keys
from tests.support.front import Client, Json, new_key, open_front, serving
from tests.support.scenes import persisting

UPLOADED = BODIES["make_coupon_batch"] | {"codes": "uploaded", "is_transferable": True}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client, persisting(settings):
        await be_merchant(client)
        yield client


async def be_merchant(client: Client) -> None:
    profile = await client.http.put(
        "/v1/accounts/mall/profile", json={"kind": "merchant"}, headers=client.as_user("root", "admin")
    )
    assert profile.status_code == 200, profile.text


async def call(client: Client, user: str, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
    """An answer, which must be no problem."""
    said = client.as_user(user) | new_key() | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.http.request(method, path, json=body, headers=said)
    assert answer.status_code < 300, answer.text
    found: Json = answer.json()
    return found


async def problem(client: Client, user: str, method: str, path: str, body: Json | None = None) -> tuple[int, str]:
    """The status and the code of a problem."""
    answer = await client.http.request(method, path, json=body, headers=client.as_user(user) | new_key())
    return answer.status_code, answer.json()["code"]


async def dropped(client: Client, count: int = 2, **batch: object) -> str:
    """A packet of all the coupons of the next batch of mall's; its number."""
    made = await call(client, "mall", "POST", "/v1/coupon-batches", UPLOADED | {"count": count, **batch})
    batch_id = made["batch_id"]
    assert made["asset"] == f"COUPON_{batch_id}"
    codes = [f"code-{batch_id}-{number}" for number in range(1, count + 1)]
    if batch.get("codes") != "derived":
        await call(client, "mall", "PUT", f"/v1/coupon-batches/{batch_id}/codes/1", {"codes": codes})
    packet = {"total_fen": count, "count": count, "split": "equal", "asset": made["asset"], "ttl_s": 60}
    return str((await call(client, "mall", "POST", "/v1/packets", packet))["packet_id"])


async def test_a_claim_carries_its_coupon(client: Client) -> None:
    packet_id = await dropped(client)
    claimed = await client.claim(packet_id, "ada")
    coupon = claimed.pop("coupon")
    assert claimed == {"outcome": "claimed", "amount_fen": 1, "packet_id": packet_id, "user_id": "ada"}
    assert (coupon["coupon_id"], coupon["code"], coupon["state"]) == ("1-1", "code-1-1", "held")
    assert (coupon["face"]["kind"], coupon["face"]["off_fen"]) == ("amount_off", 500)
    assert coupon["valid_until_ms"] == TOMORROW_MS
    again = await client.claim(packet_id, "ada")
    assert (again["outcome"], again["coupon"]) == ("already_claimed", coupon)
    claims = {"claims": [{"packet_id": packet_id, "user_id": user} for user in ("ada", "bob", "cid")]}
    answer = await client.http.post("/v1/claims", json=claims, headers=client.as_backend())
    results = answer.json()["results"]
    assert [result["outcome"] for result in results] == ["already_claimed", "claimed", "sold_out"]
    assert [result.get("coupon", {}).get("code") for result in results] == ["code-1-1", "code-1-2", None]


async def test_claims_of_coupons_do_not_go_the_short_way(client: Client, settings: Settings) -> None:
    """It would answer a claim without its coupon. This server cannot show it, as it has no key, and says so."""
    packet_id = await dropped(client)
    async with serving(settings.model_copy(update={"coupon_keys": None, "wechatpay_keys": None})) as (keyless, _):
        headers = keyless.as_user("ada")
        for _ in range(3):
            answer = await keyless.http.post(f"/v1/packets/{packet_id}/claims", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "unconfirmed")
    assert (await client.claim(packet_id, "ada"))["coupon"]["code"] == "code-1-1"


async def test_who_sees_a_code(client: Client) -> None:
    packet_id = await dropped(client)
    await client.claim(packet_id, "ada")
    path = "/v1/coupons/1-1"
    assert (await call(client, "ada", "GET", path))["code"] == "code-1-1"
    assert (await call(client, "mall", "GET", path))["code"] is None
    assert await problem(client, "bob", "GET", path) == (404, "unknown_coupon")
    admin = client.as_user("root", "admin")
    assert (await client.http.get(path, headers=admin)).json()["code"] is None
    listed = await client.http.get("/v1/users/ada/coupons", headers=admin)
    assert [coupon["code"] for coupon in listed.json()["coupons"]] == [None]
    listed = await client.http.get("/v1/users/ada/coupons", headers=client.as_backend("ada"))
    assert [coupon["code"] for coupon in listed.json()["coupons"]] == ["code-1-1"]
    for page in (f"/v1/packets/{packet_id}", f"/v1/packets/{packet_id}/claims", "/v1/coupon-batches/1"):
        assert "code-1-" not in orjson.dumps(await call(client, "mall", "GET", page)).decode()


async def test_a_coupon_is_redeemed_once_by_number_or_code(client: Client) -> None:
    packet_id = await dropped(client)
    for user in ("ada", "bob"):
        await client.claim(packet_id, user)
    first = await call(client, "mall", "POST", "/v1/coupons/1-1/redemption", None, idempotency_key="a")
    assert (first["state"], first["holder"], first["coupon_id"]) == ("redeemed", "ada", "1-1")
    nothing: list[Json | None] = [None, {}]
    for body in nothing:  # an empty object is the same as no body
        again = await client.http.post(
            "/v1/coupons/1-1/redemption", json=body, headers=client.as_user("mall") | {"idempotency-key": "a"}
        )
        assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    other = await client.http.post(
        "/v1/coupons/1-2/redemption", headers=client.as_user("mall") | {"idempotency-key": "a"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    by_code = "/v1/coupon-batches/1/redemptions"
    assert await problem(client, "mall", "POST", by_code, {"code": "code-1-1"}) == (409, "coupon_ended")
    said: Json = {"code": "code-1-2", "note": "order 7"}
    second = await call(client, "mall", "POST", by_code, said, idempotency_key="b")
    assert await call(client, "mall", "POST", by_code, said, idempotency_key="b") == second
    for changed in (said | {"code": "code-1-1"}, said | {"note": "order 8"}):
        reused = await client.http.post(
            by_code, json=changed, headers=client.as_user("mall") | {"idempotency-key": "b"}
        )
        assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    ended = await client.http.post(by_code, json=said, headers=client.as_user("mall") | new_key())
    assert (ended.json()["state"], ended.json()["errors"][0]["field"]) == ("redeemed", "coupon_id")
    found = await call(client, "mall", "GET", "/v1/coupon-batches/1/statement")
    assert (found["count"], found["redeemed"], found["held"]) == (2, 2, 0)


async def test_redemptions_are_a_file(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redemptions, "PAGE", 2)
    packet_id = await dropped(client, 4)
    for number, user in enumerate("abcd", start=1):
        await client.claim(packet_id, user)
        if number < 4:
            note: Json = {"note": "=1+1"}
            await call(client, "mall", "POST", f"/v1/coupons/1-{number}/redemption", note)
    path = "/v1/coupon-batches/1/redemptions.csv"
    answer = await client.http.get(path, headers=client.as_user("mall"))
    assert answer.headers["content-disposition"] == 'attachment; filename="redemptions_1.csv"'
    columns, *lines = answer.text.removeprefix("\ufeff").splitlines()
    assert columns == "coupon_id,holder,redeemed_at_ms,transfer_id,note"
    assert [(line.split(",")[0], line.split(",")[1], line.split(",")[4]) for line in lines] == [
        (f"`1-{number}", f"`{user}", "`=1+1") for number, user in enumerate("abc", start=1)
    ]
    assert await problem(client, "ada", "GET", path) == (404, "unknown_coupon_batch")


async def test_a_repeat_is_answered_whatever_has_changed(client: Client) -> None:
    packet_id = await dropped(client, 3)
    for user in ("ada", "bob", "cid"):
        await client.claim(packet_id, user)
    asked = [
        ("mall", "/v1/coupons/1-1/redemption", {"note": "x"}),
        ("mall", "/v1/coupons/1-2/void", {"note": "x"}),
        ("cid", "/v1/coupons/1-3/transfer", {"to": "dan"}),
    ]
    first = [await call(client, user, "POST", path, body, idempotency_key="k") for user, path, body in asked]
    for user in ("mall", "ada", "bob", "cid", "dan"):
        frozen = await client.http.put(
            f"/v1/accounts/{user}/freeze", json={"reason": "test"}, headers=client.as_user("root", "admin")
        )
        assert frozen.status_code == 200
    assert [await call(client, user, "POST", path, body, idempotency_key="k") for user, path, body in asked] == first
    assert await problem(client, "dan", "POST", "/v1/coupons/1-3/transfer", {"to": "eve"}) == (403, "account_frozen")


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "\u202e"}, ["name"]),
        ({"name": "x" * 41}, ["name"]),
        ({"count": 0}, ["count"]),
        ({"count": 5_000_001}, ["count"]),
        ({"count": 10_000_001, "codes": "derived"}, ["count"]),
        ({"codes": "guessed"}, ["codes"]),
        ({"valid_from_ms": -1}, ["valid_from_ms"]),
        ({"valid_until_ms": 1}, ["valid_until_ms"]),
        ({"valid_from_ms": TOMORROW_MS}, ["valid_until_ms"]),
        ({"valid_until_ms": 2**53 - 1}, ["valid_until_ms"]),
        ({"face": {"kind": "gift"}}, ["face.kind"]),
        ({"face": {"kind": "amount_off"}}, ["face.off_fen"]),
        ({"face": {"kind": "amount_off", "off_fen": 0}}, ["face.off_fen"]),
        ({"face": {"kind": "amount_off", "off_fen": 5, "percent": 5}}, ["face.percent"]),
        ({"face": {"kind": "percent_off", "percent": 101}}, ["face.percent"]),
        ({"face": {"kind": "threshold", "off_fen": 5}}, ["face.from_fen"]),
        ({"face": {"kind": "threshold", "off_fen": 5, "from_fen": 4}}, ["face.from_fen"]),
        ({"face": {"kind": "text", "text": " "}}, ["face.text"]),
        ({"face": {"kind": "text", "text": "x" * 201}}, ["face.text"]),
        ({"name": "", "count": 0, "valid_until_ms": 1}, ["name", "count", "valid_until_ms"]),
    ],
)
async def test_each_bad_field_of_a_batch_is_named(client: Client, changed: Json, fields: list[str]) -> None:
    answer = await client.http.post(
        "/v1/coupon-batches", json=UPLOADED | changed, headers=client.as_user("mall") | new_key()
    )
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == fields


@pytest.mark.parametrize(
    "face",
    [
        {"kind": "amount_off", "off_fen": 1},
        {"kind": "percent_off", "percent": 100},
        {"kind": "threshold", "off_fen": 500, "from_fen": 500},
        {"kind": "text", "text": "买一送一"},
    ],
    ids=lambda face: face["kind"],
)
async def test_a_face_is_shown_as_it_was_said(client: Client, face: Json) -> None:
    await dropped(client, codes="derived", face=face)
    shown = (await call(client, "mall", "GET", "/v1/coupon-batches/1"))["face"]
    assert {name: value for name, value in shown.items() if value is not None} == face


async def test_bad_codes_and_bad_sendings_are_named(client: Client) -> None:
    await dropped(client)
    path = "/v1/coupon-batches/1/codes"
    for part, body, field in (
        ("1000001", {"codes": ["code-9"]}, "part"),
        ("0", {"codes": ["code-9"]}, "part"),
        ("2", {"codes": []}, "codes"),
        ("2", {"codes": ["x"]}, "codes[0]"),
        ("2", {"codes": [7]}, "codes[0]"),
        ("2", {"codes": ["code-9", "code-10", "code-11"]}, "codes"),
    ):
        answer = await client.http.put(f"{path}/{part}", json=body, headers=client.as_user("mall"))
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    packet = {"total_fen": 1, "count": 1, "split": "equal", "asset": "COUPON_1", "ttl_s": 60}
    for user, changed, field in (
        ("mall", {"total_fen": 2, "max_fen": 2}, "total_fen"),
        ("mall", {"ttl_s": 86_400, "asset": "COUPON_2"}, "asset"),
    ):
        await client.deposit(user, 1)
        answer = await client.http.post("/v1/packets", json=packet | changed, headers=client.as_user(user) | new_key())
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    deposit = await client.http.post(
        "/v1/wallets/mall/deposits",
        json={"amount_fen": 1, "asset": "COUPON_1"},
        headers=client.as_user("root", "admin") | new_key(),
    )
    assert (deposit.status_code, deposit.json()["errors"][0]["field"]) == (422, "asset")


async def test_batches_are_listed_for_their_owner(client: Client) -> None:
    for _ in range(3):
        await dropped(client)
    page = await call(client, "mall", "GET", "/v1/users/mall/coupon-batches?limit=2")
    assert ([batch["batch_id"] for batch in page["batches"]], page["next"]) == (["3", "2"], "2")
    page = await call(client, "mall", "GET", "/v1/users/mall/coupon-batches?limit=2&after=2")
    assert ([batch["uploaded"] for batch in page["batches"]], page["next"]) == ([2], None)
    assert await problem(client, "ada", "GET", "/v1/users/mall/coupon-batches") == (403, "forbidden")


async def test_a_server_without_keys_says_so(settings: Settings) -> None:
    async with open_front(settings.model_copy(update={"coupon_keys": None})) as client:
        await be_merchant(client)
        assert await problem(client, "mall", "POST", "/v1/coupon-batches", UPLOADED) == (409, "no_coupon_key")
