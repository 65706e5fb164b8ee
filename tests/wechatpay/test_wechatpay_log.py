"""The transcript of calls: what a developer needs, bounded, and without a secret."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest

from engine.embedded import servers
from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay import transcript
from engine.wechatpay.transcript import TEXT_MAX, UNPROVEN_A_MINUTE_MAX, WAITING_MAX, RecordedCall, Transcript
from tests.support.commands import hongbao, sentence, upped
from tests.support.front import Client, open_front
from tests.support.wechatpay import (
    APPID,
    MCH_ID,
    SENDREDPACK,
    call,
    merchant_of,
    packet,
    signed,
    told,
    with_sealing,
    xml_of,
)


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[tuple[Client, Engine]]:
    settings = with_sealing(settings, wechatpay_log_rows_max=5)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        yield client, engine


async def recorded(client: Client, engine: Engine) -> list[RecordedCall]:
    """The newest calls, once they are written."""
    app = client.http._transport.app  # type: ignore[attr-defined]
    await app.state.front.engine.wechatpay_transcript.flush()
    return await transcript.newest(engine.pool, mch_id=None, code=None, limit=100)


async def test_why_a_signature_is_wrong(opened: tuple[Client, Engine]) -> None:
    client, engine = opened
    key = (await merchant_of(engine)).v2_key or ""
    fields = packet(wishing="恭喜")
    wrong = signed(fields, "x" * 32)
    await client.http.post(SENDREDPACK, content=xml_of(wrong))
    (found,) = await recorded(client, engine)
    assert (found.mch_id, found.path, found.code) == (MCH_ID, SENDREDPACK, "SIGN_ERROR")
    joined = "&".join(f"{name}={value}" for name, value in sorted(fields.items()))
    assert found.signed == f"{joined}&key=（商户API密钥）"
    assert "wishing=恭喜" in found.request
    assert told(found.answer.encode())["err_code"] == "SIGN_ERROR"
    kept = orjson.dumps([call.request + call.answer + (call.signed or "") for call in [found]]).decode()
    assert key not in kept
    right = signed(fields, key)["sign"]
    assert right not in kept


async def test_a_key_that_a_client_put_into_a_field_is_hidden(opened: tuple[Client, Engine]) -> None:
    client, engine = opened
    key = (await merchant_of(engine)).v2_key or ""
    await client.http.post(SENDREDPACK, content=xml_of(packet(key=key, remark=f"my {key}")))
    (found,) = await recorded(client, engine)
    assert key not in found.request + found.answer + (found.signed or "")
    assert "remark=my （已隐藏）" in found.request


async def test_who_only_knows_a_merchants_number_does_not_fill_its_log(settings: Settings) -> None:
    """Each of these rows would cost Postgres some kilobytes, and push a call of the merchant's own out."""
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        key = (await merchant_of(engine)).v2_key or ""
        for _ in range(UNPROVEN_A_MINUTE_MAX + 10):
            await client.http.post(SENDREDPACK, content=xml_of(signed(packet(), "x" * 32)))
        await client.http.post(SENDREDPACK, content=xml_of(signed(packet(total_amount=1), key)))
        codes = [found.code for found in await recorded(client, engine)]
    assert codes[0] == "MONEY_LIMIT"
    assert (
        UNPROVEN_A_MINUTE_MAX <= codes.count("SIGN_ERROR") <= UNPROVEN_A_MINUTE_MAX + 9
    )  # a minute may begin meanwhile


async def test_the_newest_of_each_merchant_are_kept(opened: tuple[Client, Engine]) -> None:
    client, engine = opened
    key = (await merchant_of(engine)).v2_key or ""
    for number in range(9):
        await call(client.http, SENDREDPACK, packet(mch_billno=f"b{number}"), key)
    await call(client.http, SENDREDPACK, packet(mch_id="1900000110"), key)
    assert len(await recorded(client, engine)) == 9, "who is no merchant fills no log"
    await engine.wechatpay_transcript.forget()
    found = await recorded(client, engine)
    assert ["b8" in found[0].request, len(found), "b4" in found[-1].request] == [True, 5, True]
    assert {call.code for call in found} == {"SUCCESS"}


