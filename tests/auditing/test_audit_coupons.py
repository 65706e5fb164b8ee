"""The audit of coupons finds nothing on sound books, and names what is made wrong."""

from collections.abc import AsyncIterator

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.settings import Settings
from tests.support.anchored import audited
from tests.support.coupons import claim, drop, make_batch, pass_on, redeem, void, with_keys
from tests.support.scenes import persisting


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    """One batch with coupons that are held, redeemed, void, passed on, in a packet and unsent, and codes to come."""
    with_coupons = with_keys(settings)
    async with Engine.open(with_coupons) as engine, persisting(with_coupons):
        await make_batch(engine, 12, codes=[])
        batch_id = await make_batch(engine, 12, codes=[f"code-{number}" for number in range(9)])
        packet_id = await drop(engine, batch_id, 6)
        coupons = [await claim(engine, packet_id, user) for user in ("ada", "bob", "cid", "dan")]
        await redeem(engine, coupons[0].coupon_id)
        await void(engine, coupons[1].coupon_id)
        await pass_on(engine, coupons[2].coupon_id, "cid", "dan")
        yield engine


CORRUPTIONS = {
    "a coupon is forgotten": (
        ["ALTER TABLE coupons DISABLE TRIGGER USER", "DELETE FROM coupons WHERE state = 'held' AND number = 3"],
        {
            "coupons_match_holdings": "dan has 2 units of COUPON_2, and 1 coupons",
            "coupon_batches_add_up": "batch 2: of 12 coupons 12 were issued",
        },
    ),
    "a coupon changes hands": (
        ["UPDATE coupons SET holder = 'eve' WHERE state = 'held' AND number = 3"],
        {"coupons_match_holdings": "eve has 0 units of COUPON_2, and 1 coupons"},
    ),
    "a coupon is given without a claim": (
        ["INSERT INTO coupons (batch_id, number, holder, packet_id, given_at_ms) VALUES (2, 5, 'eve', 1, 0)"],
        {"coupons_match_holdings": "packet 1: 0 coupons were claimed, 1 were given"},
    ),
    "a redemption is undone": (
        [
            "ALTER TABLE coupons DISABLE TRIGGER USER",
            "UPDATE coupons SET state = 'held', ended_at_ms = NULL, transfer_id = NULL WHERE state = 'redeemed'",
        ],
        {
            "coupons_match_holdings": "ada has 0 units of COUPON_2, and 1 coupons",
            "coupon_batches_add_up": "batch 2: 0 coupons are redeemed, entries say 1",
        },
    ),
    "a given coupon is free": (
        ["UPDATE coupon_free SET first_number = 4"],
        {"coupon_batches_add_up": "batch 2: coupon 4 was given, and is free"},
    ),
    "a free coupon is lost": (
        ["DELETE FROM coupon_free"],
        {
            "coupons_match_holdings": "mall has 6 units of COUPON_2, and 3 coupons",
            "coupon_batches_add_up": "batch 2: of 12 coupons 12 were issued; 3 not uploaded, 2 in packets",
        },
    ),
}


async def test_sound_books_pass(engine: Engine) -> None:
    findings = {finding.invariant: finding for finding in await audit(engine.pool, engine.store, engine.stream)}
    assert [finding.problems for finding in findings.values() if not finding.holds] == []
    assert findings["coupons_match_holdings"].examined == 4
    assert findings["coupon_batches_add_up"].examined == 2


@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_what_is_made_wrong_is_named(engine: Engine, name: str) -> None:
    statements, told = CORRUPTIONS[name]
    for statement in statements:
        await engine.pool.execute(statement)
    on = await audited(engine)
    for findings in (await audit(engine.pool, engine.store, engine.stream), on.findings):
        found = {finding.invariant: finding.problems for finding in findings}
        for invariant, sentence in told.items():
            assert any(sentence in problem for problem in found[invariant]), found[invariant]
