"""Merchants: their keys are shown once and encrypted at rest; admins keep them by the API."""

import pytest
from pydantic import SecretStr

from api.resources.wechatpay import ROUTES
from engine.engine import Engine
from engine.errors import InvalidFieldsError, NoWechatpayKeyError, OperatorError, UnknownWechatpayMerchantError
from engine.settings import Settings
from engine.wechatpay import keys
from engine.wechatpay.merchants import Merchants
from tests.support.front import Client, Json, open_front
from tests.support.scenes import changed
from tests.support.wechatpay import APPID, MCH_ID, SENDREDPACK, SHOP, call, merchant_of, packet, with_sealing

PATH = f"/v1/wechatpay/merchants/{MCH_ID}"
BODY: Json = {"account": SHOP, "appids": [APPID]}
NEW, OLD = f"new:{'n' * 32}", f"old:{'o' * 32}"


def sealed_with(settings: Settings, text: str) -> keys.SealingKeys:
    return keys.load(changed(settings, wechatpay_keys=SecretStr(text)))


async def test_keys_are_encrypted_at_rest(settings: Settings) -> None:
    async with Engine.open(with_sealing(settings)) as engine:
        kept = await merchant_of(engine)
        assert kept.v2_key is not None
        assert kept.v3_key is not None
        assert len(kept.v2_key) == len(kept.v3_key) == 32
        (row,) = await engine.pool.fetch("SELECT * FROM wechatpay_merchants")
        stored = repr(dict(row)).encode() + row["v2_key"] + row["v3_key"]
        assert kept.v2_key.encode() not in stored
        assert kept.v3_key.encode() not in stored
        assert kept.v2_key not in repr(kept)
        keyed = await engine.wechatpay_merchants.keyed(MCH_ID)
        assert (keyed.v2_key, keyed.v3_key) == (kept.v2_key, kept.v3_key)


async def test_a_sealed_key_is_of_one_merchant_and_one_use(settings: Settings) -> None:
    sealing = sealed_with(settings, NEW)
    key_id, sealed = sealing.seal(MCH_ID, "v2", "secret")
    assert sealing.unseal(MCH_ID, "v2", key_id, sealed) == "secret"
    for mch_id, use, by in (
        (MCH_ID, "v3", sealing),
        ("100000", "v2", sealing),
        (MCH_ID, "v2", sealed_with(settings, OLD)),
    ):
        with pytest.raises(NoWechatpayKeyError):
            by.unseal(mch_id, use, key_id, sealed)
    with pytest.raises(NoWechatpayKeyError):
        sealed_with(settings, f"new:{'x' * 32}").unseal(MCH_ID, "v2", key_id, sealed)


