"""Sendings that come at once are paid for together, and each is answered as if it had come alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import UnavailableError
from engine.packets import joint
from engine.packets.sending import Packets
from engine.settings import Settings
from engine.wechatpay.orders import Asked, OrderKind, OrderState
from engine.wechatpay.refusals import RefusalError
from tests.support.scenes import assert_books_balance, caught_up, persisting
from tests.support.wechatpay import MCH_ID, SHOP, asked_for, merchant_of, with_sealing

MONEY_FEN = 1_000_000


@asynccontextmanager
async def opened(settings: Settings, money_fen: int = MONEY_FEN, **values: object) -> AsyncIterator[Engine]:
    async with Engine.open(with_sealing(settings, database_pool_max=10, **values)) as engine:
        await merchant_of(engine, money_fen)
        yield engine


async def outcome(engine: Engine, asked: Asked) -> str:
    try:
        order, was_known = await engine.wechatpay_sending.send(asked)
    except RefusalError as refusal:
        return refusal.err_code.value
    assert order.packet_id is not None
    assert order == await engine.wechatpay_orders.find(asked.mch_id, asked.api, asked.number)
    return "KNOWN" if was_known else "SENT"


async def outcomes(engine: Engine, *asked: Asked) -> list[str]:
    return await asyncio.gather(*(outcome(engine, one) for one in asked))


async def transactions(engine: Engine) -> int:
    """How many transactions have written orders."""
    found: int = await engine.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM wechatpay_orders")
    return found


async def went_apart(engine: Engine) -> int:
    """How many were paid for by a transaction of their own, which keeps the answer for an Idempotency-Key."""
    found: int = await engine.pool.fetchval("SELECT count(*) FROM idempotency WHERE operation = 'send'")
    return found


async def balance(engine: Engine) -> int:
    return (await engine.wallets.get(SHOP)).balance_fen


async def test_many_at_once_are_few_transactions(settings: Settings) -> None:
    async with opened(settings) as engine, persisting(engine.settings):
        asked = [asked_for(f"b{number}", openid=f"o{number}", amount_fen=100 + number) for number in range(150)]
        assert await outcomes(engine, *asked) == ["SENT"] * 150
        assert await transactions(engine) == 2, "150 wait: a hundred and fifty"
        assert await went_apart(engine) == 0
        assert await balance(engine) == MONEY_FEN - sum(one.amount_fen for one in asked)
        orders = [await engine.wechatpay_orders.find(MCH_ID, "redpack", one.number) for one in asked]
        claims = [
            await engine.claims.claim(order.packet_id or "", order.user_id) for order in orders if order is not None
        ]
        assert [claim.amount_fen for claim in claims] == [one.amount_fen for one in asked]
        await caught_up(engine)
        await assert_books_balance(engine.pool)
        assert all(finding.holds for finding in await audit(engine.pool, engine.store, engine.stream))


async def test_one_alone_costs_few_statements(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_sends_a_day_max=5, wechatpay_merchant_day_fen_max=MONEY_FEN) as engine:
        await outcomes(engine, asked_for("first"))
        statements: list[str] = []

        def note(record: asyncpg.connection.LoggedQuery) -> None:
            statements.append(record.query)

        async with AsyncExitStack() as stack:
            for _ in range(engine.pool.get_size()):
                (await stack.enter_async_context(engine.pool.acquire())).add_query_logger(note)
        await engine.wechatpay_sending.send(asked_for("second"))
        assert 5 <= len(statements) <= 12, "\n".join(statements)


async def test_each_is_answered_as_if_alone(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_sends_a_minute_max=1) as engine:
        assert await outcomes(engine, asked_for("known", openid="o1")) == ["SENT"]
        found = await outcomes(
            engine,
            asked_for("known", openid="o1"),
            asked_for("known", openid="o1", terms_hash=b"x" * 32),
            asked_for("a", openid="o2"),
            asked_for("b", openid="o1"),
            asked_for("c", openid="o3"),
            asked_for("d", openid="o3"),
            asked_for("g", openid="o4", kind=OrderKind.GROUP, amount_fen=1_000, count=5),
            asked_for("t", openid="o5", kind=OrderKind.TRANSFER),
        )
        assert found[:4] == ["KNOWN", "FATAL_ERROR", "SENT", "FREQ_LIMIT"]
        assert sorted(found[4:6]) == ["FREQ_LIMIT", "SENT"], "one a minute"
        assert found[6:] == ["SENT", "SENT"]
        assert await balance(engine) == MONEY_FEN - 4 * 100 - 1_000
        assert await went_apart(engine) == 1, "one of the two to the same user"


async def test_a_number_twice_at_once_is_one_packet(settings: Settings) -> None:
    async with opened(settings) as engine:
        found = await outcomes(engine, *[asked_for("b1")] * 5, asked_for("b1", terms_hash=b"x" * 32), asked_for("b2"))
        assert Counter(found[:5]) == {"SENT": 1, "KNOWN": 4}
        assert found[5:] == ["FATAL_ERROR", "SENT"]
        assert await balance(engine) == MONEY_FEN - 200


async def test_two_processes_write_a_number_once(settings: Settings) -> None:
    async with opened(settings) as engine, Engine.open(engine.settings) as other:
        asked = [asked_for(f"b{number}", openid=f"o{number}") for number in range(60)]
        ours, others = await asyncio.gather(outcomes(engine, *asked), outcomes(other, *reversed(asked)))
        for one, two in zip(ours, reversed(others), strict=True):
            assert sorted((one, two)) == ["KNOWN", "SENT"]
        assert await balance(engine) == MONEY_FEN - 6_000
        assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 60


async def test_a_frozen_account_pays_nothing(settings: Settings) -> None:
    async with opened(settings) as engine:
        await engine.freezes.freeze(SHOP, reason="a test", frozen_by="a test")
        assert (
            await outcomes(engine, *(asked_for(f"b{number}", openid=f"o{number}") for number in range(3)))
            == ["NO_AUTH"] * 3
        )
        await engine.freezes.lift(SHOP, reason="a test", lifted_by="a test")
        assert await outcomes(engine, asked_for("b1", openid="o1")) == ["SENT"]
        assert await balance(engine) == MONEY_FEN - 100


async def test_a_burst_and_a_large_one_are_alerts(settings: Settings) -> None:
    async with opened(settings, alert_sends_a_minute_max=5, alert_large_fen=500) as engine:
        asked = [asked_for(f"b{number}", openid=f"o{number}", amount_fen=100 * number) for number in range(1, 9)]
        assert await outcomes(engine, *asked) == ["SENT"] * 8
        rows = await engine.pool.fetch("SELECT kind FROM alerts WHERE user_id = $1", SHOP)
        assert Counter(row["kind"] for row in rows) == {"burst": 1, "large_movement": 4}


async def test_a_packet_that_is_not_opened_is_sent_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(*_: object, **__: object) -> None:
        raise UnavailableError("Redis does not answer.")

    async with opened(settings) as engine:
        monkeypatch.setattr(joint, "open_packet", no_answer)
        assert await outcomes(engine, asked_for("b1")) == ["SENT"]


async def test_without_redis_the_order_is_written_and_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(*_: object, **__: object) -> None:
        raise UnavailableError("Redis does not answer.")

    async with opened(settings) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(Packets, "new_reading", no_answer)
            assert await outcomes(engine, asked_for("b1")) == ["SYSTEMERROR"]
        order = await engine.wechatpay_orders.find(MCH_ID, "redpack", "b1")
        assert order is not None
        assert order.state is OrderState.ASKED
        assert await outcomes(engine, asked_for("b1")) == ["SENT"]


async def test_whatever_goes_wrong_each_is_answered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with opened(settings) as engine:
        with monkeypatch.context() as patched:
            patched.setattr(joint, "pay", broken)
            results = await asyncio.gather(
                *(engine.wechatpay_sending.send(asked_for(f"b{number}")) for number in range(3)),
                return_exceptions=True,
            )
        assert all(isinstance(result, ZeroDivisionError) for result in results)
        assert await engine.pool.fetchval("SELECT count(*) FROM wechatpay_orders") == 0
        assert await outcomes(engine, asked_for("b1")) == ["SENT"], "the next is not held up"


async def test_what_was_begun_is_finished_before_the_end(settings: Settings) -> None:
    """A client goes in the middle, and then the process ends: the order is paid, or was never there."""
    async with opened(settings) as engine:
        calls = [asyncio.create_task(engine.wechatpay_sending.send(asked_for(f"b{number}"))) for number in range(20)]
        await asyncio.sleep(0)  # they wait for one transaction
        for call in calls[:10]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gone = [asyncio.create_task(engine.wechatpay_sending.send(asked_for(f"c{number}"))) for number in range(5)]
        await asyncio.sleep(0)
        for call in gone:
            call.cancel()
    async with Engine.open(engine.settings) as after:
        found = await after.pool.fetchval("SELECT count(*) FROM wechatpay_orders WHERE state = 'paid'")
        assert found == 25
        assert await balance(after) == MONEY_FEN - 2_500
