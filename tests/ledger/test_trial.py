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
from tests.support.scenes import caught_up, changed, persisting, send, settled

ROLE = "half_a_writer"
NOT_NEEDED = ("trial.sql", "kept.sql")
"""The trial itself, and anchors: an audit by a user who may not write keeps none."""
TEXTS = [
    file.read_text(encoding="utf-8")
    for file in files("engine").joinpath("sql").iterdir()
    if file.name.endswith(".sql") and file.name not in NOT_NEEDED
]


def _named(pattern: str) -> set[str]:
    """The tables that a pattern finds in the statements."""
    return {name for text in TEXTS for name in re.findall(pattern, text)}


def test_the_lists_of_tables_are_those_of_the_statements() -> None:
    replaced = _named(r"INSERT INTO (\w+)[^;]*?DO UPDATE")
    assert set(trial.INSERTED) == _named(r"INSERT INTO (\w+)")
    assert set(trial.DELETED) == _named(r"DELETE FROM (\w+)")
    assert set(trial.UPDATED) == _named(r"(?<!DO )UPDATE (?!SET\b|OF\b)([a-z_]+)") | replaced & set(trial.UPDATED)
    assert set(trial.DRAWN) == _named(r"nextval\('(\w+)'\)") | {"transfer_ids"}  # by a column's default
    assert {"profiles", "labels", "day_totals"} <= replaced & set(trial.UPDATED)


@pytest.fixture
async def as_role(settings: Settings, database_url: str) -> AsyncIterator[tuple[Settings, asyncpg.Connection]]:
    """Settings of a user who may do everything, and the owner's connection to change that."""
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {ROLE} LOGIN")
    await owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
    await owner.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    yield changed(settings, database_url=database_url.replace("postgres@", f"{ROLE}@")), owner
    await owner.execute(f"DROP OWNED BY {ROLE}")
    await owner.execute(f"DROP ROLE {ROLE}")
    await owner.close()


async def test_a_user_who_may_do_what_the_docs_name_does_all_of_the_work(
    as_role: tuple[Settings, asyncpg.Connection],
) -> None:
    settings, _ = as_role
    async with Engine.open(changed(settings, alert_large_fen=1)) as engine, persisting(settings):
        sent = await send(engine, count=1)
        await engine.claims.claim(sent.packet_id, "bob")
        await settled(engine, sent.packet_id)
        await caught_up(engine)
        assert await engine.ready() == []
        assert (await engine.alerts.page(after=None, limit=10)).alerts


async def test_what_the_user_may_not_do_is_said_at_the_start(as_role: tuple[Settings, asyncpg.Connection]) -> None:
    settings, owner = as_role
    await owner.execute(f"REVOKE INSERT ON transfers, UPDATE ON accounts FROM {ROLE}".replace(", UPDATE ON", ","))
    await owner.execute(f"REVOKE UPDATE ON accounts FROM {ROLE}")
    await owner.execute(f"REVOKE USAGE ON SEQUENCE wallet_ids FROM {ROLE}")
    lacks = "INSERT on accounts, INSERT on transfers, UPDATE on accounts, USAGE on wallet_ids"
    with pytest.raises(OperatorError, match=f"does not let the user {ROLE} {lacks}: grant it"):
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
