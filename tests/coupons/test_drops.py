"""Coupons are given with packets: each once, its code with the claim's answer, and what nobody got comes back."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from engine.coupons import numbers
from engine.engine import Engine
from engine.errors import (
    HongbaoError,
    InsufficientFundsError,
    InvalidFieldsError,
    NoCouponKeyError,
    NotMerchantError,
    UnconfirmedError,
)
from engine.ids import may_be_of_coupons, new_packet_number
from engine.packets import sending
from engine.packets.terms import terms_from
from engine.records import ClaimResult, CouponResult, CouponState, Outcome, SplitKind
from engine.settings import Settings
from tests.support.coupons import claim, drop, make_batch, problems, statement, upload, with_keys
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    let_time_run_out,
    persisting,
    send,
    settled,
    sweeping,
)

CODES = [f"CODE-{number:05d}" for number in range(1, 101)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine


async def test_each_coupon_is_given_once_and_a_repeat_says_the_same(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 10, codes=CODES[:10])
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 6)
        assert may_be_of_coupons(int(packet_id))
        coupons = {user: await claim(engine, packet_id, user) for user in ("ada", "bob", "cid", "dan")}
        assert [coupon.code for coupon in coupons.values()] == CODES[:4]
        assert {coupon.holder for coupon in coupons.values()} == set(coupons)
        for user, coupon in coupons.items():
            again = await engine.claims.claim(packet_id, user)
            assert isinstance(again, CouponResult)
            assert (again.outcome, again.coupon) == (Outcome.ALREADY, coupon)
        found = await statement(engine, batch_id)
        assert (found.unsent, found.in_packets, found.held) == (4, 2, 4)
        batched = await engine.claims.claim_many([(packet_id, user) for user in ("ada", "eve", "fay", "gus")])
        outcomes = [answer.outcome for answer in batched if not isinstance(answer, HongbaoError)]
        assert outcomes == [Outcome.ALREADY, Outcome.CLAIMED, Outcome.CLAIMED, Outcome.EMPTY]
        codes = [answer.coupon.code for answer in batched if isinstance(answer, CouponResult)]
        assert codes == [CODES[0], CODES[4], CODES[5]]
        assert await problems(engine) == []
    await assert_books_balance(engine.pool)


async def test_a_batch_of_claims_has_packets_of_money_and_of_coupons(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 4)
    of_money = (await send(engine, "mall", total_fen=100, count=10)).packet_id
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 4)
        answers = await engine.claims.claim_many(
            [(of_money, "ada"), (packet_id, "ada"), (of_money, "bob"), (packet_id, "bob")]
        )
        assert [isinstance(answer, CouponResult) for answer in answers] == [False, True, False, True]
        await caught_up(engine)
        assert await problems(engine) == []


async def test_what_nobody_got_can_be_sent_again(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 10, codes=CODES[:10])
    shown = set()
    async with persisting(settings), sweeping(settings):
        for users, dropped in ((3, 8), (4, 7), (3, 3)):
            packet_id = await drop(engine, batch_id, dropped)
            for _ in range(users):
                coupon = await claim(engine, packet_id, uuid4().hex)
                assert coupon.code not in shown
                shown.add(coupon.code)
            if users < dropped:
                await let_time_run_out(engine, packet_id)
            await settled(engine, packet_id)
            assert await problems(engine) == []
        with pytest.raises(InsufficientFundsError):
            await drop(engine, batch_id, 1)
    assert shown == set(CODES[:10])
    await assert_books_balance(engine.pool)


async def test_a_retracted_drop_gives_its_coupons_back(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 5)
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 5)
        await engine.retractions.retract(packet_id, "mall", confirmed=False)
        await caught_up(engine)
        assert (await statement(engine, batch_id)).unsent == 5
        assert await problems(engine) == []
        await drop(engine, batch_id, 5)


async def test_numbers_lie_in_as_many_ranges_as_are_free(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets of one coupon come back one by one: their numbers join before a large packet is refused."""
    monkeypatch.setattr(numbers, "RANGES_MAX", 3)
    batch_id = await make_batch(engine, 12)
    async with persisting(settings), sweeping(settings):
        small = [await drop(engine, batch_id, 1) for _ in range(8)]
        taken = [await claim(engine, packet_id, "ada") for packet_id in small[::4]]
        assert [coupon.coupon_id for coupon in taken] == [f"{batch_id}-1", f"{batch_id}-5"]
        await let_time_run_out(engine, *small)
        await settled(engine, *small)
        packet_id = await drop(engine, batch_id, 10)  # 2-4 and 6-12 are free
        got = [(await claim(engine, packet_id, f"user{number}")).coupon_id for number in range(10)]
        assert sorted(int(coupon_id.partition("-")[2]) for coupon_id in got) == [2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
        assert await problems(engine) == []


async def test_scattered_numbers_are_refused(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "RANGES_MAX", 2)
    batch_id = await make_batch(engine, 6)
    async with persisting(settings), sweeping(settings):
        small = [await drop(engine, batch_id, 1) for _ in range(6)]
        for packet_id in small[1::2]:
            await claim(engine, packet_id, "ada")
        await let_time_run_out(engine, *small)
        await settled(engine, *small)
        with pytest.raises(InvalidFieldsError, match="count: must be at most 2"):
            await drop(engine, batch_id, 3)
        await drop(engine, batch_id, 2)


async def test_who_may_send_coupons_and_how(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 10)
    await fund(engine, "ada", 10)
    asset = (await engine.coupon_batches.known(int(batch_id))).asset
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 4)
        await claim(engine, packet_id, "ada")
        with pytest.raises(InvalidFieldsError, match="asset: must not be of coupons whose batch"):
            await drop(engine, batch_id, 1, sender="ada")
        with pytest.raises(InvalidFieldsError, match="total_fen: must be 2, the count"):
            await drop(engine, batch_id, 2, total=4)
        key, known = uuid4().hex, await engine.assets.named(asset)
        with pytest.raises(InvalidFieldsError, match="asset: must not be of coupons: POST"):
            await engine.transfers.send("ada", "bob", 1, asset=asset, idempotency_key=key, request_hash=b"t")
        with pytest.raises(InvalidFieldsError, match="asset: must not be of coupons"):
            await engine.assets.issue("mall", 1, known, idempotency_key=key, request_hash=b"i")
        with pytest.raises(InsufficientFundsError):
            await drop(engine, batch_id, 7)
        short = await make_batch(engine, 1, valid_in_ms=(0, 60_000))
        with pytest.raises(InvalidFieldsError, match="ttl_s: must end by"):
            await drop(engine, short, 1)
        await drop(engine, short, 1, ttl_s=30)
        assert await problems(engine) == []


