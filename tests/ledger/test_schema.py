"""Migrations, and the SQL blocks held against the schema they make."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import orjson
import pytest

import engine
from engine import queries
from engine.errors import OperatorError
from engine.ledger import schema
from engine.queries import load
from engine.settings import Settings
from engine.wallets.wallets import Wallets
from tests.support.waiting import wait_until

FOLDER = Path(engine.__file__).parent
LATEST = schema.migrations()[-1][0]
BLOCKS = sorted((file.stem, name) for file in FOLDER.glob("sql/*.sql") for name in queries.load(file.stem))


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the database without tables."""
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [version for version, _ in schema.migrations()] == list(range(1, LATEST + 1))


async def test_an_empty_database_is_migrated_and_then_there_is_nothing_to_do(empty_database_url: str) -> None:
    assert await schema.migrate(empty_database_url) == list(range(1, LATEST + 1))
    await schema.check(empty_database_url)
    assert await schema.migrate(empty_database_url) == []


async def test_two_migrations_at_once_apply_each_version_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(schema.migrate(empty_database_url) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, LATEST]
    await schema.check(empty_database_url)


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database_url: str, empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*schema.migrations(), (LATEST + 1, "CREATE TABLE half_made (); SELECT 1 / 0")]
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await schema.migrate(empty_database_url)
    assert await empty.fetchval("SELECT to_regclass('half_made')") is None
    assert await empty.fetchval("SELECT max(version) FROM schema_versions") == LATEST


