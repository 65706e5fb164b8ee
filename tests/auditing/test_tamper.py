"""Whatever is changed, removed or added in what the ledger has written, the hash chains tell of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import uvloop

from engine.auditing.anchors import BANK
from tests.support.administrator import Administrator
from tests.support.books import Books
from tests.support.copies import copied
from tests.support.tampered import BATCH, CHANGED, CLAIM, COPIED, UNCHECKED, Made, Scene, pool_on


@pytest.fixture(scope="module")
def made(shared_database_url: str, administrator: Administrator) -> Iterator[tuple[Made, Made]]:
    """The scene without an anchor, and with one, each made once."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        second = copied(shared_database_url, administrator)
        with_anchor = runner.run(Made.on(runner.run(second.__aenter__()), anchored=True))
        yield runner.run(Made.on(shared_database_url)), with_anchor
        runner.run(second.__aexit__(None, None, None))


@pytest.fixture
async def scene(made: tuple[Made, Made], administrator: Administrator) -> AsyncIterator[Scene]:
    async with made[0].copied(administrator) as copy:
        yield copy


@pytest.fixture
async def anchored(made: tuple[Made, Made], administrator: Administrator) -> AsyncIterator[Scene]:
    async with made[1].copied(administrator) as copy:
        yield copy


async def test_what_the_ledger_wrote_has_its_hashes(scene: Scene) -> None:
    found = await scene.find()
    assert [finding.problems for finding in found.values()] == [(), ()]
    # Seven claims, a refund and two rows in quarantine in six batches; two deposits and two sends.
    assert (found["chains_unbroken"].examined, found["transfers_unbroken"].examined) == (7 + 1 + 2 + 6, 4)
    last = await scene.pool.fetchval("SELECT max(transfer_id) FROM transfers WHERE kind = 'deposit'")
    assert [(head.lane, head.position) for head in found["chains_unbroken"].heads] == [(0, 12), (BANK, last)]


async def test_a_copy_with_an_anchor_has_nothing_to_tell_either(anchored: Scene) -> None:
    assert await anchored.problems_since() == []


async def test_an_empty_ledger_has_nothing_to_tell(books: Books, database_url: str) -> None:
    async with pool_on(database_url) as pool:
        found = await Scene(books=books, pool=pool, full=0, rest=0).find()
    assert [(finding.examined, finding.problems, finding.heads) for finding in found.values()] == [(0, (), ())] * 2


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
        "a claim at change 13 belongs to no batch",
    ),
    (
        "a claim without a position",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, NULL "
        f"FROM transfers WHERE {CLAIM} = 5",
        "belongs to no batch",
    ),
    (
        "a claim of a lane that is not",
        f"INSERT INTO transfers ({COPIED}) VALUES ('claim', 1099900000000000001, 3, 1, 1, 9, 3)",
        "a claim out of 1099900000000000001 belongs to no batch",
    ),
    (
        "a claim from before the first",
        f"INSERT INTO transfers ({COPIED}) SELECT kind, from_account, 3, 1, at_ms, 9, -5 "
        f"FROM transfers WHERE {CLAIM} = 5",
        "belongs to no batch",
    ),
    (
        "a row in quarantine of a lane that is not",
        "INSERT INTO quarantine (lane, position, packet_id, kind, at_ms, reason) VALUES (77, 2, 1, 'claim', 1, 'x')",
        "a row in quarantine at change 2 belongs to no batch",
    ),
    (
        "a batch of a lane that is not",
        "INSERT INTO batches VALUES (77, 1, 0, 1, 0, 0, 0, 0, sha256('x'))",
        "lane 77: only its batches are there",
    ),
    ("all batches", "DELETE FROM batches", "5 more rows there belong to no batch"),
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
        "a row in quarantine at change 99 belongs to no batch",
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
    ("a deposit", "UPDATE transfers SET amount_fen = 101 WHERE transfer_id = 1", "entry 1, a deposit of 101 fen"),
    ("a deposit that is gone", "DELETE FROM transfers WHERE transfer_id = 1", "entry 1 was removed"),
    (
        "a deposit that is gone with its hash",
        "DELETE FROM transfers WHERE transfer_id = 1; DELETE FROM transfer_hashes WHERE transfer_id = 1",
        "a deposit of 70 fen: it, or the one before, was changed",
    ),
    (
        "the last deposit",
        "DELETE FROM transfers WHERE transfer_id = 3; DELETE FROM transfer_hashes WHERE transfer_id = 3",
        "account 1: its last entries were removed, or its head was changed",
    ),
    (
        "all deposits",
        "DELETE FROM transfers WHERE kind = 'deposit'; DELETE FROM transfer_hashes WHERE transfer_id IN (1, 3)",
        "account 1: every entry that its head covers was removed",
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
    ("a send", "UPDATE transfers SET at_ms = 1 WHERE transfer_id = 2", "entry 2, a send of 100 fen"),
    ("the bank's head", "UPDATE accounts SET hash = sha256('x') WHERE account_id = 1", "account 1: its last entries"),
]


@pytest.mark.parametrize(("statement", "told"), [row[1:] for row in TAMPERINGS], ids=[row[0] for row in TAMPERINGS])
async def test_what_was_tampered_with_is_named(scene: Scene, statement: str, told: str) -> None:
    await scene.sql(statement)
    problems = await scene.problems()
    assert any(told in problem for problem in problems), problems


OTHERWISE = {
    "the first batch": "lane 0, the batch up to change 2: it is in the anchor, and gone from the ledger",
    "all deposits": "4 entries were there, now 2 are",
}
"""What is told of what the anchor covers."""


@pytest.mark.long
@pytest.mark.parametrize(("what", "statement", "told"), TAMPERINGS, ids=[row[0] for row in TAMPERINGS])
async def test_what_was_tampered_with_after_an_anchor_is_named(
    anchored: Scene, what: str, statement: str, told: str
) -> None:
    await anchored.sql(statement)
    told, problems = OTHERWISE.get(what, told), await anchored.problems_since()
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
