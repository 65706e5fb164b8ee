"""`python -m loadtest.coupons`, smaller: a drop of uploaded codes, and what it would say if something were wrong."""

from pathlib import Path

import pytest

from engine.engine import Engine
from engine.lanes.clients import command
from engine.records import CouponResult
from engine.settings import Settings
from loadtest.coupons.drop import Sizes, Told, WrongError, _claim_all, _found_in_redis, new_codes, play
from tests.support.coupons import with_keys
from tests.support.scenes import changed, persisting

pytestmark = pytest.mark.long

SMALL = Sizes(codes=3_000, packets=3, redeemed=60, batches_at_once=3, redemptions_at_once=4)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(changed(settings, claim_queue_max=100_000, backlog_max=100_000))


async def test_each_code_is_shown_to_one_user(settings: Settings, tmp_path: Path) -> None:
    said: list[str] = []
    async with Engine.open(settings) as engine, persisting(settings):
        told = await play(engine, SMALL, tmp_path, said.append)
        assert len(told.user_of) == len(set(told.user_of.values())) == 3_000
        assert told.repeats > 0
        assert said == told.lines
        assert await engine.pool.fetchval("SELECT count(*) FROM coupons WHERE state <> 'held'") == 60
        # And it would have found a code in Redis, wherever it were.
        for number, words in enumerate(
            (("SET", "k1", new_codes(1)[0]), ("HSET", "k2", "f", new_codes(1)[0]), ("RPUSH", "k3", new_codes(1)[0])),
            start=1,
        ):
            await command(engine.redis, *words)
            assert await _found_in_redis(engine) == number


async def test_a_code_that_is_shown_twice_is_noticed(settings: Settings, tmp_path: Path) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        told = await play(engine, Sizes(codes=4, packets=2, redeemed=1), tmp_path, lambda _: None)
        code, holder = next(iter(told.user_of.items()))
        packet_id, user_id = holder.split()
        result = await engine.claims.claim(packet_id, user_id)
        assert isinstance(result, CouponResult)
        assert result.coupon.code == code
        with pytest.raises(WrongError, match="a code was shown to"):
            await _claim_all(engine, [(packet_id, user_id)], Told(user_of={code: "somebody else"}))
