"""What the ledger's other readers say of coupons: a day's reconciliation, bills, lists of entries, the chains."""

from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.settings import Settings
from engine.wallets.payouts import SandboxPayouts
from tests.support.coupons import (
    claim,
    drop,
    let_validity_run_out,
    make_batch,
    pass_on,
    problems,
    redeem,
    void,
    with_keys,
)
from tests.support.days import whole_day
from tests.support.scenes import persisting, sweeping
from tests.support.waiting import wait_until


async def test_a_day_with_coupons_is_reconciled_and_told(settings: Settings) -> None:
    day, settings = await whole_day(), with_keys(settings)
    async with Engine.open(settings) as engine, persisting(settings):
        batch_id = await make_batch(engine, 9)
        packet_id = await drop(engine, batch_id, 5)
        coupons = [await claim(engine, packet_id, user) for user in ("ada", "bob", "cid", "dan", "eve")]
        await redeem(engine, coupons[0].coupon_id)
        await void(engine, coupons[1].coupon_id)
        await pass_on(engine, coupons[2].coupon_id, "cid", "ada")
        await let_validity_run_out(engine, batch_id)
        async with sweeping(settings):

            async def is_over() -> bool:
                return (await engine.assets.get(f"COUPON_{batch_id}")).issued_fen == 0

            await wait_until(is_over, what="the coupons being taken in")
        provider = SandboxPayouts(engine.pool, settings)
        found = await reconcile(engine.pool, engine.store, engine.stream, provider, Day.of(day))
        assert [comparison.differences for comparison in found if not comparison.agrees] == []
        told = {comparison.name: (comparison.left.count, comparison.left.fen) for comparison in found}
        assert told["issue: ledger, COUPON_1"] == (1, 9)
        assert told["redeem: ledger, COUPON_1"] == told["coupon_void: ledger, COUPON_1"] == (1, 1)
        assert told["coupon_transfer: ledger, COUPON_1"] == told["coupon_transfer in: statements, COUPON_1"] == (1, 1)
        assert told["coupon_expire: ledger, COUPON_1"] == (4, 7)  # of three holders, and four were never sent
        asset = await engine.assets.named("COUPON_1")
        bill = await engine.statements.of("ada", today(), today(), asset)
        text = b"".join([part async for part in bill.as_csv()]).decode("utf-8-sig")
        assert all(word in text for word in ("核销", "转赠", "过期", "收支金额(COUPON_1)"))
        listed = await engine.wallets.transfers("ada", after=None, limit=10, asset="COUPON_1")
        assert [entry.kind for entry in listed.transfers] == ["coupon_expire", "coupon_transfer", "redeem", "claim"]
        assert await problems(engine) == []
