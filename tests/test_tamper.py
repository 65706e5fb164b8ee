"""Whatever is changed, removed or added in what the ledger has written, the hash chains tell of it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from engine import audit_anchor, schema, wallet
from engine.audit import Finding, chains
from engine.audit_anchor import BANK, Head
from engine.chain import Counts, batch_hash, rows_digest
from engine.errors import OperatorError
from engine.events import Claims
from engine.ledger import Ledger
from tests.books import AT_MS, Books, claim, exhausted, expired, opening
from tests.commands import hongbao, sentence

UNCHECKED = "SET session_replication_role = replica"  # a superuser's way past the triggers


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A ledger at rest: two packets, six batches in lane 0, one of which set a claim aside."""

    books: Books
    pool: asyncpg.Pool
    full: int
    rest: int

    async def sql(self, *statements: str) -> None:
        """Change the ledger behind its back."""
        await self.books.connection.execute("; ".join((UNCHECKED, *statements)))

    async def find(self, anchor: list[Head] | None = None) -> dict[str, Finding]:
        """What the chains tell."""
        async with (
            self.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return {finding.invariant: finding for finding in await chains(self.pool, connection, anchor)}

    async def problems(self, anchor: list[Head] | None = None) -> list[str]:
        """All of it in one list."""
        return [problem for finding in (await self.find(anchor)).values() for problem in finding.problems]


@asynccontextmanager
async def pool_on(url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(url, min_size=2, max_size=2) as pool:
        yield pool


@pytest.fixture
async def scene(books: Books, database_url: str) -> AsyncIterator[Scene]:
    full, rest = await books.packet(total_fen=100, count=4), await books.packet(total_fen=70, count=3)
    await books.apply(opening(full), opening(rest))  # changes 1 to 2
    await books.apply(*(claim(full, f"user{slot}", slot, 20 + slot) for slot in range(3)), claim(rest, "bob", 0, 30))
    await books.apply(claim(rest, "carol", 1, 10), claim(rest, "bob", 2, 30), claim(rest, "dave", 2, 5))  # 7 to 9
    await books.apply(claim(full, "user3", 3, 37), exhausted(full))  # 10
    await books.apply(expired(rest, 0, 25))  # 11
    await books.apply(claim(rest, "late", 2, 25))  # 12, set aside as well
    async with pool_on(database_url) as pool:
        yield Scene(books=books, pool=pool, full=full, rest=rest)


async def test_what_the_ledger_wrote_has_its_hashes(scene: Scene) -> None:
    found = await scene.find()
    assert [finding.problems for finding in found.values()] == [(), ()]
    # Seven claims, a refund and two rows in quarantine in six batches; two deposits and two sends.
    assert (found["chains_unbroken"].examined, found["transfers_unbroken"].examined) == (7 + 1 + 2 + 6, 4)
    last = await scene.pool.fetchval("SELECT max(transfer_id) FROM transfers WHERE kind = 'deposit'")
    assert [(head.lane, head.position) for head in found["chains_unbroken"].heads] == [(0, 12), (BANK, last)]


async def test_an_empty_ledger_has_nothing_to_tell(books: Books, database_url: str) -> None:
    async with pool_on(database_url) as pool:
        found = await Scene(books=books, pool=pool, full=0, rest=0).find()
    assert [(finding.examined, finding.problems, finding.heads) for finding in found.values()] == [(0, (), ())] * 2


CLAIM = "kind = 'claim' AND position"
COPIED = "kind, from_account, to_account, amount_fen, at_ms, slot, position"
BATCH = "lane 0, batch of changes"
CHANGED = "it, or a row of these changes, was changed"
TAMPERINGS: list[tuple[str, str, str]] = [
    ("an amount", f"UPDATE transfers SET amount_fen = 21 WHERE {CLAIM} = 3", f"{BATCH} 3 to 6: {CHANGED}"),
    ("a recipient", f"UPDATE transfers SET to_account = 999 WHERE {CLAIM} = 3", f"{BATCH} 3 to 6: {CHANGED}"),
    ("a time", f"UPDATE transfers SET at_ms = at_ms + 1 WHERE {CLAIM} = 10", f"{BATCH} 10 to 10: {CHANGED}"),
    (
        "two recipients",
        "DROP INDEX claim_once_per_user; "
        "UPDATE transfers AS one SET to_account = other.to_account FROM transfers AS other "
        "WHERE one.position IN (3, 4) "
        "AND other.position = 7 - one.position AND one.kind = 'claim' AND other.kind = 'claim'",
        f"{BATCH} 3 to 6: {CHANGED}",
    ),
    (
        "two positions",
        f"UPDATE transfers SET position = 7 - position WHERE {CLAIM} IN (3, 4)",
        f"{BATCH} 3 to 6: {CHANGED}",
    ),
    (
        "a claim that is gone",
        f"DELETE FROM transfers WHERE {CLAIM} = 4",
        f"{BATCH} 3 to 6: it had 4 claims, the ledger has 3; change 4 is missing",
    ),
    (
        "a claim too many",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, position "
        f"FROM transfers WHERE {CLAIM} = 5",
        f"{BATCH} 3 to 6: it had 4 claims, the ledger has 5; change 5 is there more than once",
    ),
    (
        "a claim after the last batch",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, 13 "
        f"FROM transfers WHERE {CLAIM} = 5",
        "a claim at change 13 is of no batch",
    ),
    (
        "a claim without a position",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, NULL "
        f"FROM transfers WHERE {CLAIM} = 5",
        "is of no batch",
    ),
    (
        "a claim of a lane that is not",
        f"INSERT INTO transfers ({COPIED}) VALUES ('claim', 1099900000000000001, 3, 1, 1, 9, 3)",
        "a claim out of 1099900000000000001 is of no batch",
    ),
    (
        "a claim from before the first",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, -5 "
        f"FROM transfers WHERE {CLAIM} = 5",
        "is of no batch",
    ),
    (
        "a row in quarantine of a lane that is not",
        "INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES (77, 2, 1, 'claim', 1, 'x')",
        "a row in quarantine at change 2 is of no batch",
    ),
    (
        "a batch of a lane that is not",
        "INSERT INTO batches VALUES (77, 1, 0, 1, 0, 0, 0, 0, sha256('x'))",
        "lane 77: only its batches are there",
    ),
    ("all batches", "DELETE FROM batches", "5 more rows there are of no batch"),
    ("a refund", "UPDATE transfers SET amount_fen = 26 WHERE kind = 'refund'", f"{BATCH} 11 to 11: {CHANGED}"),
    (
        "a refund that is gone",
        "DELETE FROM transfers WHERE kind = 'refund'",
        f"{BATCH} 11 to 11: it had 1 refunds, the ledger has 0; change 11 is missing",
    ),
    (
        "a claim that is made to be of a batch without claims",
        "UPDATE transfers SET position = 12 WHERE kind = 'claim' AND position = 10",
        f"{BATCH} 12 to 12: it had 0 claims, the ledger has 1; change 12 is there more than once",
    ),
    ("a reason", "UPDATE quarantine SET reason = 'none' WHERE position = 8", f"{BATCH} 7 to 9: {CHANGED}"),
    ("a row in quarantine that is gone", "DELETE FROM quarantine WHERE position = 8", f"{BATCH} 7 to 9: change 8 is"),
    (
        "a row in quarantine too many",
        "INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES (0, 99, 1, 'claim', 1, 'x')",
        "a row in quarantine at change 99 is of no batch",
    ),
    (
        "a claim in place of one that was set aside",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, 8 "
        f"FROM transfers WHERE {CLAIM} = 5",
        f"{BATCH} 7 to 9: it had 2 claims, the ledger has 3; change 8 is there more than once",
    ),
    (
        "a retry that never was",
        "UPDATE quarantine SET resolution = 'retried', resolved_at_ms = 1, resolved_by = 'x' WHERE position = 8",
        "change 8 was retried, and is not in the ledger as it was set aside",
    ),
    ("a batch", "UPDATE batches SET opened = -1, claims = 5 WHERE position = 6", f"{BATCH} 3 to 6: it had 5 claims"),
    ("a hash", "UPDATE batches SET hash = sha256('x') WHERE position = 6", f"{BATCH} 3 to 6: {CHANGED}"),
    ("a hash that is gone", "UPDATE batches SET hash = NULL WHERE position = 6", f"{BATCH} 3 to 6: it has no hash"),
    (
        "a batch that is gone",
        "DELETE FROM batches WHERE position = 6",
        f"{BATCH} 7 to 9: the batch of changes 3 to 6, before it, was removed",
    ),
    (
        "the first batch",
        "DELETE FROM batches WHERE position = 2",
        f"{BATCH} 3 to 6: the batch of changes 1 to 2, before it, was removed",
    ),
    (
        "the last batch",
        "DELETE FROM batches WHERE position = 12",
        "lane 0: the last batch, of changes 12 to 12, was removed",
    ),
    (
        "a batch too many",
        "INSERT INTO batches VALUES (0, 5, 4, 1, 0, 0, 0, 0, sha256('x'))",
        f"{BATCH} 5 to 5: the batch of changes 3 to 4, before it, was removed",
    ),
    ("a checkpoint", "UPDATE lanes SET position = 11 WHERE lane = 0", "its checkpoint is 11, its batches go to 12"),
    (
        "a lane's head",
        "UPDATE lanes SET hash = sha256('x') WHERE lane = 0",
        "its head is not the hash of its last batch",
    ),
    ("a deposit", "UPDATE transfers SET amount_fen = 101 WHERE transfer_id = 1", "transfer 1, a deposit of 101 fen"),
    ("a deposit that is gone", "DELETE FROM transfers WHERE transfer_id = 1", "transfer 1 was removed"),
    (
        "a deposit that is gone with its hash",
        "DELETE FROM transfers WHERE transfer_id = 1; DELETE FROM transfer_hashes WHERE transfer_id = 1",
        "a deposit of 70 fen: it, or the one before, was changed",
    ),
    (
        "the last deposit",
        "DELETE FROM transfers WHERE transfer_id = 3; DELETE FROM transfer_hashes WHERE transfer_id = 3",
        "account 1: its last transfers were removed, or its head was changed",
    ),
    (
        "all deposits",
        "DELETE FROM transfers WHERE kind = 'deposit'; DELETE FROM transfer_hashes WHERE transfer_id IN (1, 3)",
        "account 1: every transfer that its head is about was removed",
    ),
    (
        "a deposit too many",
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) VALUES ('deposit', 1, 1000, 5, 1)",
        "a deposit of 5 fen, was inserted: it has no hash",
    ),
    (
        "a deposit too many, with a hash",
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) VALUES ('deposit', 1, 1000, 5, 1); "
        "INSERT INTO transfer_hashes SELECT max(transfer_id), sha256('x') FROM transfers",
        "a deposit of 5 fen: it, or the one before, was changed",
    ),
    ("a send", "UPDATE transfers SET at_ms = 1 WHERE transfer_id = 2", "transfer 2, a send of 100 fen"),
    ("the bank's head", "UPDATE accounts SET hash = sha256('x') WHERE account_id = 1", "account 1: its last transfers"),
]


