"""What a process must be allowed to write is asked before it starts."""

import re
from collections.abc import AsyncIterator
from importlib.resources import files

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import OperatorError
from engine.ledger import trial
from engine.settings import Settings
from tests.support.scenes import changed

ROLE = "half_a_writer"
TEXTS = [
    file.read_text(encoding="utf-8")
    for file in files("engine").joinpath("sql").iterdir()
    if file.name.endswith(".sql") and file.name != "trial.sql"
]


def _named(pattern: str) -> set[str]:
    """The tables that a pattern finds in the statements."""
    return {name for text in TEXTS for name in re.findall(pattern, text)}


def test_the_lists_of_tables_are_those_of_the_statements() -> None:
    replaced = _named(r"INSERT INTO (\w+)[^;]*?DO UPDATE")
    assert set(trial.INSERTED) == _named(r"INSERT INTO (\w+)")
    assert set(trial.DELETED) == _named(r"DELETE FROM (\w+)")
    assert set(trial.UPDATED) == _named(r"(?<!DO )UPDATE (?!SET\b|OF\b)([a-z_]+)") | replaced & set(trial.UPDATED)
    assert {"profiles", "labels", "day_totals"} <= replaced & set(trial.UPDATED)


@pytest.fixture
async def as_role(settings: Settings, database_url: str) -> AsyncIterator[tuple[Settings, asyncpg.Connection]]:
    """Settings of a user who may do everything, and the owner's connection to change that."""
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {ROLE} LOGIN")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    yield changed(settings, database_url=database_url.replace("postgres@", f"{ROLE}@")), owner
    await owner.execute(f"DROP OWNED BY {ROLE}")
    await owner.execute(f"DROP ROLE {ROLE}")
    await owner.close()


async def test_a_user_who_may_write_all_tables_starts(as_role: tuple[Settings, asyncpg.Connection]) -> None:
    async with Engine.open(as_role[0]) as engine:
        assert await engine.ready() == []


async def test_what_the_user_may_not_do_is_said_at_the_start(as_role: tuple[Settings, asyncpg.Connection]) -> None:
    settings, owner = as_role
    await owner.execute(f"REVOKE INSERT ON transfers, UPDATE ON accounts FROM {ROLE}".replace(", UPDATE ON", ","))
    await owner.execute(f"REVOKE UPDATE ON accounts FROM {ROLE}")
    with pytest.raises(OperatorError, match="INSERT on accounts, UPDATE on accounts, INSERT on transfers: grant it"):
        async with Engine.open(settings):
            pass


async def test_a_database_that_takes_no_writes_is_said_at_the_start_and_later(
    as_role: tuple[Settings, asyncpg.Connection],
) -> None:
    settings, owner = as_role
    async with Engine.open(settings) as engine:
        await owner.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
        await engine.pool.expire_connections()
        (reason,) = await engine.ready()
        assert reason.startswith("Postgres takes no writes:")
    with pytest.raises(OperatorError, match="Postgres takes no writes: set default_transaction_read_only off"):
        async with Engine.open(settings):
            pass