async def test_a_migration_may_take_longer_than_a_statement(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reads every entry that there is."""
    monkeypatch.setattr(schema, "migrations", lambda: [(1, "SELECT pg_sleep(1.5)")])
    monkeypatch.setattr("engine.ledger.database.STATEMENT_S_MAX", 1)
    assert await schema.migrate(empty_database_url) == [1]


async def test_a_newer_database_is_refused_and_left_alone(empty_database_url: str, empty: asyncpg.Connection) -> None:
    await schema.migrate(empty_database_url)
    await empty.execute("INSERT INTO schema_versions VALUES ($1)", LATEST + 1)
    sentence = f"schema is version {LATEST + 1}, newer than this release's {LATEST}: upgrade hongbao"
    with pytest.raises(OperatorError, match=sentence):
        await schema.migrate(empty_database_url)
    with pytest.raises(OperatorError, match=sentence):
        await schema.check(empty_database_url)


async def test_check_names_the_command_for_an_empty_and_for_an_old_database(
    empty_database_url: str, empty: asyncpg.Connection
) -> None:
    with pytest.raises(OperatorError, match="run `hongbao migrate`"):
        await schema.check(empty_database_url)
    await schema.migrate(empty_database_url)
    await empty.execute("DELETE FROM schema_versions WHERE version = $1", LATEST)
    with pytest.raises(OperatorError, match="run `hongbao migrate`"):
        await schema.check(empty_database_url)


async def test_a_day_s_limit_that_was_a_freeze_is_one_no_more(
    empty_database_url: str, empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [migration for migration in schema.migrations() if migration[0] < 13]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: before)
        await schema.migrate(empty_database_url)
    rows = [
        ("bob", "receiving", "the limit of 1000 fen a day is reached", "rule:day_received", 2**50),
        ("eve", "receiving", "the limit of 500 fen a day is reached", "rule:day_received", 2**50),
        ("eve", "account", "odd", "root", None),
        ("mallory", "sending", "5 taken back", "rule:take_backs", 2**50),
    ]
    insert = (
        "INSERT INTO freezes (user_id, scope, reason, frozen_by, until_ms, frozen_at_ms) VALUES ($1, $2, $3, $4, $5, 7)"
    )
    await empty.executemany(insert, rows)
    await empty.execute("INSERT INTO freeze_changes (user_id, is_frozen) VALUES ('bob', TRUE), ('eve', TRUE)")
    await schema.migrate(empty_database_url)
    found = await empty.fetch(
        "SELECT user_id, is_reached, limit_fen, at_ms, until_ms FROM limits_reached ORDER BY user_id"
    )
    assert [tuple(row) for row in found] == [("bob", True, 1_000, 7, 2**50), ("eve", True, 500, 7, 2**50)]
    held = await empty.fetch("SELECT user_id, scope FROM freezes WHERE lifted_at_ms IS NULL ORDER BY user_id")
    assert [tuple(row) for row in held] == [("eve", "account"), ("mallory", "sending")]
    changes = await empty.fetch("SELECT user_id, is_frozen FROM freeze_changes ORDER BY change_id OFFSET 2")
    assert [tuple(row) for row in changes] == [("bob", False)]  # every lane is told of this


async def test_what_a_migration_lifts_has_its_number_after_a_freeze_that_is_made_meanwhile(
    empty_database_url: str, empty: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of the former release run beside it. A lane that has a change never asks for smaller numbers."""
    before = [migration for migration in schema.migrations() if migration[0] < 13]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: before)
        await schema.migrate(empty_database_url)
    insert = (
        "INSERT INTO freezes (user_id, scope, reason, frozen_by, until_ms, frozen_at_ms) VALUES ($1, $2, $3, $4, $5, 7)"
    )
    reason = "the limit of 1000 fen a day is reached"
    await empty.execute(insert, "bob", "receiving", reason, "rule:day_received", 2**50)
    await empty.execute("INSERT INTO freeze_changes (user_id, is_frozen) VALUES ('bob', TRUE)")
    freezing = await asyncpg.connect(empty_database_url)
    try:
        transaction = freezing.transaction()
        await transaction.start()
        await freezing.execute(load("freezes")["take_turns"])
        await freezing.execute(insert, "carol", "account", "odd", "root", None)
        migrating = asyncio.create_task(schema.migrate(empty_database_url))

        async def is_waiting() -> bool:
            waits = "datname = current_database() AND wait_event_type = 'Lock'"
            return bool(await empty.fetchval(f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {waits})"))

        await wait_until(is_waiting, timeout_s=10, what="the migration waiting for the freeze")
        await freezing.execute("INSERT INTO freeze_changes (user_id, is_frozen) VALUES ('carol', TRUE)")
        await transaction.commit()
        await migrating
    finally:
        await freezing.close()
    changes = await empty.fetch("SELECT user_id, is_frozen FROM freeze_changes ORDER BY change_id OFFSET 1")
    assert [tuple(row) for row in changes] == [("carol", True), ("bob", False)]


async def test_keys_of_deposits_become_their_wallets_and_keep_their_answers(
    empty_database_url: str, empty: asyncpg.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        known = schema.migrations()
        before.setattr(schema, "migrations", lambda: [each for each in known if each[0] < 7])
        await schema.migrate(empty_database_url)
    rows = [
        ("root", "alice", "key-1", b"1", 100, 1_000),
        ("other", "alice", "key-1", b"1", 101, 2_000),  # the same once more, by another admin
        ("root", "bob", "key-2", b"2", 102, 3_000),
        ("alice", "bob", "key-1", b"3", 103, 4_000),  # an admin who is called as a wallet's owner
    ]
    for principal, user_id, key, request_hash, transfer_id, at_ms in rows:
        answer = {"transfer_id": str(transfer_id), "user_id": user_id, "amount_fen": 5, "balance_fen": 5}
        values = (principal, key, request_hash, orjson.dumps(answer).decode(), at_ms)
        await empty.execute("INSERT INTO idempotency VALUES ($1, 'deposit', $2, $3, $4, $5)", *values)
    await schema.migrate(empty_database_url)
    async with asyncpg.create_pool(empty_database_url, min_size=1, max_size=2) as pool:
        wallets = Wallets(pool, settings)
        for user_id, key, request_hash, first in (
            ("alice", "key-1", b"1", "100"),
            ("bob", "key-2", b"2", "102"),
            ("bob", "key-1", b"3", "103"),
        ):
            again = await wallets.deposit(user_id, 5, idempotency_key=key, request_hash=request_hash)
            assert (again.transfer_id, again.replayed) == (first, True)
        assert await empty.fetchval("SELECT count(*) FROM idempotency") == 3
        assert not (await wallets.deposit("alice", 5, idempotency_key="key-2", request_hash=b"2")).replayed


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://localhost/x", "must begin with postgresql://"),
        ("postgresql://127.0.0.1:1/x", "Postgres does not answer"),
    ],
)
async def test_an_unreachable_database_is_an_operators_mistake(url: str, sentence: str) -> None:
    for action in (schema.migrate, schema.check):
        with pytest.raises(OperatorError, match=sentence):
            await action(url)


async def test_every_sql_block_fits_the_schema(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    wrong = {}
    for file, name in BLOCKS:
        try:
            await connection.prepare(queries.load(file)[name])
        except asyncpg.PostgresError as error:
            wrong[f"{file}.sql: {name}"] = str(error)
    await connection.close()
    assert wrong == {}


def test_every_sql_block_is_used_by_a_module_that_loads_its_file() -> None:
    sources = [path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")]
    # A module loads one file, or takes SQL from the one that does.
    takers = [source for source in sources if "import SQL" in source]
    readers = {file: [source for source in sources if f'load("{file}")' in source] for file, _ in BLOCKS}
    for file, name in BLOCKS:
        assert any(f'SQL["{name}"]' in source for source in readers[file] + takers), f"{file}.sql: nobody uses {name}"


def test_every_sql_block_that_is_asked_for_is_there() -> None:
    names = {name for _, name in BLOCKS}
    asked = {name for path in FOLDER.rglob("*.py") for name in re.findall(r'SQL\["(\w+)"\]', path.read_text("utf-8"))}
    assert asked - names == set()
