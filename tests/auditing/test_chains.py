"""The hash chains as they grow: long ones, several, begun late, forged, and held against an anchor."""

import asyncio
import errno
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from engine.auditing import anchors
from engine.auditing.anchors import BANK, Head
from engine.errors import OperatorError
from engine.events import Claims
from engine.ledger import schema
from engine.ledger.chain import Counts, batch_hash, rows_digest
from engine.ledger.posting import Ledger
from tests.support.books import AT_MS, Books, claim, deposit, expired, opening
from tests.support.commands import hongbao, sentence
from tests.support.tampered import BATCH, CHANGED, CLAIM, UNCHECKED, Scene, pool_on, scene_on


@pytest.fixture
async def scene(books: Books, database_url: str) -> AsyncIterator[Scene]:
    async with scene_on(books, database_url) as made:
        yield made


async def forge_the_last_batch(scene: Scene) -> None:
    """What somebody can do who knows how hashes are made and may write everything."""
    before = await scene.pool.fetchval("SELECT hash FROM batches WHERE position = 11")
    digest = rows_digest([], [], [])
    forged = batch_hash(before, (0, 12, 11), Counts(0, 0, 1, 0, 0), digest)
    await scene.sql(
        "DELETE FROM quarantine WHERE position = 12",
        f"UPDATE batches SET hash = '\\x{forged.hex()}', closed = 1, quarantined = 0 WHERE position = 12",
        f"UPDATE lanes SET hash = '\\x{forged.hex()}' WHERE lane = 0",
    )


async def test_what_was_forged_throughout_contradicts_an_anchor(scene: Scene) -> None:
    anchor = list((await scene.find())["chains_unbroken"].heads)
    await scene.books.apply(opening(await scene.books.packet()))
    assert await scene.problems(anchor) == []  # the chains have grown from there
    await scene.sql("DELETE FROM batches WHERE position = 13", "UPDATE lanes SET position = 12 WHERE lane = 0")
    await forge_the_last_batch(scene)
    assert await scene.problems() == []
    assert await scene.problems(anchor) == [
        "lane 0, the batch up to change 12: its hash differs from the anchor's: something up to there was rewritten"
    ]
    await scene.sql(
        "DELETE FROM batches WHERE position = 12",
        "UPDATE lanes SET position = 11, hash = (SELECT hash FROM batches WHERE position = 11) WHERE lane = 0",
    )
    assert await scene.problems() == []
    gone = ["lane 0, the batch up to change 12: it is in the anchor, and gone from the ledger"]
    assert await scene.problems(anchor) == gone
    assert await scene.problems([Head(BANK, 1, "00")]) == [
        "deposit 1: its hash differs from the anchor's: something up to there was rewritten"
    ]


def printed(heads: list[Head]) -> bytes:
    findings: list[dict[str, Any]] = [{"invariant": "no_user_twice", "examined": 3}]
    return orjson.dumps([*findings, {"invariant": "chains_unbroken", "heads": heads, "holds": True}])


def test_an_anchor_is_what_the_audit_printed(tmp_path: Path) -> None:
    heads = [Head(0, 12, "ab"), Head(BANK, 3, "cd")]
    (tmp_path / "anchor").write_bytes(printed(heads))
    assert anchors.read(tmp_path / "anchor") == heads


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[]", "has no heads"),
        (printed([]), "has no heads"),
        (b"{}", "is not what"),
        (b"\xff", "is not what"),
        (b"[1]", "is not"),
    ],
)
def test_another_file_is_no_anchor(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "anchor").write_bytes(text)
    with pytest.raises(OperatorError, match=told):
        anchors.read(tmp_path / "anchor")
    with pytest.raises(OperatorError, match=re.escape(f"cannot be read: {os.strerror(errno.ENOENT)}")):
        anchors.read(tmp_path / "none")


