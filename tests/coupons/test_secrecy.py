"""Whoever steals Redis, the database or the logs has no code."""

from collections.abc import AsyncIterator

import pytest

from engine.engine import Engine
from engine.lanes.clients import command
from engine.settings import Settings
from tests.support.coupons import claim, drop, make_batch, pass_on, redeem_code, void, with_keys
from tests.support.scenes import let_time_run_out, persisting, settled, sweeping

CODES = [f"SECRET{number:04d}" for number in range(30)]


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(with_keys(settings)) as engine:
        yield engine


async def all_of_redis(engine: Engine) -> bytes:
    """Every key and value, as a thief would read them."""
    parts = []
    async for key in engine.redis.scan_iter(count=1_000):
        parts += [key, await command(engine.redis, "DUMP", key)]
        kind = (await command(engine.redis, "TYPE", key)).decode()
        reading = {
            "hash": ("HGETALL", key), "list": ("LRANGE", key, 0, -1), "stream": ("XRANGE", key, "-", "+"),
            "set": ("SMEMBERS", key), "zset": ("ZRANGE", key, 0, -1), "string": ("GET", key),
        }  # fmt: skip
        parts.append(repr(await command(engine.redis, *reading[kind])).encode())
    return b"\n".join(parts)


async def all_of_postgres(engine: Engine) -> bytes:
    """Every row of every table, as text and with the bytes that it has."""
    tables = await engine.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    parts = []
    for table in tables:
        for row in await engine.pool.fetch(f"SELECT * FROM {table['tablename']}"):
            parts += [repr(tuple(row)).encode(), *(value for value in row if isinstance(value, bytes))]
    return b"\n".join(parts)


@pytest.mark.long
async def test_no_code_is_in_redis_in_the_database_or_in_the_logs(
    engine: Engine, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    uploaded, derived = await make_batch(engine, 30, codes=CODES), await make_batch(engine, 30)
    shown = set(CODES)
    async with persisting(with_keys(settings)), sweeping(with_keys(settings)):
        for batch_id in (uploaded, derived):
            packet_id = await drop(engine, batch_id, 20)
            coupons = [await claim(engine, packet_id, f"user{number}") for number in range(12)]
            shown |= {coupon.code for coupon in coupons if coupon.code is not None}
            for coupon in coupons[:3]:
                assert coupon.code is not None
                await redeem_code(engine, batch_id, coupon.code)
            await void(engine, coupons[3].coupon_id)
            await pass_on(engine, coupons[4].coupon_id, "user4", "user99")
            moved = (await engine.coupons.get(coupons[4].coupon_id, "user99")).code
            assert moved is not None
            shown.add(moved)
            in_redis = await all_of_redis(engine)
            await let_time_run_out(engine, packet_id)
            await settled(engine, packet_id)
            in_redis += await all_of_redis(engine)
            assert packet_id.encode() in in_redis
    in_postgres = await all_of_postgres(engine)
    captured = capfd.readouterr()
    logged = (captured.out + captured.err).encode()
    assert b"expired" in logged
    assert len(shown) == 30 + 12 + 1
    for code in shown:
        for spelling in {code, code.replace("-", ""), code.lower(), code.lower().replace("-", "")}:
            for place, text in (("Redis", in_redis), ("Postgres", in_postgres), ("the logs", logged)):
                assert spelling.encode() not in text, f"{code} is in {place}"


async def test_the_engine_shows_no_key(engine: Engine, settings: Settings) -> None:
    text = repr(with_keys(settings)) + repr(engine.settings) + repr(engine.coupon_batches) + str(engine.settings)
    assert "kkkk" not in text
