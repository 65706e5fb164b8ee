"""`hongbao coupons`: batches are listed and shown, and a file of codes is uploaded, in parts, as often as one likes."""

import asyncio
from pathlib import Path

import orjson
import pytest

from engine.coupons import files
from engine.coupons.files import parts_of
from engine.coupons.uploading import PartUploaded
from engine.engine import Engine
from engine.errors import InvalidFieldsError, OperatorError
from engine.settings import Settings
from tests.support.commands import hongbao, sentence
from tests.support.coupons import KEYS, make_batch, statement, with_keys

pytestmark = pytest.mark.long


async def run(settings: Settings, *words: str | Path, keys: str = KEYS) -> tuple[str, str]:
    """What the command prints, or the sentence with which it fails."""
    assert settings.redis_url is not None
    assert settings.database_url is not None
    named = {"HONGBAO_REDIS_URL": settings.redis_url, "HONGBAO_DATABASE_URL": settings.database_url}
    done = await asyncio.to_thread(
        hongbao, "coupons", *words, "--data-dir", settings.data_dir, HONGBAO_COUPON_KEYS=keys, **named
    )
    return (done.stdout, "") if done.returncode == 0 else ("", sentence(done))


async def test_a_file_is_uploaded_and_told_of(settings: Settings, tmp_path: Path) -> None:
    codes = [f"code-{number}" for number in range(7)]
    path = tmp_path / "codes.csv"
    path.write_text("\ufeff" + "\r\n".join([f'"{codes[0]}"', *codes[1:]]) + "\r\n", encoding="utf-8")
    async with Engine.open(with_keys(settings)) as engine:
        batch_id = await make_batch(engine, 7, codes=[])
        printed, _ = await run(settings, "upload", batch_id, path)
        assert printed == f"part 1: 7 codes\nbatch {batch_id}: 7 of 7 codes uploaded\n"
        printed, _ = await run(settings, "upload", batch_id, path)
        assert printed.startswith("part 1: 7 codes, known before\n")
        printed, _ = await run(settings, "upload", batch_id, path, "--json")
        assert orjson.loads(printed)["uploaded"] == 7
        assert (await run(settings, "list"))[0] == (
            f"batch {batch_id}  mall  五元优惠券: 7 coupons, 7 of 7 codes uploaded\n"
        )
        assert (await run(settings, "show", batch_id))[0] == f"batch {batch_id}: 7 coupons\nunsent  7\n"
        assert orjson.loads((await run(settings, "show", batch_id, "--json"))[0])["unsent"] == 7
        assert orjson.loads((await run(settings, "list", "--json"))[0])[0]["batch_id"] == batch_id
        (tmp_path / "other.csv").write_text("code-9\n", encoding="utf-8")
        assert "with other codes" in (await run(settings, "upload", batch_id, tmp_path / "other.csv"))[1]
        assert "no batch" in (await run(settings, "upload", "77", path))[1]
        no_key = await run(settings, "upload", batch_id, path, keys=f"other:{'o' * 32}")
        assert "must add it to HONGBAO_COUPON_KEYS" in no_key[1]


async def test_a_file_is_read_in_parts_and_goes_on_where_it_was_left(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART_CODES_MAX", 10)
    codes = [f"code-{number}" for number in range(34)]
    path = tmp_path / "codes.csv"
    path.write_text("\n".join(codes), encoding="utf-8")
    assert [len(part) for part in parts_of(path, 10)] == [10, 10, 10, 4]
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join([*codes[:23], "not one", *codes[24:]]), encoding="utf-8")
    async with Engine.open(with_keys(settings)) as engine:
        batch_id = await make_batch(engine, 34, codes=[])
        batch = await engine.coupon_batches.known(int(batch_id))
        taken: list[PartUploaded] = []
        with pytest.raises(InvalidFieldsError, match="line 24"):
            await files.upload_file(engine.pool, engine.coupon_batches, batch, bad, taken.append)
        assert [part.replayed for part in taken] == [False, False]
        assert await files.upload_file(engine.pool, engine.coupon_batches, batch, path, taken.append) == 34
        assert [part.replayed for part in taken[2:]] == [True, True, False, False]
        assert (await statement(engine, batch_id)).unsent == 34


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"code-1\n\ncode-2\n", "Line 2 of .* is empty"),
        (b"code-1\ncode-2,5\n", "Line 2 of .* has several values"),
        (b"code-1\n" + b"x" * 2_000, "Line 2 of .* is too long"),
        (b"code-1\n\xff\xfe\n", "is not CSV in UTF-8"),
    ],
    ids=["blank", "two columns", "long", "not text"],
)
def test_a_line_that_is_no_code_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "codes.csv"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match=said):
        list(parts_of(path, 100))
    with pytest.raises(OperatorError, match="cannot be read"):
        list(parts_of(tmp_path / "missing.csv", 100))