async def test_no_call_waits_for_the_log(engine: Engine) -> None:
    log = Transcript(engine.pool, engine.settings)
    one = RecordedCall(mch_id=MCH_ID, at_ms=1, path="/", code="X", request="", signed=None, answer="", took_ms=1)
    for _ in range(WAITING_MAX + 10):
        log.note(one)
    await engine.pool.execute("ALTER TABLE wechatpay_calls RENAME TO away")
    await log.flush()
    await engine.pool.execute("ALTER TABLE away RENAME TO wechatpay_calls")
    log.note(one)
    await log.close()
    assert len(await transcript.newest(engine.pool, mch_id=MCH_ID, code="X", limit=10)) == 1


def test_what_is_kept_is_cut() -> None:
    assert transcript.shown("x" * 9_000, []) == "x" * TEXT_MAX
    assert transcript.shown("a\x00b", [""]) == "ab"


@pytest.mark.long
def test_the_sandbox_of_up(quick_path: Path) -> None:
    """Ten minutes from nothing to a sent packet, in a few seconds."""
    data_dir = quick_path / "data"
    with upped(data_dir, "--wechatpay-sandbox") as up:
        assert up.process.stdout is not None
        lines = [up.process.stdout.readline().strip() for _ in range(4)]
        words = dict(word.split("=", 1) for line in lines for word in line.removeprefix("wechatpay ").split())
        assert words["base_url"] == f"{up.base_url}/"
        assert (words["mch_id"], words["appid"]) == (MCH_ID, APPID)
        sent = httpx.post(f"{up.base_url}{SENDREDPACK}", content=xml_of(signed(packet(), words["api_key"])))
        assert told(sent.content)["result_code"] == "SUCCESS", sent.text
        again = httpx.post(f"{up.base_url}{SENDREDPACK}", content=xml_of(signed(packet(), words["api_key"])))
        assert told(again.content)["err_code"] == "FREQ_LIMIT", "limits are on where nothing is said"
        wrong = httpx.post(f"{up.base_url}{SENDREDPACK}", content=xml_of(signed(packet(), "wrong")))
        assert told(wrong.content)["err_code"] == "SIGN_ERROR"
        listed = hongbao("wechatpay", "list", "--data-dir", data_dir)
        assert listed.stdout == f"merchant {MCH_ID}  wechatpay-sandbox pays  {APPID}, sandbox\n"

        added = hongbao(
            "wechatpay", "add-merchant", "1900000110", "--account", "shop", "--appid", "wx1", "--data-dir", data_dir
        )
        assert "v2 key  " in added.stdout, added.stderr
        made = orjson.loads(hongbao("wechatpay", "keys", "1900000110", "--json", "--data-dir", data_dir).stdout)
        assert made["v2_key"] not in added.stdout
        same = hongbao(
            "wechatpay", "add-merchant", "1900000110", "--account", "mall", "--appid", "wx1", "--data-dir", data_dir
        )
        assert "its keys stay" in same.stdout
        assert "No merchant has this number" in sentence(hongbao("wechatpay", "keys", "123456", "--data-dir", data_dir))
        keys = [
            orjson.loads(hongbao("wechatpay", "platform", *more, "--json", "--data-dir", data_dir).stdout)
            for more in ((), ("--next",))
        ]
        assert [len(found) for found in keys] == [1, 2]
        assert keys[1][1]["signs_from_ms"] - keys[1][0]["signs_from_ms"] >= 86_400_000
        third = hongbao("wechatpay", "platform", "--next", "--data-dir", data_dir)
        assert "retire the former one first" in sentence(third)
        retired = hongbao("wechatpay", "platform", "--retire", keys[1][1]["serial_no"], "--data-dir", data_dir).stdout
        assert keys[0][0]["public_key_id"] in retired
        assert keys[1][1]["public_key_id"] not in retired
        found: list[dict[str, object]] = []
        for _ in range(50):
            logged = hongbao("wechatpay", "log", "--json", "--code", "SIGN_ERROR", "--data-dir", data_dir)
            found = orjson.loads(logged.stdout)
            if found:
                break
        assert str(found[0]["signed"]).startswith("act_name=")
        shown = hongbao("wechatpay", "log", "--mch-id", MCH_ID, "--data-dir", data_dir).stdout
        assert f"{MCH_ID}  {SENDREDPACK}  SUCCESS" in shown
        assert words["api_key"] not in shown
    with upped(data_dir, "--wechatpay-sandbox") as up:
        assert up.process.stdout is not None
        lines = [up.process.stdout.readline().strip() for _ in range(4)]
        assert f"wechatpay api_key={words['api_key']}" in lines, "the keys stay the same"
    servers.remove(data_dir)