async def test_an_owner_who_claims_holds_a_coupon_and_cannot_send_it(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 2)
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 1)
        coupon = await claim(engine, packet_id, "mall")
        assert (coupon.holder, coupon.state) == ("mall", CouponState.HELD)
        with pytest.raises(InsufficientFundsError, match="Only 1 coupons"):
            await drop(engine, batch_id, 2)
        assert await problems(engine) == []


async def test_codes_that_are_not_uploaded_yet_are_not_sent(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 6, codes=[])
    with pytest.raises(InsufficientFundsError, match="Only 0 coupons"):
        await drop(engine, batch_id, 1)
    await upload(engine, batch_id, CODES[:2], part=7)
    await upload(engine, batch_id, CODES[2:4], part=1)
    with pytest.raises(InsufficientFundsError, match="Only 4 coupons"):
        await drop(engine, batch_id, 5)
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 4)
        assert [(await claim(engine, packet_id, user)).code for user in "abcd"] == CODES[:4]
        assert await problems(engine) == []
    assert (await statement(engine, batch_id)).not_uploaded == 2


async def test_no_code_is_shown_before_the_ledger_has_the_claim(engine: Engine, settings: Settings) -> None:
    """Without a persister nobody sees a code, and what the script gave is shown once there is one."""
    impatient = changed(settings, ack_timeout_s=0.1)
    async with Engine.open(impatient) as hasty:
        batch_id = await make_batch(hasty, 1)
        packet_id = await drop(hasty, batch_id, 1)
        with pytest.raises(UnconfirmedError):
            await hasty.claims.claim(packet_id, "ada")
    async with persisting(settings):
        await caught_up(engine)
        again = await engine.claims.claim(packet_id, "ada")
    assert isinstance(again, CouponResult)
    assert again.outcome is Outcome.ALREADY
    await engine.redis.flushall()  # and the ledger says it of a packet that Redis has dropped
    found = await engine.claims.with_coupon(packet_id, "ada", again)
    assert isinstance(found, CouponResult)
    assert found.coupon == again.coupon


