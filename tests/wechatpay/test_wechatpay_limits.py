"""WeChat Pay's limits hold exactly, however many calls come at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay.orders import OrderKind
from engine.wechatpay.refusals import RefusalError
from tests.support.wechatpay import SHOP, UNLIMITED, asked_for, merchant_of, with_sealing

MONEY_FEN = 10_000_000
Terms = dict[str, Any]


async def outcomes(engine: Engine, calls: Sequence[Terms]) -> Counter[str]:
    """What so many calls at once come to."""

    async def send(terms: Terms) -> str:
        try:
            await engine.wechatpay_sending.send(asked_for(**terms))
        except RefusalError as refusal:
            return refusal.err_code.value
        return "SUCCESS"

    return Counter(await asyncio.gather(*map(send, calls)))


@asynccontextmanager
async def opened(settings: Settings, money_fen: int = MONEY_FEN, **limits: int) -> AsyncIterator[Engine]:
    async with Engine.open(with_sealing(settings, database_pool_max=10, **limits)) as engine:
        await merchant_of(engine, money_fen)
        yield engine


async def balance(engine: Engine) -> int:
    return (await engine.wallets.get(SHOP)).balance_fen


async def test_one_a_user_a_minute(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_sends_a_minute_max=1) as engine:
        calls: list[Terms] = [{"number": f"b{number}", "openid": f"o{number % 4}"} for number in range(40)]
        assert await outcomes(engine, calls) == {"SUCCESS": 4, "FREQ_LIMIT": 36}
        assert await balance(engine) == MONEY_FEN - 400
        await engine.pool.execute("UPDATE wechatpay_orders SET asked_at_ms = asked_at_ms - 60000")
        assert await outcomes(engine, [{"number": "c", "openid": "o1"}]) == {"SUCCESS": 1}


async def test_ten_a_user_a_day(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_sends_a_day_max=10) as engine:
        assert await outcomes(engine, [{"number": f"b{number}"} for number in range(30)]) == {
            "SUCCESS": 10,
            "SENDNUM_LIMIT": 20,
        }
        payments: list[Terms] = [{"number": f"b{number}", "kind": OrderKind.TRANSFER} for number in range(12)]
        assert await outcomes(engine, payments) == {"SUCCESS": 10, "SENDNUM_LIMIT": 2}


async def test_so_much_a_user_a_day(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_day_fen_max=1_050) as engine:
        calls: list[Terms] = [{"number": f"b{number}", "amount_fen": 100} for number in range(30)]
        assert await outcomes(engine, calls) == {"SUCCESS": 10, "RCVDAMOUNT_LIMIT": 20}
        assert await balance(engine) == MONEY_FEN - 1_000


async def test_so_much_is_paid_to_a_user_a_day(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_day_transfer_fen_max=300) as engine:
        calls: list[Terms] = [{"number": f"b{number}", "kind": OrderKind.TRANSFER} for number in range(8)]
        assert await outcomes(engine, calls) == {"SUCCESS": 3, "MONEY_LIMIT": 5}


async def test_so_many_a_minute(settings: Settings) -> None:
    async with opened(settings, wechatpay_sends_a_minute_max=20) as engine:
        # The minute of the clock may end in between: then more are sent, as many as the two minutes have room for.
        calls: list[Terms] = [{"number": f"b{number}", "openid": f"o{number}"} for number in range(60)]
        found = await outcomes(engine, calls)
        spans = await engine.pool.fetch("SELECT sends FROM wechatpay_spans WHERE span = 'minute'")
        assert all(span["sends"] <= 20 for span in spans)
        sent = sum(span["sends"] for span in spans)
        assert found == {"SUCCESS": sent, "FREQ_LIMIT": 60 - sent}
        assert sent >= 20 if len(spans) > 1 else sent == 20


async def test_so_much_a_merchant_a_day(settings: Settings) -> None:
    async with opened(settings, wechatpay_merchant_day_fen_max=1_950) as engine:
        calls: list[Terms] = [{"number": f"b{number}", "openid": f"o{number}"} for number in range(40)]
        assert await outcomes(engine, calls) == {"SUCCESS": 19, "SENDAMOUNT_LIMIT": 21}
        payments = [
            {"number": f"b{number}", "kind": OrderKind.TRANSFER, "openid": f"o{number}"} for number in range(22)
        ]
        assert await outcomes(engine, payments) == {"SUCCESS": 19, "MONEY_LIMIT": 3}


async def test_what_could_not_be_paid_counts_only_once_it_is(settings: Settings) -> None:
    async with opened(
        settings,
        money_fen=50,
        wechatpay_merchant_day_fen_max=100,
        wechatpay_user_day_fen_max=100,
        wechatpay_user_sends_a_day_max=1,
        wechatpay_user_sends_a_minute_max=1,
    ) as engine:
        for _ in range(3):
            assert await outcomes(engine, [{"number": "b1"}]) == {"NOTENOUGH": 1}
        await engine.wallets.deposit(SHOP, 1_000, idempotency_key="more", request_hash=b"more")
        assert await outcomes(engine, [{"number": "b1"}]) == {"SUCCESS": 1}
        assert await outcomes(engine, [{"number": "b1"}]) == {"SUCCESS": 1}, "a repeat is no second one"
        assert await outcomes(engine, [{"number": "b2", "openid": "o2"}]) == {"SENDAMOUNT_LIMIT": 1}


async def test_one_number_many_times_at_once_is_one_packet(settings: Settings) -> None:
    async with opened(settings, wechatpay_user_sends_a_minute_max=1, wechatpay_sends_a_minute_max=1) as engine:
        found = await outcomes(engine, [{"number": "b1"}] * 40)
        assert found["SUCCESS"] >= 1
        assert found.keys() <= {"SUCCESS", "PROCESSING"}
        assert await balance(engine) == MONEY_FEN - 100
        assert await engine.pool.fetchval("SELECT count(*) FROM packets") == 1
        assert await outcomes(engine, [{"number": "b1", "terms_hash": b"x" * 32}]) == {"FATAL_ERROR": 1}


async def test_money_for_one_of_many(settings: Settings) -> None:
    async with opened(settings, money_fen=150) as engine:
        found = await outcomes(engine, [{"number": f"b{number}", "openid": f"o{number}"} for number in range(20)])
        assert found == {"SUCCESS": 1, "NOTENOUGH": 19}
        assert await balance(engine) == 50


async def test_counts_of_yesterday_are_forgotten(settings: Settings) -> None:
    async with opened(settings, wechatpay_sends_a_minute_max=5) as engine:
        await outcomes(engine, [{"number": "b1"}])
        now_ms = await engine.wechatpay_orders.clock_ms()
        await engine.wechatpay_orders.forget_counts(now_ms)
        assert await engine.pool.fetchval("SELECT count(*) FROM wechatpay_spans") == 2
        await engine.wechatpay_orders.forget_counts(now_ms + 3 * 86_400_000)
        assert await engine.pool.fetchval("SELECT count(*) FROM wechatpay_spans") == 0


def test_limits_are_wechat_pays(settings: Settings) -> None:
    """The published ones, where nothing is said."""
    defaults = {name: type(settings).model_fields[name].default for name in UNLIMITED}
    assert defaults == {
        "wechatpay_sends_a_minute_max": 1_800,
        "wechatpay_user_sends_a_minute_max": 1,
        "wechatpay_user_sends_a_day_max": 10,
        "wechatpay_user_day_fen_max": 100_000,
        "wechatpay_user_day_transfer_fen_max": 2_000_000,
        "wechatpay_merchant_day_fen_max": 100_000_000,
    }
    assert (settings.wechatpay_packet_fen_min, settings.wechatpay_packet_fen_max) == (100, 20_000)
    assert settings.wechatpay_ttl_s == 72 * 3_600