@pytest.mark.parametrize(("statement", "told"), [row[1:] for row in TAMPERINGS], ids=[row[0] for row in TAMPERINGS])
async def test_what_was_tampered_with_is_named(scene: Scene, statement: str, told: str) -> None:
    await scene.sql(statement)
    problems = await scene.problems()
    assert any(told in problem for problem in problems), problems


@pytest.mark.parametrize(
    "what", ["an amount", "a recipient", "two recipients", "a reason", "a hash", "a refund", "a deposit"]
)
async def test_only_what_was_tampered_with_is_named(scene: Scene, what: str) -> None:
    statement, told = next(row[1:] for row in TAMPERINGS if row[0] == what)
    await scene.sql(statement)
    assert [told in problem for problem in await scene.problems()] == [True]


# What is in no hash: a number that is only a name, and what a chain is told to begin after.
NOT_CHAINED = {("quarantine", column) for column in ("quarantine_id", "moved_fen", "resolution_reason", "took_effect")}
VALUES = {
    "bigint": "{0} + 1",
    "integer": "{0} + 1",
    "smallint": "{0} + 1",
    "text": "{0} || 'x'",
    "bytea": "sha256({0})",
}


async def test_every_value_that_was_written_is_in_a_chain(scene: Scene) -> None:
    """Each column of each row in turn, one step off."""
    unnoticed, tried = [], 0
    connection = scene.books.connection
    columns = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name IN ('transfers', 'batches', 'quarantine', 'transfer_hashes') ORDER BY 1, 2"
    )
    await connection.execute(UNCHECKED)
    for table, column, kind in columns:
        if (table, column) in NOT_CHAINED or column == "transfer_id" or kind not in VALUES:
            continue
        for place in await connection.fetch(
            f"SELECT ctid::text AS at, {column} FROM {table} WHERE {column} IS NOT NULL"
        ):
            try:
                changed = await connection.fetchrow(
                    f"UPDATE {table} SET {column} = {VALUES[kind].format(column)} WHERE ctid = $1::text::tid "
                    "RETURNING ctid::text AS at",
                    place["at"],
                )
            except asyncpg.IntegrityConstraintViolationError:
                continue  # found out at once
            assert changed is not None
            tried += 1
            if not await scene.problems():
                unnoticed.append((table, column, place[column]))
            await connection.execute(
                f"UPDATE {table} SET {column} = $2 WHERE ctid = $1::text::tid", changed["at"], place[column]
            )
    assert unnoticed == []
    assert tried > 80
    assert await scene.problems() == []


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
        "lane 0, the batch up to change 12: it has another hash than in the anchor: something up to there was rewritten"
    ]
    await scene.sql(
        "DELETE FROM batches WHERE position = 12",
        "UPDATE lanes SET position = 11, hash = (SELECT hash FROM batches WHERE position = 11) WHERE lane = 0",
    )
    assert await scene.problems() == []
    gone = ["lane 0, the batch up to change 12: it is in the anchor, and gone from the ledger"]
    assert await scene.problems(anchor) == gone
    assert await scene.problems([Head(BANK, 1, "00")]) == [
        "deposit 1: it has another hash than in the anchor: something up to there was rewritten"
    ]


