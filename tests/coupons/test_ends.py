"""What becomes of a coupon: redeemed once, declared void, passed on or expired, each by who may and in its time."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from engine.coupons import expiring
from engine.engine import Engine
from engine.errors import (
    CouponEndedError,
    CouponNotValidYetError,
    FrozenError,
    IdempotencyKeyReusedError,
    InvalidFieldsError,
    NotSenderError,
    NotTransferableError,
    UnknownCouponBatchError,
    UnknownCouponError,
)
from engine.records import CouponState, FreezeScope
from engine.settings import Settings
from tests.support.coupons import (
    DAY_MS,
    claim,
    drop,
    given,
    let_validity_run_out,
    make_batch,
    pass_on,
    problems,
    redeem,
    redeem_code,
    statement,
    void,
    with_keys,
)
from tests.support.scenes import assert_books_balance, persisting, sweeping
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_keys(settings)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine, persisting(settings):
        yield engine


async def balance(engine: Engine, user_id: str, batch_id: str) -> int:
    known = await engine.assets.named(f"COUPON_{batch_id}")
    return (await engine.wallets.get(user_id, known)).balance_fen


async def test_a_coupon_is_redeemed_once(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada")
    ended, is_replayed = await redeem(engine, coupon.coupon_id, key="k")
    assert (ended.state, ended.holder, is_replayed) == (CouponState.REDEEMED, "ada", False)
    assert await redeem(engine, coupon.coupon_id, key="k") == (ended, True)
    for act in (redeem, void):
        with pytest.raises(CouponEndedError, match="has been redeemed") as caught:
            await act(engine, coupon.coupon_id)
        assert caught.value.state == CouponState.REDEEMED
    assert await balance(engine, "ada", coupon.batch_id) == 0
    assert (await statement(engine, coupon.batch_id)).redeemed == 1
    row = await engine.pool.fetchrow(
        "SELECT kind::text, amount_fen FROM transfers WHERE transfer_id = $1", int(ended.transfer_id)
    )
    assert row is not None
    assert tuple(row) == ("redeem", 1)
    assert await problems(engine) == []
    await assert_books_balance(engine.pool)


@pytest.mark.parametrize("uploaded", [False, True], ids=["derived", "uploaded"])
async def test_a_coupon_is_redeemed_by_its_code(engine: Engine, uploaded: bool) -> None:
    codes = ["alpha-1", "beta-2"] if uploaded else None
    first, second = await given(engine, "ada", "bob", codes=codes)
    assert first.code is not None
    assert second.code is not None
    ended, _ = await redeem_code(engine, first.batch_id, first.code, key="k")
    assert (ended.coupon_id, ended.holder, ended.name) == (first.coupon_id, "ada", first.name)
    assert await redeem_code(engine, first.batch_id, first.code, key="k") == (ended, True)
    with pytest.raises(IdempotencyKeyReusedError):  # though the body's hash does not cover the code
        await redeem_code(engine, first.batch_id, second.code, key="k")
    with pytest.raises(CouponEndedError):
        await redeem_code(engine, first.batch_id, first.code)
    for wrong in ("", "x", "ALPHA-1", second.code[:-1], f"{second.code[:-1]}?"):
        with pytest.raises(UnknownCouponError):
            await redeem_code(engine, first.batch_id, wrong)
    typed = second.code if uploaded else second.code.lower().replace("-", " ")
    assert (await redeem_code(engine, first.batch_id, typed))[0].holder == "bob"


async def test_a_code_that_nobody_was_given_redeems_nothing(engine: Engine) -> None:
    batch_id = await make_batch(engine, 2, codes=["alpha-1", "beta-2"])
    packet_id = await drop(engine, batch_id, 2)
    await claim(engine, packet_id, "ada")
    with pytest.raises(UnknownCouponError):
        await redeem_code(engine, batch_id, "beta-2")
    for unknown in (f"{batch_id}-2", f"{batch_id}-3", "77-1"):
        with pytest.raises(UnknownCouponError):
            await redeem(engine, unknown)


async def test_only_the_owner_redeems_and_declares_void(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada", codes=["alpha-1"])
    for somebody in ("ada", "shop"):
        for act in (redeem, void):
            with pytest.raises(NotSenderError):
                await act(engine, coupon.coupon_id, owner=somebody)
        with pytest.raises(NotSenderError):
            await redeem_code(engine, coupon.batch_id, "alpha-1", owner=somebody)
    with pytest.raises(UnknownCouponBatchError):
        await redeem_code(engine, "77", "alpha-1")


async def test_a_void_coupon_stays_void(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada", valid_in_ms=(DAY_MS, 2 * DAY_MS))
    with pytest.raises(CouponNotValidYetError):
        await redeem(engine, coupon.coupon_id)
    assert (await void(engine, coupon.coupon_id))[0].state is CouponState.VOID
    with pytest.raises(CouponEndedError, match="declared void"):
        await redeem(engine, coupon.coupon_id)
    with pytest.raises(CouponEndedError, match="declared void"):
        await pass_on(engine, coupon.coupon_id, "ada", "bob")
    with pytest.raises(asyncpg.PostgresError, match="never changed"):
        await engine.pool.execute("UPDATE coupons SET note = 'x'")
    assert (await statement(engine, coupon.batch_id)).void == 1
    assert await problems(engine) == []


async def test_a_coupon_is_passed_on_and_its_old_code_is_void(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada")
    await pass_on(engine, coupon.coupon_id, "ada", "bob")
    assert [await balance(engine, user, coupon.batch_id) for user in ("ada", "bob")] == [0, 1]
    with pytest.raises(UnknownCouponError):
        await pass_on(engine, coupon.coupon_id, "ada", "eve")
    with pytest.raises(UnknownCouponError):
        await engine.coupons.get(coupon.coupon_id, "ada")
    found = await engine.coupons.get(coupon.coupon_id, "bob")
    assert found.code not in (None, coupon.code)
    assert coupon.code is not None
    assert found.code is not None
    with pytest.raises(UnknownCouponError):
        await redeem_code(engine, coupon.batch_id, coupon.code)
    assert (await redeem_code(engine, coupon.batch_id, found.code))[0].holder == "bob"
    assert await problems(engine) == []
    await assert_books_balance(engine.pool)


async def test_whoever_passed_a_coupon_on_sees_its_code_no_more(engine: Engine) -> None:
    batch_id = await make_batch(engine, 1, codes=["alpha-1"])
    packet_id = await drop(engine, batch_id, 1)
    coupon = await claim(engine, packet_id, "ada")
    await pass_on(engine, coupon.coupon_id, "ada", "bob")
    again = await claim(engine, packet_id, "ada")
    assert (again.coupon_id, again.holder, again.code) == (coupon.coupon_id, "bob", None)
    assert (await engine.coupons.get(coupon.coupon_id, "bob")).code == "alpha-1"


async def test_what_is_wrong_with_passing_on_is_named(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada")
    for to in ("ada", "", "no blank"):
        with pytest.raises(InvalidFieldsError, match="to: "):
            await pass_on(engine, coupon.coupon_id, "ada", to)
    (fixed,) = await given(engine, "ada", is_transferable=False)
    with pytest.raises(NotTransferableError):
        await pass_on(engine, fixed.coupon_id, "ada", "bob")


async def test_the_coupons_of_a_frozen_user_stay_where_they_are(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada")
    await engine.freezes.freeze("ada", reason="looked into", frozen_by="root")
    for act in (redeem(engine, coupon.coupon_id), pass_on(engine, coupon.coupon_id, "ada", "bob")):
        with pytest.raises(FrozenError):
            await act
    await engine.freezes.lift("ada", reason="all is well", lifted_by="root")
    await engine.freezes.freeze("bob", scope=FreezeScope.RECEIVING, reason="looked into", frozen_by="root")
    with pytest.raises(FrozenError, match="other account"):
        await pass_on(engine, coupon.coupon_id, "ada", "bob")
    await engine.freezes.freeze("ada", scope=FreezeScope.SENDING, reason="looked into", frozen_by="root")
    with pytest.raises(FrozenError, match="cannot pass"):
        await pass_on(engine, coupon.coupon_id, "ada", "eve")
    await redeem(engine, coupon.coupon_id)
    assert await problems(engine) == []


async def test_after_its_time_nothing_is_done_with_a_coupon_swept_or_not(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 9)
    packet_id = await drop(engine, batch_id, 6)
    coupons = [await claim(engine, packet_id, user) for user in ("ada", "bob", "cid", "mall", "dan", "eve")]
    await redeem(engine, coupons[0].coupon_id)
    await void(engine, coupons[1].coupon_id)
    await let_validity_run_out(engine, batch_id)
    acts = (redeem, void, lambda engine, coupon_id: pass_on(engine, coupon_id, "cid", "bob"))
    for _ in range(2):
        for act in acts:
            with pytest.raises(CouponEndedError, match="time is over"):
                await act(engine, coupons[2].coupon_id)
        assert (await engine.coupons.get(coupons[2].coupon_id, "cid")).state is CouponState.EXPIRED
        page = await engine.coupons.of_holder("cid", state=CouponState.HELD, after=None, limit=10, shows_codes=True)
        assert page.coupons == []
        async with sweeping(settings):
            await wait_until(lambda: is_closed(engine, batch_id), what="the batch being closed")
    found = await statement(engine, batch_id)
    assert (found.redeemed, found.void, found.expired, found.held, found.unsent) == (1, 1, 7, 0, 0)
    assert (await engine.assets.get(f"COUPON_{batch_id}")).issued_fen == 0
    assert await problems(engine) == []
    await assert_books_balance(engine.pool)


async def is_closed(engine: Engine, batch_id: str) -> bool:
    query = "SELECT closed_at_ms IS NOT NULL FROM coupon_batches WHERE batch_id = $1"
    return bool(await engine.pool.fetchval(query, int(batch_id)))


async def test_coupons_expire_some_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiring, "CHUNK", 3)
    coupons = await given(
        engine, *(f"user{number % 4}{number}" for number in range(8)), codes=[f"c-{n:03}" for n in range(8)]
    )
    batch_id = coupons[0].batch_id
    await let_validity_run_out(engine, batch_id)
    batch = await engine.coupon_batches.known(int(batch_id))
    assert await expiring.expire_some(engine.pool, batch, 0) == 3
    assert (await statement(engine, batch_id)).expired == 3
    # Two at once, as of two sweepers, and one that begins anew.
    assert {*await asyncio.gather(*(expiring.expire_some(engine.pool, batch, 3) for _ in range(2)))} == {6, None}
    assert await expiring.expire_some(engine.pool, batch, 0) is None
    assert (await statement(engine, batch_id)).expired == 8
    assert await is_closed(engine, batch_id)
    assert await problems(engine) == []


async def test_what_was_never_uploaded_expires_too(engine: Engine, settings: Settings) -> None:
    batch_id = await make_batch(engine, 5, codes=["alpha-1", "beta-2"])
    await let_validity_run_out(engine, batch_id)
    async with sweeping(settings):
        await wait_until(lambda: is_closed(engine, batch_id), what="the batch being closed")
    assert (await statement(engine, batch_id)).expired == 5
    assert await problems(engine) == []


async def test_a_users_coupons_are_listed_by_state(engine: Engine) -> None:
    first = await given(engine, "ada", "bob")
    second = await given(engine, "ada", "bob", "eve")
    await redeem(engine, second[0].coupon_id)
    await pass_on(engine, second[2].coupon_id, "eve", "ada")
    whole = await engine.coupons.of_holder("ada", state=None, after=None, limit=10, shows_codes=True)
    assert [coupon.coupon_id for coupon in whole.coupons] == [
        second[2].coupon_id,
        second[0].coupon_id,
        first[0].coupon_id,
    ]
    assert whole.next is None
    page = await engine.coupons.of_holder("ada", state=None, after=None, limit=2, shows_codes=False)
    assert {coupon.code for coupon in page.coupons} == {None}
    page = await engine.coupons.of_holder("ada", state=None, after=page.next, limit=2, shows_codes=True)
    assert [coupon.code for coupon in page.coupons] == [first[0].code]
    held = await engine.coupons.of_holder("ada", state=CouponState.HELD, after=None, limit=10, shows_codes=True)
    assert [coupon.coupon_id for coupon in held.coupons] == [second[2].coupon_id, first[0].coupon_id]
    with pytest.raises(InvalidFieldsError, match="after"):
        await engine.coupons.of_holder("ada", state=None, after="1", limit=2, shows_codes=True)


async def test_a_coupon_is_seen_by_its_holder_its_owner_and_an_admin(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada", codes=["alpha-1"])
    assert (await engine.coupons.get(coupon.coupon_id, "ada")).code == "alpha-1"
    assert (await engine.coupons.get(coupon.coupon_id, "mall")).code is None
    assert (await engine.coupons.get(coupon.coupon_id, None, sees_all=True)).code is None
    for unknown, viewer, sees_all in ((coupon.coupon_id, "bob", False), ("77-1", None, True), ("1-9", "mall", True)):
        with pytest.raises(UnknownCouponError):
            await engine.coupons.get(unknown, viewer, sees_all=sees_all)


async def test_a_note_is_kept_and_bounded(engine: Engine) -> None:
    (coupon,) = await given(engine, "ada")
    for note in ("x" * 201, "\u202e"):
        with pytest.raises(InvalidFieldsError, match="note"):
            await engine.coupon_acts.redeem(
                coupon.coupon_id, "mall", note=note, idempotency_key=uuid4().hex, request_hash=b"r"
            )
    await engine.coupon_acts.redeem(
        coupon.coupon_id, "mall", note="order 17", idempotency_key=uuid4().hex, request_hash=b"r"
    )
    assert await engine.pool.fetchval("SELECT note FROM coupons") == "order 17"
