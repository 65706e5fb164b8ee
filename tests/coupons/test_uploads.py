"""Uploaded codes: each part is taken once, each code once, and what is wrong is named by its place."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.coupons import uploading
from engine.engine import Engine
from engine.errors import CodePartDiffersError, InvalidFieldsError
from engine.settings import Settings
from tests.support.coupons import let_validity_run_out, make_batch, statement, upload, with_keys

CODES = [f"code-{number:04d}" for number in range(40)]


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(with_keys(settings)) as engine:
        yield engine


async def stored(engine: Engine) -> int:
    count: int = await engine.pool.fetchval("SELECT count(*) FROM coupon_codes")
    return count


async def test_a_part_is_taken_once(engine: Engine) -> None:
    batch_id = await make_batch(engine, 40, codes=[])
    first = await upload(engine, batch_id, CODES[:10], part=1)
    assert (first.codes, first.uploaded, first.replayed) == (10, 10, False)
    assert (await upload(engine, batch_id, CODES[10:30], part=2)).uploaded == 30
    again = await upload(engine, batch_id, CODES[:10], part=1)
    assert (again.uploaded, again.replayed) == (30, True)
    for other in (CODES[:9], CODES[1:11], CODES[9::-1]):
        with pytest.raises(CodePartDiffersError):
            await upload(engine, batch_id, other, part=1)
    assert await stored(engine) == 30
    assert (await statement(engine, batch_id)).unsent == 30


async def test_the_same_part_many_times_at_once(engine: Engine) -> None:
    batch_id = await make_batch(engine, 40, codes=[])
    uploads = [upload(engine, batch_id, CODES[part * 10 : part * 10 + 10], part=part + 1) for part in range(4)] + [
        upload(engine, batch_id, CODES[part * 10 : part * 10 + 10], part=part + 1) for part in range(4)
    ]
    taken = await asyncio.gather(*uploads)
    assert sum(not part.replayed for part in taken) == 4
    assert await stored(engine) == 40
    ranges = await engine.pool.fetch("SELECT first_number, count FROM coupon_free")
    assert [tuple(row) for row in ranges] == [(1, 40)]  # parts that follow each other make one


@pytest.mark.parametrize(
    ("codes", "named"),
    [
        ([], "codes"),
        (["code-0005"], r"codes\[0\]"),
        (["code-1", "code-2", "code-0009"], r"codes\[2\]"),
        (["code-1", "code-2", "code-1"], r"codes\[2\]"),
        (["code-1", "x", "y z", "code-2"], r"codes\[1\]: .*; codes\[2\]"),
        ([f"more-{number}" for number in range(31)], "codes: must be at most 30"),
    ],
)
async def test_what_is_wrong_is_named(engine: Engine, codes: list[str], named: str) -> None:
    batch_id = await make_batch(engine, 40, codes=CODES[:10])
    with pytest.raises(InvalidFieldsError, match=named):
        await upload(engine, batch_id, codes, part=2)
    assert await stored(engine) == 10
    assert (await upload(engine, batch_id, CODES[10:12], part=2)).uploaded == 12


async def test_when_codes_cannot_be_uploaded(engine: Engine) -> None:
    derived = await make_batch(engine, 5)
    with pytest.raises(InvalidFieldsError, match="derived"):
        await upload(engine, derived, CODES[:5])
    over = await make_batch(engine, 5, codes=[])
    for part in (0, uploading.PART_MAX + 1):
        with pytest.raises(InvalidFieldsError, match="part"):
            await upload(engine, over, CODES[:5], part=part)
    await let_validity_run_out(engine, over)
    with pytest.raises(InvalidFieldsError, match="time is over"):
        await upload(engine, over, CODES[:5])


async def test_two_batches_may_have_the_same_code(engine: Engine) -> None:
    for _ in range(2):
        await make_batch(engine, 5, codes=CODES[:5])
    hashes = await engine.pool.fetch("SELECT DISTINCT hash FROM coupon_codes")
    assert len(hashes) == 10
