"""What the doctor says of the keys of coupons."""

from engine.doctor.doctor import examine
from engine.doctor.lines import Level, Line
from engine.engine import Engine
from engine.settings import Settings
from tests.support.coupons import make_batch, with_keys
from tests.support.scenes import changed


async def lines(settings: Settings) -> list[Line]:
    return [each for each in await examine(settings, is_embedded=False) if each.name == "coupon keys"]


async def test_it_names_the_keys_that_batches_need_and_nobody_has(settings: Settings) -> None:
    with_both = with_keys(settings)
    assert await lines(with_both) == []
    async with Engine.open(with_both) as engine:
        await make_batch(engine, 1)
    (found,) = await lines(with_both)
    assert (found.level, found.found) == (Level.OK, "first")
    for without in (with_keys(settings, f"other:{'o' * 32}"), changed(settings, coupon_keys=None)):
        (found,) = await lines(without)
        assert (found.level, found.found) == (Level.WARNING, "missing here: first")
        assert "HONGBAO_COUPON_KEYS" in found.advice