async def test_a_new_sealing_key_goes_before_the_old_one(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        before = Merchants(engine.pool, sealed_with(settings, OLD))
        kept = await before.put(MCH_ID, SHOP, appids=[APPID])
        after = Merchants(engine.pool, sealed_with(settings, f"{NEW},{OLD}"))
        assert (await after.keyed(MCH_ID)).v2_key == kept.v2_key
        renewed = await after.renew_key(MCH_ID, "v2")
        keyed = await after.keyed(MCH_ID)
        assert (keyed.v2_key, keyed.v3_key) == (renewed.v2_key, kept.v3_key)
        with pytest.raises(NoWechatpayKeyError, match="new"):
            await Merchants(engine.pool, sealed_with(settings, OLD)).keyed(MCH_ID)


@pytest.mark.parametrize("text", ["x", "id:short", ",".join(f"k{number}:{'x' * 32}" for number in range(17))])
def test_keys_of_another_form_stop_the_start(settings: Settings, text: str) -> None:
    with pytest.raises(OperatorError, match="HONGBAO_WECHATPAY_KEYS"):
        sealed_with(settings, text)


async def test_a_change_keeps_the_keys(settings: Settings) -> None:
    async with Engine.open(with_sealing(settings)) as engine:
        first = await merchant_of(engine)
        second = await engine.wechatpay_merchants.put(MCH_ID, "other", appids=["wx1", "wx1", "wx2"], is_closed=True)
        assert (second.v2_key, second.v3_key) == (None, None)
        assert (second.merchant.account, second.merchant.appids) == ("other", ["wx1", "wx2"])
        assert (await engine.wechatpay_merchants.keyed(MCH_ID)).v2_key == first.v2_key


@pytest.mark.parametrize(
    ("field", "terms"),
    [
        ("account", {"account": "a b"}),
        ("appids", {"appids": []}),
        ("appids", {"appids": ["wx 1"]}),
        ("appids", {"appids": [f"wx{number}" for number in range(101)]}),
        ("certificates", {"certificates": ["x" * 64]}),
        ("certificates", {"certificates": ["ab" * 32] * 17}),
        ("mch_id", {"mch_id": "12345"}),
    ],
)
async def test_a_merchant_of_another_form(settings: Settings, field: str, terms: Json) -> None:
    async with Engine.open(with_sealing(settings)) as engine:
        named: Json = {"mch_id": MCH_ID, "account": SHOP, "appids": [APPID]} | terms
        with pytest.raises(InvalidFieldsError) as raised:
            await engine.wechatpay_merchants.put(**named)
        assert [problem.field for problem in raised.value.problems] == [field]


async def admin(client: Client, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
    answer = await client.http.request(method, path, json=body, headers=client.as_user("root", "admin"))
    return answer.status_code, answer.json()


async def test_admins_keep_merchants(settings: Settings) -> None:
    async with open_front(with_sealing(settings)) as client:
        assert (await admin(client, "GET", PATH))[0] == 404
        status, kept = await admin(client, "PUT", PATH, BODY)
        assert (status, kept["merchant"]["mch_id"]) == (200, MCH_ID)
        status, again = await admin(client, "PUT", PATH, BODY | {"certificates": ["AB:" * 31 + "AB"]})
        assert (again["v2_key"], again["v3_key"]) == (None, None)
        assert again["merchant"]["certificates"] == ["ab" * 32]
        _, found = await admin(client, "GET", PATH)
        assert found == again["merchant"]
        status, renewed = await admin(client, "POST", f"{PATH}/keys", {"key": "v3"})
        assert (status, renewed["v2_key"]) == (200, None)
        assert renewed["v3_key"] not in (None, kept["v3_key"])
        await admin(client, "PUT", "/v1/wechatpay/merchants/1900000110", BODY)
        _, page = await admin(client, "GET", "/v1/wechatpay/merchants?limit=1")
        assert ([merchant["mch_id"] for merchant in page["merchants"]], page["next"]) == ([MCH_ID], MCH_ID)
        _, rest = await admin(client, "GET", f"/v1/wechatpay/merchants?after={page['next']}")
        assert ([merchant["mch_id"] for merchant in rest["merchants"]], rest["next"]) == (["1900000110"], None)
        assert (await admin(client, "POST", "/v1/wechatpay/merchants/999999/keys", {"key": "v2"}))[0] == 404
        assert (await admin(client, "PUT", "/v1/wechatpay/merchants/abc", BODY))[0] == 422
    assert len(ROUTES) == 4


async def test_without_a_key_nothing_is_kept(settings: Settings) -> None:
    async with open_front(settings) as client:
        status, problem = await admin(client, "PUT", PATH, BODY)
        assert (status, problem["code"]) == (409, "no_wechatpay_key")


async def test_a_renewed_key_ends_the_one_before(settings: Settings) -> None:
    async with open_front(with_sealing(settings)) as client:
        _, kept = await admin(client, "PUT", PATH, BODY)
        await client.deposit(SHOP, 1_000)
        assert (await call(client.http, SENDREDPACK, packet(), kept["v2_key"]))["result_code"] == "SUCCESS"
        _, renewed = await admin(client, "POST", f"{PATH}/keys", {"key": "v2"})
        assert (await call(client.http, SENDREDPACK, packet(), kept["v2_key"]))["err_code"] == "SIGN_ERROR"
        assert (await call(client.http, SENDREDPACK, packet(), renewed["v2_key"]))["result_code"] == "SUCCESS"


async def test_an_unknown_merchant_has_no_key(settings: Settings) -> None:
    async with Engine.open(with_sealing(settings)) as engine:
        with pytest.raises(UnknownWechatpayMerchantError):
            await engine.wechatpay_merchants.renew_key(MCH_ID, "v2")