@pytest.mark.long
async def test_the_command_compares_with_what_it_printed_before(
    books: Books, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    servers = {"HONGBAO_REDIS_URL": redis_url, "HONGBAO_DATABASE_URL": database_url}

    async def audit(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(hongbao, "audit", "--data-dir", tmp_path, *words, **servers)

    packet = await books.packet()
    await books.apply(opening(packet), claim(packet, "bob", 0, 5))
    kept = await audit("--json", "--textfile", tmp_path / "audit.prom")
    (tmp_path / "anchor").write_text(kept.stdout, encoding="utf-8")
    assert kept.stderr == ""  # Redis has nothing of this ledger, which the audit says, too
    metrics = (tmp_path / "audit.prom").read_text(encoding="utf-8")
    assert 'hongbao_audit_problems{invariant="chains_unbroken"} 0.0' in metrics
    assert "hongbao_audit_finished_timestamp_seconds" in metrics
    found = {finding["invariant"]: finding for finding in orjson.loads(kept.stdout)}
    assert [head["position"] for head in found["chains_unbroken"]["heads"]] == [2, 1]
    assert "anchor_holds" not in found
    assert (
        "ok     the chains go on from the anchor (2 examined)" in (await audit("--anchor", tmp_path / "anchor")).stdout
    )
    await books.connection.execute(f"{UNCHECKED}; UPDATE batches SET hash = sha256('x')")
    done = await audit("--anchor", tmp_path / "anchor")
    assert done.returncode == 1
    assert "lane 0, the batch up to change 2: its hash differs from the anchor's" in done.stdout
    said = sentence(await audit("--anchor", tmp_path / "none"))
    assert said == f"The anchor {tmp_path / 'none'} cannot be read: {os.strerror(errno.ENOENT)}."
    refused = await audit("--json", "--textfile", tmp_path / "no" / "folder")
    assert refused.stderr.startswith(
        f"hongbao: The metrics cannot be written to {tmp_path / 'no' / 'folder'}: {os.strerror(errno.ENOENT)}"
    )


async def test_many_rows_come_in_many_chunks(books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.auditing.streams._CHUNK_BYTES", 200)
    packet = await books.packet(total_fen=1_000, count=1_000)
    await books.apply(opening(packet))
    for start in range(0, 400, 80):
        users = [f"user{slot}" for slot in range(start, start + 80)]
        many = Claims(packet, users, range(start, start + 80), [1] * 80, AT_MS, books.position + 80)
        await Ledger().apply(books.connection, 0, books.position, books.position + 80, [many])
        books.position += 80
    async with pool_on(database_url) as pool:
        scene = Scene(books=books, pool=pool, full=packet, rest=0)
        assert (await scene.find())["chains_unbroken"].examined == 400 + 6
        assert await scene.problems() == []
        await scene.sql("UPDATE transfers SET amount_fen = 2 WHERE slot = 399")
        assert await scene.problems() == [f"{BATCH} 322 to 401: {CHANGED}"]


async def test_lanes_have_chains_of_their_own(books: Books, database_url: str) -> None:
    other = Books(connection=books.connection, lane=1)
    for lane_books in (books, other, books, other):
        packet = await lane_books.packet(total_fen=9, count=3)
        await lane_books.apply(opening(packet), claim(packet, "bob", 0, 4))
        await lane_books.apply(claim(packet, "eve", 1, 4), expired(packet, 1, 1))
    async with pool_on(database_url) as pool:
        scene = Scene(books=books, pool=pool, full=0, rest=0)
        assert await scene.problems() == []
        await scene.sql(
            f"UPDATE transfers SET amount_fen = 2 WHERE {CLAIM} = 7 AND from_account / 100000000000000 = 10001"
        )
        assert await scene.problems() == [f"lane 1, batch of changes 7 to 8: {CHANGED}"]


OLDER = """
    INSERT INTO lanes (lane, epoch, position) VALUES (0, 'epoch-0', 5);
    INSERT INTO accounts (account_id, kind, owner) VALUES (999, 'wallet', 'old');
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) VALUES ('deposit', 1, 999, 50, 1);
    INSERT INTO batches VALUES (0, 5, 0, 1, 4, 0, 0, 0);
    INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot, position)
    VALUES ('claim', 1000000000000000007, 999, 1, 1, 0, 2);
    INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES (0, 3, 7, 'claim', 1, 'old')
"""


async def test_what_an_older_release_wrote_is_before_the_chains(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        first = schema.migrations()[:1]
        older.setattr(schema, "migrations", lambda: first)
        await schema.migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(OLDER)
    await schema.migrate(empty_database_url)
    books = Books(connection=connection, position=5)
    async with pool_on(empty_database_url) as pool:
        scene = Scene(books=books, pool=pool, full=0, rest=0)
        assert [finding.examined for finding in (await scene.find()).values()] == [0, 0]
        packet = await books.packet()
        await books.apply(opening(packet), claim(packet, "bob", 0, 5))
        found = await scene.find()
        assert [finding.problems for finding in found.values()] == [(), ()]
        assert (found["chains_unbroken"].examined, found["transfers_unbroken"].examined) == (2, 2)
        assert found["chains_unbroken"].statement.endswith("(lane 0 from change 6 on)")
        await connection.execute(f"{UNCHECKED}; UPDATE transfers SET amount_fen = 2 WHERE {CLAIM} = 2")
        assert await scene.problems() == []  # nothing was kept of it
        await connection.execute(f"{UNCHECKED}; UPDATE transfers SET amount_fen = 6 WHERE {CLAIM} = 7")
        assert await scene.problems() == [f"{BATCH} 6 to 7: {CHANGED}"]
    await connection.close()


async def test_deposits_at_once_are_chained_in_the_order_of_their_numbers(books: Books, database_url: str) -> None:
    async def one(user: str) -> None:
        async with pool.acquire() as connection:
            for _ in range(20):
                await deposit(connection, user, 1)

    async with asyncpg.create_pool(database_url, min_size=8, max_size=8) as pool:
        await asyncio.gather(*(one(f"user{number}") for number in range(8)))
        scene = Scene(books=books, pool=pool, full=0, rest=0)
        found = await scene.find()
        assert (found["transfers_unbroken"].examined, found["transfers_unbroken"].problems) == (160, ())
