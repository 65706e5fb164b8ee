"""What bills and a day's reconciliation tell of cards and of the pool."""

from engine.auditing.comparison import Day
from engine.auditing.reconciliation import reconcile
from engine.calendar.china_time import today
from engine.engine import Engine
from engine.settings import Settings
from engine.wallets.payouts import SandboxPayouts
from tests.support.collectors import OWNER, complete, deal, draw, end, key, make
from tests.support.days import whole_day


async def collected(engine: Engine) -> str:
    """A set of which everything has happened that can; its number."""
    set_id = (await make(engine, (5, 5), granted=(1, 0), pool_fen=1_000, wild=1)).set_id
    await deal(engine, set_id, "ada", 1, 1)
    await deal(engine, set_id, "bob", 2)
    await deal(engine, set_id, "eve", 3)
    grant, _ = await engine.collecting.grant(set_id, "eve", "shared", **key())
    assert grant.card == 1
    offers = [(await engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **key()))[0] for _ in "ab"]
    await engine.card_offers.accept(offers[0].offer_id, "bob")
    await engine.card_offers.withdraw(offers[1].offer_id, "ada")
    for user in ("ada", "eve"):
        await complete(engine, set_id, user)
    await end(engine, set_id)
    await draw(engine)
    return set_id


async def test_a_day_s_books_agree(engine: Engine, settings: Settings) -> None:
    day = await whole_day()
    set_id = await collected(engine)
    provider = SandboxPayouts(engine.pool, settings)
    found = await reconcile(engine.pool, engine.store, engine.stream, provider, Day.of(day))
    assert [comparison.differences for comparison in found if not comparison.agrees] == []
    told = {comparison.name: (comparison.left.count, comparison.left.fen) for comparison in found}
    first = f"CARD_{set_id}_1"
    assert told[f"issue: ledger, {first}"] == (1, 5)
    assert told[f"card_reserve: ledger, {first}"] == told[f"card_grant: ledger, {first}"] == (1, 1)
    assert told[f"card_offer: ledger, {first}"] == told[f"card_offer out: statements, {first}"] == (2, 2)
    assert told[f"card_exchange: ledger, {first}"] == told[f"card_return: ledger, {first}"] == (1, 1)
    assert told[f"card_spend: ledger, {first}"] == (2, 2)
    assert told["pool_fund: ledger"] == (1, 1_000)
    assert told["pool_share: ledger"] == told["pool_share in: statements"] == (2, 1_000)


async def test_bills_name_what_happened(engine: Engine) -> None:
    await whole_day()  # the bills are of today
    set_id = await collected(engine)

    async def bill(user: str, asset: str | None) -> str:
        statement = await engine.statements.of(user, today(), today(), await engine.assets.named(asset))
        return b"".join([part async for part in statement.as_csv()]).decode("utf-8-sig")

    cards = await bill("ada", f"CARD_{set_id}_1")
    assert [word in cards for word in ("赠送", "换卡申请", "换卡退回", "合成")] == [True] * 4
    assert "元" not in cards
    assert "瓜分奖池" in await bill("ada", None)
    assert "注入奖池" in await bill(OWNER, None)
    assert "预留发卡" in await bill(OWNER, f"CARD_{set_id}_1")
    assert "换得卡片" in await bill("bob", f"CARD_{set_id}_1")
    assert "获得卡片" in await bill("eve", f"CARD_{set_id}_1")
