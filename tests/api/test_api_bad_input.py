"""Bad input at every endpoint: a 4xx with a code that names what is wrong, and never a 500."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from api.dispatch import Operation
from api.paths import PATH_NAMES, ROW_NUMBER_FORM, names_in
from api.payloads import BATCH_CLAIMS_MAX, PAGE_MAX, PageQuery
from api.routes import ROUTES
from engine.records import FEN_MAX
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.paths import filled, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
PACKET: Json = {"total_fen": 1_000, "count": 10, "split": "lucky"}
UNKNOWN = f"10000{'0' * 14}"
CLAIM: Json = {"packet_id": UNKNOWN, "user_id": "bob"}
SENDING = ("/v1/packets", "/v1/packets/preview")
DEPOSITS = "/v1/wallets/alice/deposits"
NOT_WHOLE: tuple[object, ...] = ("1", 1.0, 1.5, True, None, [], {}, 1e300, 2**64, -(2**63) - 1)
"""What is not a whole number in JSON, or is too large to be read as one."""
OUT_OF_RANGE: tuple[object, ...] = (0, -1, -(2**63), FEN_MAX, FEN_MAX + 1, 2**63, 2**64 - 1)
BAD_USERS = ("a b", "", "\0", "a\n", "恭喜", "a" * 65, "a/b", "'; DROP TABLE accounts; --", "<script>", "a\\", "é")
IN_A_PATH = (
    "a%20b",
    "%00",
    "a%00",
    "a%0A",
    "%E6%81%AD",
    "%FF%FE",
    "a" * 65,
    "%22",
    "%5C",
    "a+b",
    "%25",
    "%EF%BB%BF",
    "%7f",
)
NOT_JSON = {
    b"{": "unexpected end",
    b"nonsense": "not JSON",
    b'{"total_fen": NaN}': "not JSON",
    b'{"total_fen": -Infinity}': "not JSON",
    b'{"total_fen": 1e999}': "infinity",
    b'{"total_fen": 1' + b"0" * 400 + b"}": "infinity",
    b'{"total_fen": 01}': "not JSON",
    b"{'total_fen': 1}": "not JSON",
    b'{"total_fen": 1,}': "not JSON",
    b'{"total_fen": 1} {}': "not JSON",
    b'{"greeting": "\xff\xfe"}': "UTF-8",
    b"\xff\xfe{\x00}\x00": "UTF-8",
    b"\xef\xbb\xbf{}": "BOM",
    b'{"greeting": "\\ud800"}': "surrogate",
    b'{"greeting": "a\nb"}': "control character",
    b"[]": "must be a JSON object",
    b'"text"': "must be a JSON object",
    b"null": "must be a JSON object",
    b"1": "must be a JSON object",
    b'{"count": 1, "count": 2}': "same name twice",
    b'{"count": 1, "c\\u006funt": 2}': "same name twice",
    b'{"greeting": "\\"", "a": {"b": 1, "b": 1}}': "same name twice",
    b'{"a":' + b"[" * 500 + b"]" * 500 + b"}": "nested too deeply",
    b"[" * 60_000: "depth",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_settings: Settings) -> AsyncIterator[Client]:
    """Speaks for a user and may do everything, so that only the input can be wrong."""
    async with open_front(shared_settings) as client:
        client.http.headers.update(client.as_backend("alice", "admin", "send", "claim"))
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str, *fields: str) -> None:
    """The answer is this problem, and names these fields."""
    told = f"{answer.request.method} {answer.request.url} -> {answer.status_code} {answer.text[:500]}"
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), told
    problem = answer.json()
    assert problem["code"] == code, told
    assert {"type", "title", "status", "detail", "code"} <= set(problem), told
    assert set(fields) <= {error["field"] for error in problem.get("errors", [])}, (told, fields)


async def post(client: Client, path: str, body: object) -> httpx.Response:
    """POST what the standard library makes of ``body`` (it also writes what other readers refuse)."""
    return await client.http.post(path, content=json.dumps(body), headers=new_key())


def bad_packets() -> list[tuple[Json, str]]:
    """Bodies of a packet, each with the name of the field that is wrong."""

    def wrong(field: str, *values: object) -> list[tuple[Json, str]]:
        return [(PACKET | {field: value}, field) for value in values]

    some = [value for value in NOT_WHOLE if value is not None]
    in_recipients: tuple[object, ...] = (*BAD_USERS, 1, None, ["b"])
    return [
        *[({name: PACKET[name] for name in PACKET if name != field}, field) for field in PACKET],
        *[case for field in ("total_fen", "count") for case in wrong(field, *NOT_WHOLE, *OUT_OF_RANGE)],
        *[case for field in ("min_fen", "max_fen", "ttl_s") for case in wrong(field, *some, *OUT_OF_RANGE)],
        *wrong("split", "", "LUCKY", 1, None, ["lucky"]),
        *wrong("greeting", "x" * 201, "\0", "a\n", "\x7f", 1, None, []),
        *wrong("recipients", "bob", None, {}, ["a", "a"], 1),
        *[(PACKET | {"recipients": ["a", value]}, "recipients[1]") for value in in_recipients],
        *[case for name in ("sender", "Total_fen", "恭喜", "<script>") for case in wrong(name, 1)],
        *wrong("total_fen", 9, 200_001),
        (PACKET | {"split": "equal", "total_fen": 1_001}, "total_fen"),
    ]


@pytest.mark.parametrize("path", SENDING)
async def test_the_bad_field_of_a_packet_is_named(client: Client, path: str) -> None:
    for body, field in bad_packets():
        assert_problem(await post(client, path, body), 422, "invalid_fields", field)
    assert (await post(client, "/v1/packets/preview", PACKET)).status_code == 200


@pytest.mark.parametrize("path", SENDING)
async def test_every_bad_field_is_named_at_once(client: Client, path: str) -> None:
    answer = await post(client, path, {"total_fen": "1", "count": 1.0, "split": "x", "greeting": 1, "extra": 0})
    assert_problem(answer, 422, "invalid_fields", "total_fen", "count", "split", "greeting", "extra")
    out_of_range = {"max_fen": 20_001, "ttl_s": 0, "greeting": "\0", "recipients": ["a b"], "count": 2_000_000}
    answer = await post(client, path, PACKET | out_of_range)
    assert_problem(answer, 422, "invalid_fields", "max_fen", "ttl_s", "greeting", "recipients[0]", "count")
    bad = {"x-user-id": "a b", "idempotency-key": "clé".encode()}
    answer = await client.http.post("/v1/packets", json={"count": 1}, headers=bad)  # type: ignore[arg-type]
    assert_problem(answer, 422, "invalid_fields", "X-User-Id", "Idempotency-Key", "total_fen", "split")


async def test_the_bad_field_of_a_deposit_is_named(client: Client) -> None:
    bodies: list[Json] = [{}, *({"amount_fen": value} for value in (*NOT_WHOLE, *OUT_OF_RANGE))]
    for body in bodies:
        assert_problem(await post(client, DEPOSITS, body), 422, "invalid_fields", "amount_fen")
    assert_problem(
        await post(client, DEPOSITS, {"amount_fen": 1, "currency": "CNY"}), 422, "invalid_fields", "currency"
    )


async def test_the_bad_field_of_a_batch_is_named(client: Client) -> None:
    cases: list[tuple[object, str]] = [({}, "claims"), ({"claims": []}, "claims"), ({"claims": CLAIM}, "claims")]
    cases += [({"claims": [CLAIM] * (BATCH_CLAIMS_MAX + 1)}, "claims"), ({"claims": [CLAIM], "x": 1}, "x")]
    not_objects: tuple[object, ...] = (None, 1, "x", [])
    cases += [({"claims": [CLAIM, value]}, "claims[1]") for value in not_objects]
    cases += [({"claims": [CLAIM, {}]}, f"claims[1].{field}") for field in CLAIM]
    users: tuple[object, ...] = (*BAD_USERS, 1, None)
    cases += [({"claims": [CLAIM | {"user_id": user}]}, "claims[0].user_id") for user in users]
    cases += [({"claims": [CLAIM | {"packet_id": packet}]}, "claims[0].packet_id") for packet in (1, None, "x" * 65)]
    cases += [({"claims": [CLAIM | {"amount_fen": 1}]}, "claims[0].amount_fen")]
    for body, field in cases:
        assert_problem(await post(client, "/v1/claims", body), 422, "invalid_fields", field)


async def test_a_claim_with_something_in_its_body_is_told_so(client: Client) -> None:
    path = f"/v1/packets/{UNKNOWN}/claims"
    assert_problem(await post(client, path, {"user_id": "bob"}), 422, "invalid_fields", "user_id")
    assert_problem(await client.http.post(path, content=b"x"), 400, "malformed", "body")


@pytest.mark.parametrize("row", [row for row in ROUTES if row.body is not None], ids=lambda row: row.name)
async def test_a_body_that_cannot_be_read_is_told_why(client: Client, row: Operation) -> None:
    path = path_of(row, UNKNOWN)
    for body, why in NOT_JSON.items():
        answer = await client.http.request(row.method, path, content=body, headers=new_key())
        assert_problem(answer, 400, "malformed", "body")
        if why != "not JSON":
            assert why in answer.json()["detail"], (body[:50], answer.text)
    for kind in (
        "text/plain",
        "application/xml",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "application/json; charset=gbk",
        "",
    ):
        answer = await client.http.request(row.method, path, content=b"{}", headers=new_key() | {"content-type": kind})
        assert_problem(answer, 415, "unsupported_media_type", "Content-Type")
    for kind in ("application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"'):
        answer = await client.http.request(row.method, path, content=b"{}", headers=new_key() | {"content-type": kind})
        assert answer.status_code in (404, 422)


@pytest.mark.parametrize("row", [row for row in ROUTES if row.body is not None], ids=lambda row: row.name)
async def test_a_body_that_is_too_large_is_refused(client: Client, row: Operation) -> None:
    path = path_of(row, UNKNOWN)
    megabyte = json.dumps({"greeting": "x" * 1_000_000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(megabyte), 10_000):
            yield megabyte[start : start + 10_000]

    assert_problem(
        await client.http.request(row.method, path, content=megabyte, headers=new_key()), 413, "too_large", "body"
    )
    assert_problem(
        await client.http.request(row.method, path, content=chunks(), headers=new_key()), 413, "too_large", "body"
    )


OF_MERCHANTS = [row for row in ROUTES if "{mch_id}" in row.path]
WITH_A_NAME = [row for row in ROUTES if "{" in row.path and row not in OF_MERCHANTS]


@pytest.mark.parametrize("row", OF_MERCHANTS, ids=lambda row: row.name)
@pytest.mark.parametrize("merchant", ["1", "12345", "1" * 33, "1" * 400, "12345x", "１" * 10, *IN_A_PATH])
async def test_a_number_that_is_no_merchants_is_refused(client: Client, row: Operation, merchant: str) -> None:
    body: Json | None = None if row.method == "GET" else {}
    answer = await client.http.request(row.method, row.path.format(mch_id=merchant), json=body)
    assert_problem(answer, 422, "invalid_fields", "mch_id")


@pytest.mark.parametrize("row", WITH_A_NAME, ids=lambda row: row.name)
async def test_a_path_that_names_nothing_is_refused(client: Client, row: Operation) -> None:
    body = {"POST": {"amount_fen": 1} if row.path.endswith("deposits") else {}}.get(row.method)
    query = "?role=sent" if row.name == "list_packets" else ""
    if named := [name for name in ("user_id", "label") if f"{{{name}}}" in row.path]:
        for user in IN_A_PATH:
            answer = await client.http.request(
                row.method, path_of(row, UNKNOWN, user) + query, json=body, headers=new_key()
            )
            assert_problem(answer, 422, "invalid_fields", *named)
        return
    if "{asset}" in row.path:
        for asset in ("points", "PT", "P" * 33, "P%20T", *IN_A_PATH):
            path = row.path.format(asset=asset)
            assert_problem(await client.http.request(row.method, path, json=body), 422, "invalid_fields", "asset")
        return
    if "{coupon_id}" in row.path:
        for coupon in ("1", "1-0", "0-1", "01-1", "1-1-1", "1-123456789", "1--1", "1-x", f"{'1' * 400}-1", *IN_A_PATH):
            answer = await client.http.request(row.method, row.path.format(coupon_id=coupon), json=body)
            assert_problem(answer, 404, "not_found")
        return
    numbers = (
        UNKNOWN,
        f"10999{'0' * 14}",
        "1",
        "10" + "x" * 17,
        UNKNOWN + "0",
        "1" * 400,
        "-1",
        "10%00",
        f"{UNKNOWN}%0A",
    )
    if ROW_NUMBER_FORM in [PATH_NAMES[name].form for name in names_in(row.path)]:
        for number in (*numbers[3:], "0", "01", "1.0", *IN_A_PATH):
            answer = await client.http.request(row.method, path_of(row, "", row_number=number), json=body)
            assert_problem(answer, 404, "not_found")
        return
    for number in (*numbers, "１" * 19, "%D9%A1%D9%A0" + "0" * 17, *IN_A_PATH):
        answer = await client.http.request(row.method, path_of(row, number) + query, json=body)
        is_transaction = "{number}" in row.path
        code, field = ("unknown_transaction", "number") if is_transaction else ("unknown_packet", "packet_id")
        assert_problem(answer, 404, code, field)


PAGED = [row for row in ROUTES if row.query is not None and issubclass(row.query, PageQuery)]


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
async def test_a_bad_query_is_named(client: Client, row: Operation) -> None:
    assert (await post(client, DEPOSITS, {"amount_fen": 1_000})).status_code == 201
    packet_id = (await post(client, "/v1/packets", PACKET)).json()["packet_id"]
    path = path_of(row, packet_id)
    roles = {"list_packets": {"role": "sent"}, "list_card_offers": {"role": "made"}}
    role = roles.get(row.name, {})
    limits = ("0", "-1", str(PAGE_MAX + 1), "x", "1.0", "1e2", "1_0", " 1", "", "١", "9" * 400, "%00", "NaN")
    cases = [({"limit": limit}, "limit") for limit in limits]
    cursors: tuple[str, ...] = (
        "",
        "x",
        "-1",
        "1.5",
        "\0",
        "a" * 201,
        "恭",
        "1" * 200,
        "1-2-3",
        "' OR 1=1",
        str(2**63),
        str(2**64),
    )
    if row.name == "list_wechatpay_merchants":  # its cursor is a merchant's number, up to 32 digits
        cursors = tuple(
            cursor for cursor in cursors if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 33)
        )
    cases += [({"after": after}, "after") for after in cursors]
    cases += [({"cursor": "1"}, "cursor")]
    for query, field in cases:
        assert_problem(await client.http.get(path, params=role | query), 422, "invalid_fields", field)
    assert_problem(
        await client.http.get(path, params=[*role.items(), ("limit", "1"), ("limit", "2")]),
        422,
        "invalid_fields",
        "limit",
    )
    many = {f"p{number}": "" for number in range(30)}
    assert_problem(await client.http.get(path, params=many), 400, "malformed", "query")
    if role:
        for bad in ({}, {"role": ""}, {"role": "SENT"}, {"role": "both"}):
            assert_problem(await client.http.get(path, params=bad), 422, "invalid_fields", "role")


@pytest.mark.parametrize("query", ["reason=%ff", "reason=%E6%81", "reason=%ED%A0%80", "%ff=1", "reason=a&b=%80"])
async def test_a_query_that_is_not_utf8_is_not_guessed_at(client: Client, query: str) -> None:
    """A reason is kept with what it was for: not as the two signs that stand for what could not be read."""
    answer = await client.http.delete(f"http://front/v1/accounts/bob/freeze?{query}")
    assert_problem(answer, 400, "malformed", "query")


@pytest.mark.parametrize("path", sorted({row.path for row in ROUTES}))
async def test_a_wrong_method_is_told_which_are_right(client: Client, path: str) -> None:
    methods = {row.method for row in ROUTES if row.path == path}
    methods |= {"HEAD"} if "GET" in methods else set()
    real = filled(path, UNKNOWN)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"} - methods:
        answer = await client.http.request(method, real)
        assert_problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["allow"].split(", ")) == methods


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/packets/", "/nope", "/v1/wallets", "/v1/wallets/a/b/c", "//livez", "/%00"]
)
async def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert_problem(await client.http.request(method, f"http://front{path}"), 404, "not_found")


@pytest.mark.parametrize(("path", "body"), [("/v1/packets", PACKET), (DEPOSITS, {"amount_fen": 1})])
async def test_moving_money_needs_a_key(client: Client, path: str, body: Json) -> None:
    for headers in ({}, {"idempotency-key": ""}):
        answer = await client.http.post(path, json=body, headers=headers)
        assert_problem(answer, 400, "idempotency_key_required", "Idempotency-Key")
    for key in ("a b", "\t", "k" * 256, "clé", "\x7f"):
        answer = await client.http.post(path, json=body, headers={"idempotency-key": key.encode()})  # type: ignore[arg-type]
        assert_problem(answer, 422, "invalid_fields", "Idempotency-Key")
    twice = [*client.http.headers.items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
    assert_problem(await client.http.post(path, json=body, headers=twice), 400, "malformed", "idempotency-key")


@pytest.mark.parametrize("row", [row for row in ROUTES if row.access is not None], ids=lambda row: row.name)
async def test_the_user_a_backend_speaks_for_must_be_one(client: Client, row: Operation) -> None:
    path = path_of(row, UNKNOWN)
    for user in BAD_USERS:
        headers = new_key() | {"x-user-id": user.encode()}
        answer = await client.http.request(row.method, path, headers=headers)  # type: ignore[arg-type]
        assert_problem(answer, 422, "invalid_fields", "X-User-Id")
    twice = [*client.http.headers.items(), ("x-user-id", "mallory")]
    assert_problem(await client.http.request(row.method, path, headers=twice), 400, "malformed", "x-user-id")