async def test_without_keys_there_are_no_coupons(settings: Settings) -> None:
    async with Engine.open(changed(settings, coupon_keys=None)) as engine:
        with pytest.raises(NoCouponKeyError, match="HONGBAO_COUPON_KEYS"):
            await make_batch(engine, 1)
        assert await engine.pool.fetchval("SELECT count(*) FROM coupon_batches") == 0


async def test_a_claim_stands_while_a_key_is_missing(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 1)
    packet_id = await drop(engine, batch_id, 1)
    without = with_keys(settings, f"other:{'o' * 32}")
    async with persisting(settings):
        async with Engine.open(without) as keyless:
            with pytest.raises(UnconfirmedError, match="its coupon cannot be shown"):
                await keyless.claims.claim(packet_id, "ada")
        assert (await claim(engine, packet_id, "ada")).code is not None


async def test_many_users_at_once_get_as_many_codes(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 60, codes=CODES[:60])
    async with persisting(settings):
        packets = [await drop(engine, batch_id, 30), await drop(engine, batch_id, 30)]
        claims = [(packet_id, f"user{number}") for number in range(50) for packet_id in packets]
        parts = [claims[start : start + 20] for start in range(0, len(claims), 20)] * 2
        answers = await asyncio.gather(*(engine.claims.claim_many(part) for part in parts))
        shown: dict[str, tuple[str, str]] = {}
        for part, results in zip(parts, answers, strict=True):
            for (packet_id, user_id), result in zip(part, results, strict=True):
                if isinstance(result, CouponResult):
                    assert result.coupon.code is not None
                    assert shown.setdefault(result.coupon.code, (packet_id, user_id)) == (packet_id, user_id)
        assert sorted(shown) == sorted(CODES[:60])
        assert await problems(engine) == []


async def test_a_lucky_split_of_coupons_is_one_each(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 3)
    async with persisting(settings):
        packet_id = await drop(engine, batch_id, 3, total=3)
        assert (await engine.views.packet(packet_id)).split is SplitKind.LUCKY
        for user in "abc":
            await claim(engine, packet_id, user)


async def test_a_packet_that_only_looks_as_if_it_were_of_coupons_is_claimed_as_what_it_is(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before there were coupons: one number in 100,000 was so."""

    def drawn(lane: int, volume: int, **_: bool) -> str:
        return new_packet_number(lane, volume, of_coupons=True)

    monkeypatch.setattr(sending, "new_packet_number", drawn)
    packet_id = (await send(engine, "mall", total_fen=100, count=10)).packet_id
    async with persisting(settings), sweeping(settings):
        first = await engine.claims.claim(packet_id, "ada")
        assert type(first) is ClaimResult
        await caught_up(engine)
        (again,) = await engine.claims.claim_many([(packet_id, "ada")])
        assert again == ClaimResult(Outcome.ALREADY, first.amount_fen)
        await let_time_run_out(engine, packet_id)
        await settled(engine, packet_id)
        assert await problems(engine) == []


async def test_an_asset_from_before_coupons_keeps_its_code(engine: Engine, settings: Settings) -> None:
    await engine.assets.define("COUPON_1", scale=0, name="of before")
    known = await engine.assets.named("COUPON_1")
    issued = await engine.assets.issue("mall", 5, known, idempotency_key=uuid4().hex, request_hash=b"i")
    assert issued.balance_fen == 5
    assert await make_batch(engine, 3) == "2"
    terms = terms_from(settings=settings, total_fen=4, count=2, split=SplitKind.LUCKY, asset="COUPON_1")
    sent = await engine.packets.send("mall", terms, idempotency_key=uuid4().hex, request_hash=b"s")
    assert not may_be_of_coupons(int(sent.packet_id))
    assert await problems(engine) == []


async def test_a_batch_is_made_once_per_key(engine: Engine) -> None:
    await make_batch(engine, 3)
    batch = await engine.coupon_batches.known(1)
    again = [
        await engine.coupon_batches.make("mall", batch.terms, idempotency_key="k", request_hash=b"b") for _ in range(2)
    ]
    assert [replayed for _, replayed in again] == [False, True]
    assert again[0][0] == again[1][0]
    assert await engine.pool.fetchval("SELECT count(*) FROM coupon_batches") == 2
    with pytest.raises(NotMerchantError):
        await engine.coupon_batches.make("ada", batch.terms, idempotency_key="k", request_hash=b"b")
