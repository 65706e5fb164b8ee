"""One ledger counts in one currency: written at the first start, shown wherever amounts are, and never another."""

import dataclasses
from pathlib import Path

import asyncpg
import orjson
import pytest
from pydantic import ValidationError

from engine.calendar.china_time import today
from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.engine import Engine
from engine.errors import OperatorError
from engine.ledger import currency
from engine.settings import Settings
from engine.wallets import receipt_check
from engine.wallets.receipts import as_json, hash_of
from tests.support.commands import hongbao, sentence
from tests.support.front import open_front
from tests.support.scenes import caught_up, changed, persisting, send, settled


@pytest.mark.parametrize("code", ["cny", "CN", "YUAN RENMINBI", "A" * 13, "1CNY", "CN\u0059\u0301", "人民币", "CNY\n"])
def test_a_code_that_is_none_is_refused(settings: Settings, code: str) -> None:
    with pytest.raises(ValidationError):
        Settings(**{**settings.model_dump(), "currency": code})


async def test_the_first_start_writes_it_and_no_other_starts(settings: Settings, tmp_path: Path) -> None:
    coupons = changed(settings, currency="COUPON")
    async with Engine.open(coupons) as engine:
        assert await currency.currency_of(engine.pool) == "COUPON"
    why = "The ledger counts in COUPON, and HONGBAO_CURRENCY is CNY: set it to COUPON, or use another database."
    with pytest.raises(OperatorError, match=why):
        async with Engine.open(settings):
            pass
    variables = {"HONGBAO_REDIS_URL": str(settings.redis_url), "HONGBAO_DATABASE_URL": str(settings.database_url)}
    for command in ("serve", "persist", "sweep"):
        assert sentence(hongbao(command, "--data-dir", tmp_path / "data", **variables)) == why
    (line,) = [line for line in await examine(settings, is_embedded=False) if line.name == "currency"]
    assert (line.level, line.found) == (Level.PROBLEM, why)
    async with Engine.open(coupons):  # nothing was written by those that were refused
        pass


async def test_it_cannot_be_changed(engine: Engine) -> None:
    for sql in (
        "UPDATE ledger_currency SET currency = 'USD'",
        "DELETE FROM ledger_currency",
        "TRUNCATE ledger_currency",
    ):
        with pytest.raises(asyncpg.RaiseError):
            await engine.pool.execute(sql)
    assert await currency.currency_of(engine.pool) == "CNY"


async def test_receipts_pages_and_statements_show_it(settings: Settings) -> None:
    coupons = changed(settings, currency="COUPON")
    async with open_front(coupons) as client, Engine.open(coupons) as engine, persisting(coupons):
        packet_id = await client.send("alice", total_fen=1_000, count=1)
        await client.claim(packet_id, "bob")
        await settled(engine, packet_id)
        await caught_up(engine)
        for user in ("alice", "bob"):
            headers = client.as_user(user)
            path = f"/v1/transactions/{packet_id}/receipt"
            receipt = (await client.http.get(path, headers=headers)).json()
            assert receipt["facts"]["currency"] == "COUPON"
            page = (await client.http.get(path, headers={**headers, "accept": "text/html"})).text
            assert "(COUPON)" in page
            assert "CNY" not in page
            assert "元" not in page
        day = today().isoformat()
        statement = await client.http.get(
            f"/v1/wallets/alice/statement.csv?from={day}&to={day}", headers=client.as_user("alice")
        )
        head = statement.text.splitlines()[0]
        assert ("收支金额(COUPON)" in head, "元" in statement.text) == (True, False)


async def test_a_receipt_from_before_it_was_told_is_still_the_ledgers_word(settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=1)
        await engine.claims.claim(sent.packet_id, "bob")
        await settled(engine, sent.packet_id)
        receipt = await engine.receipts.of(sent.packet_id, "bob", sees_all=False)
        facts = as_json(receipt.facts)
        assert facts.pop("currency") == "CNY"
        async with engine.pool.acquire() as connection:

            async def problems(told: dict[str, object]) -> list[str]:
                text = orjson.dumps({"facts": told, "hash": hash_of(told)})
                return await receipt_check.check(connection, receipt_check.read(text))

            assert await problems(facts) == []
            assert await problems(dataclasses.asdict(receipt.facts)) == []
            assert await problems({**facts, "currency": "USD"}) == [
                'currency is "USD" in the receipt, "CNY" in the ledger'
            ]
