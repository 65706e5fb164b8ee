"""Random bodies, headers and queries at every endpoint: whatever comes in, never a 5xx."""

from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

import httpx
import orjson
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from api.dispatch import Operation
from api.routes import ROUTES
from engine.settings import Settings
from tests.support.asking import BODIES
from tests.support.front import Client, Json, open_front
from tests.support.paths import path_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]
PACKET: Json = {"total_fen": 1_000, "count": 10, "split": "lucky", "min_fen": 1, "max_fen": 500, "ttl_s": 60}
UNKNOWN = f"10000{'0' * 14}"
PROPER: dict[str, Json] = {
    "send_packet": PACKET | {"greeting": "hi", "recipients": ["a", "b"]},
    "preview_packet": PACKET | {"greeting": "hi", "recipients": ["a", "b"]},
    "claim": {},
    "claim_many": {"claims": [{"packet_id": f"10000{'0' * 14}", "user_id": "bob"}]},
    "deposit": {"amount_fen": 1},
    "retract_packet": {"confirm": True},
    "send_transfer": {"to": "bob", "amount_fen": 1, "confirm_within_s": 120, "note": "hi"},
    "choose_arrival_delay": {"arrives_after_s": 0},
    "set_payment_password": {"password": "135790"},
    "withdraw": {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": "135790"},
    "freeze_account": {"reason": "odd", "scope": "sending"},
    "put_profile": {"kind": "merchant", "addresses": ["192.0.2.0/24"], "day_sent_fen_max": 5},
    "put_label": {"day_sent_fen_max": 5},
    "put_wechatpay_merchant": {"account": "shop", "appids": ["wx1"], "certificates": ["ab" * 32], "is_closed": True},
    "renew_wechatpay_key": {"key": "v3"},
    "put_asset": {"scale": 2, "name": "积分"},
    "put_display": {"name": "小明"},
    "make_campaign": BODIES["make_campaign"] | {"odds_millionths": 5, "lanes": 1},
    "grab": {"admission": "x"},
    "extend_wave": BODIES["extend_wave"],
    "grant_wins": BODIES["grant_wins"],
    "make_fundraiser": BODIES["make_fundraiser"] | {"story": "hi"},
    "give": {"amount_fen": 1, "is_anonymous": True, "message": "hi"},
    "match_gifts": {"percent": 100, "budget_fen": 1},
    "grab_many": {"grabs": [{"campaign_id": "1", "user_id": "bob"}]},
    "make_coupon_batch": BODIES["make_coupon_batch"] | {"codes": "uploaded", "is_transferable": True},
    "upload_coupon_codes": {"codes": ["code-1", "code-2"]},
    "redeem_coupon_code": {"code": "code-1", "note": "order 7"},
    "redeem_coupon": {"note": "order 7"},
    "void_coupon": {"note": "odd"},
    "transfer_coupon": {"to": "bob"},
    "make_card_set": BODIES["make_card_set"] | {"wild": {"name": "w", "count": 1}, "min_fen": 1},
    "give_card": BODIES["give_card"],
    "grant_card": BODIES["grant_card"],
    "offer_card": BODIES["offer_card"] | {"to_user": "bob", "seconds": 60},
    "file_dispute": {"kind": "fraud", "number": UNKNOWN, "at_ms": 1, "counterparty": "bob", "evidence": ["a"]},
    "decide_dispute": {"outcome": "rejected", "reason": "odd"},
}
EXAMPLES = with_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
POSTS = [row for row in ROUTES if row.body is not None]

# All of Unicode, also U+0000, but for lone surrogates: they cannot be written in UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
header_values = st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0").strip())
headers = st.fixed_dictionaries(
    {},
    optional={
        "x-user-id": st.sampled_from([b"alice", b"bob"]) | header_values,
        "idempotency-key": st.sampled_from([b"key-1", b"key-2"]) | header_values,
        "content-type": st.just(b"application/json") | header_values,
        "x-anything": header_values,
    },
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_settings: Settings) -> AsyncIterator[Client]:
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr("engine.readiness.READY_S_MAX", 20.0)  # on a busy machine a probe's 503 would be right
        async with open_front(shared_settings) as client:
            client.http.headers.update(client.as_user("backend", "act", "admin"))
            yield client


@st.composite
def nearly_proper(draw: st.DrawFn, body: object) -> object:
    """A proper body with some of its parts, at any depth, exchanged for anything."""
    if not draw(st.integers(0, 4)):
        return draw(values)
    if isinstance(body, dict):
        kept = {name: draw(nearly_proper(value)) for name, value in body.items() if draw(st.integers(0, 9))}
        return kept | draw(st.dictionaries(texts, values, max_size=1))
    if isinstance(body, list):
        return [draw(nearly_proper(value)) for value in body]
    return body


def assert_answered(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["code"]


@pytest.mark.parametrize("row", POSTS, ids=lambda row: row.name)
@EXAMPLES
@given(data=st.data())
async def test_random_json_is_answered(client: Client, row: Operation, data: st.DataObject) -> None:
    body = orjson.dumps(data.draw(nearly_proper(PROPER[row.name])))
    answer = await client.http.request(row.method, path_of(row, UNKNOWN), content=body, headers=data.draw(headers))  # type: ignore[arg-type]
    assert_answered(answer)


@pytest.mark.parametrize("row", POSTS, ids=lambda row: row.name)
@EXAMPLES
@given(body=st.binary(max_size=200))
async def test_random_bytes_are_answered(client: Client, row: Operation, body: bytes) -> None:
    proper = {"x-user-id": "alice", "idempotency-key": "key"}
    assert_answered(await client.http.request(row.method, path_of(row, UNKNOWN), content=body, headers=proper))


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.name)
@EXAMPLES
@given(part=st.binary(min_size=1, max_size=30), query=st.binary(max_size=30), after=texts)
async def test_random_paths_and_queries_are_answered(
    client: Client, row: Operation, part: bytes, query: bytes, after: str
) -> None:
    path = path_of(row, quote(part, safe=""), quote(part, safe=""), quote(part, safe=""))
    for said in (quote(query, safe="=&"), urlencode({"role": "sent", "after": after})):
        answer = await client.http.request(row.method, f"{path}?{said}", headers={"x-user-id": "alice"})
        assert_answered(answer)