def printed(heads: list[Head]) -> bytes:
    findings: list[dict[str, Any]] = [{"invariant": "no_user_twice", "examined": 3}]
    return orjson.dumps([*findings, {"invariant": "chains_unbroken", "heads": heads, "holds": True}])


def test_an_anchor_is_what_the_audit_printed(tmp_path: Path) -> None:
    heads = [Head(0, 12, "ab"), Head(BANK, 3, "cd")]
    (tmp_path / "anchor").write_bytes(printed(heads))
    assert audit_anchor.read(tmp_path / "anchor") == heads


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
        audit_anchor.read(tmp_path / "anchor")
    with pytest.raises(OperatorError, match="cannot be read: No such file"):
        audit_anchor.read(tmp_path / "none")


async def test_the_command_compares_with_what_it_printed_before(
    books: Books, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    servers = {"HONGBAO_REDIS_URL": redis_url, "HONGBAO_DATABASE_URL": database_url}

    async def audit(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(hongbao, "audit", "--data-dir", tmp_path, *words, **servers)

    packet = await books.packet()
    await books.apply(opening(packet), claim(packet, "bob", 0, 5))
    kept = await audit("--json", "--textfile", tmp_path / "audit.prom")
    (tmp_path / "anchor").write_text(kept.stdout)
    metrics = (tmp_path / "audit.prom").read_text()
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
    assert "lane 0, the batch up to change 2: it has another hash than in the anchor" in done.stdout
    said = sentence(await audit("--anchor", tmp_path / "none"))
    assert said == f"The anchor {tmp_path / 'none'} cannot be read: No such file or directory."
    refused = await audit("--json", "--textfile", tmp_path / "no" / "folder")
    assert refused.stderr.startswith(
        f"hongbao: The metrics cannot be written to {tmp_path / 'no' / 'folder'}: No such file"
    )


async def test_many_rows_come_in_many_chunks(books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.audit_streams._CHUNK_BYTES", 200)
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
            await connection.execute(wallet.SQL["create"], user)
            for _ in range(20):
                await connection.execute(wallet.SQL["deposit"], user, 1)

    async with asyncpg.create_pool(database_url, min_size=8, max_size=8) as pool:
        await asyncio.gather(*(one(f"user{number}") for number in range(8)))
        scene = Scene(books=books, pool=pool, full=0, rest=0)
        found = await scene.find()
        assert (found["transfers_unbroken"].examined, found["transfers_unbroken"].problems) == (160, ())
