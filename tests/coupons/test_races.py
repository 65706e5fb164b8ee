"""Races over coupons: whoever comes first wins, the other is told, and every unit is counted once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from random import Random

import pytest

from engine.coupons import expiring
from engine.engine import Engine
from engine.errors import CouponEndedError, HongbaoError, UnknownCouponError
from engine.ledger.money import now_ms
from engine.records import Coupon, CouponResult, CouponState
from engine.settings import Settings
from tests.support.coupons import (
    drop,
    given,
    make_batch,
    pass_on,
    problems,
    redeem,
    redeem_code,
    statement,
    void,
    with_keys,
)
from tests.support.races import Race
from tests.support.scenes import assert_books_balance, changed, persisting

pytestmark = pytest.mark.long


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    with_coupons = changed(with_keys(settings), retractions_an_hour_max=10_000)
    async with Engine.open(with_coupons) as engine, persisting(with_coupons):
        yield engine
        assert await problems(engine) == []
        await assert_books_balance(engine.pool)


async def test_of_many_redemptions_one_wins(engine: Engine) -> None:
    coupons = await given(engine, *(f"user{number}" for number in range(15)), codes=[f"c-{n:03}" for n in range(15)])

    async def attempt(coupon: Coupon, way: int) -> str:
        assert coupon.code is not None
        try:
            ended, _ = await (
                redeem_code(engine, coupon.batch_id, coupon.code) if way % 2 else redeem(engine, coupon.coupon_id)
            )
        except CouponEndedError as error:
            return error.state
        return ended.coupon_id

    won = Counter(await asyncio.gather(*(attempt(coupon, way) for coupon in coupons for way in range(6))))
    assert won == Counter({coupon.coupon_id: 1 for coupon in coupons} | {CouponState.REDEEMED: 15 * 5})
    assert (await statement(engine, coupons[0].batch_id)).redeemed == 15


async def test_the_same_redemption_many_times_is_one(engine: Engine) -> None:
    """A client that repeats at once is answered as the first was, or told that the first is at work."""
    (coupon,) = await given(engine, "ada")
    answers = await asyncio.gather(
        *(redeem(engine, coupon.coupon_id, key="same") for _ in range(8)), return_exceptions=True
    )
    entries = {answer[0].transfer_id for answer in answers if not isinstance(answer, BaseException)}
    assert len(entries) == 1
    others = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {getattr(other, "code", other) for other in others} <= {"idempotency_in_flight"}
    assert (await redeem(engine, coupon.coupon_id, key="same"))[0].transfer_id in entries


async def test_a_redemption_races_a_void(engine: Engine) -> None:
    race = Race(1, rounds_min=20, wins_min=2)
    redeemed = 0
    for _ in race.rounds():
        (coupon,) = await given(engine, "ada")

        async def first(coupon_id: str = coupon.coupon_id) -> bool:
            await race.wait_first()
            return await is_done(redeem(engine, coupon_id))

        async def second(coupon_id: str = coupon.coupon_id) -> bool:
            await race.wait_second()
            return await is_done(void(engine, coupon_id))

        first_won, second_won = await asyncio.gather(first(), second())
        assert first_won is not second_won
        race.won(by_first=first_won)
        redeemed += first_won
        state = (await engine.coupons.get(coupon.coupon_id, "ada")).state
        assert state is (CouponState.REDEEMED if first_won else CouponState.VOID)
    assert redeemed == race.first_won


async def is_done(act: Awaitable[object]) -> bool:
    try:
        await act
    except (CouponEndedError, UnknownCouponError):
        return False
    return True


async def test_a_redemption_by_code_races_a_transfer(engine: Engine) -> None:
    """Whoever sees the old code after the coupon was passed on is too late."""
    race = Race(2, rounds_min=20, wins_min=2)
    for _ in race.rounds():
        (coupon,) = await given(engine, "ada")
        assert coupon.code is not None

        async def first(batch_id: str = coupon.batch_id, code: str = coupon.code) -> bool:
            await race.wait_first()
            return await is_done(redeem_code(engine, batch_id, code))

        async def second(coupon_id: str = coupon.coupon_id) -> bool:
            await race.wait_second()
            return await is_done(pass_on(engine, coupon_id, "ada", "bob"))

        first_won, second_won = await asyncio.gather(first(), second())
        assert first_won is not second_won
        race.won(by_first=first_won)
        found = await engine.coupons.get(coupon.coupon_id, None, sees_all=True)
        expected = ("ada", CouponState.REDEEMED) if first_won else ("bob", CouponState.HELD)
        assert (found.holder, found.state) == expected


async def test_one_coupon_is_passed_on_to_one(engine: Engine) -> None:
    coupons = await given(engine, *(f"user{number}" for number in range(6)))

    async def attempt(coupon: Coupon, to: str) -> bool:
        return await is_done(pass_on(engine, coupon.coupon_id, coupon.holder, to))

    friends = [f"friend{number}" for number in range(5)]
    done = await asyncio.gather(*(attempt(coupon, to) for coupon in coupons for to in friends))
    assert sum(done) == len(coupons)
    found = [await engine.coupons.get(coupon.coupon_id, None, sees_all=True) for coupon in coupons]
    assert {coupon.holder for coupon in found} <= set(friends)


async def test_redemptions_go_on_until_the_last_moment_and_no_longer(engine: Engine) -> None:
    """The sweeper takes in what has expired while merchants still redeem: the clock decides each coupon."""
    count = 120
    batch_id = await make_batch(engine, count, valid_in_ms=(0, 6_000))
    packet_id = await drop(engine, batch_id, count, ttl_s=4)
    answers = await engine.claims.claim_many([(packet_id, f"user{number % 50}-{number}") for number in range(count)])
    assert not [answer for answer in answers if isinstance(answer, HongbaoError)]
    batch = await engine.coupon_batches.known(int(batch_id))
    until_ms = batch.terms.valid_until_ms
    chance = Random(3)

    async def merchant(number: int) -> bool:
        begin_ms = until_ms - 700 + chance.randrange(1_400)
        await asyncio.sleep(max(0, begin_ms - await now_ms(engine.pool)) / 1000)
        return await is_done(redeem(engine, f"{batch_id}-{number}"))

    async def sweeper() -> None:
        await asyncio.sleep(max(0, until_ms - 50 - await now_ms(engine.pool)) / 1000)
        after: int | None = 0
        while await now_ms(engine.pool) < until_ms + 1_500:
            if await engine.pool.fetch(expiring.SQL["batches_over"], int(batch_id) - 1, 1):
                after = await expiring.expire_some(engine.pool, batch, after or 0)
            await asyncio.sleep(0.01)

    *done, _, _ = await asyncio.gather(*(merchant(number + 1) for number in range(count)), sweeper(), sweeper())
    found = await statement(engine, batch_id)
    assert found.redeemed == sum(bool(one) for one in done)
    assert (found.redeemed + found.expired, found.held) == (count, 0)
    assert 0 < found.redeemed < count
    rows = await engine.pool.fetch("SELECT state::text, min(ended_at_ms), max(ended_at_ms) FROM coupons GROUP BY state")
    for row in rows:
        assert row["max"] < until_ms if row["state"] == "redeemed" else row["min"] >= until_ms


async def test_claims_sends_and_ends_at_once_leave_the_books_whole(engine: Engine) -> None:
    """Anything that may happen to coupons, many at a time, by chance; afterwards each is in one place."""
    chance, users = Random(4), [f"user{number}" for number in range(12)]
    batches = [
        await make_batch(engine, 60, codes=[f"c-{number:03}" for number in range(60)]),
        await make_batch(engine, 60),
    ]
    packets: list[str] = []
    coupons: list[Coupon] = []

    async def send() -> None:
        packets.append(await drop(engine, chance.choice(batches), chance.randrange(1, 8)))

    async def retract() -> None:
        await engine.retractions.retract(chance.choice(packets), "mall", confirmed=True)

    async def claim_one() -> None:
        result = await engine.claims.claim(chance.choice(packets), chance.choice(users))
        if isinstance(result, CouponResult):
            coupons.append(result.coupon)

    async def pass_one_on() -> None:
        coupon = chance.choice(coupons)
        await pass_on(engine, coupon.coupon_id, coupon.holder, chance.choice(users))

    acts: list[Callable[[], Awaitable[object]]] = [
        *(send, retract, pass_one_on, pass_one_on, claim_one, claim_one, claim_one, claim_one),
        lambda: redeem(engine, chance.choice(coupons).coupon_id),
        lambda: void(engine, chance.choice(coupons).coupon_id),
    ]

    async def hand() -> None:
        for _ in range(25):
            with suppress(HongbaoError, IndexError):  # refused; or at first, there is nothing to act on
                await chance.choice(acts)()

    await asyncio.gather(*(hand() for _ in range(12)))
    for batch_id in batches:
        found = await statement(engine, batch_id)
        assert found.redeemed + found.void + found.held > 0
    assert len({coupon.coupon_id for coupon in coupons}) > 20
