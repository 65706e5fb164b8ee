"""What the parts of a claim's row cost Postgres: the figures, and a short run."""

import io
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from benchmarks.parts.postgres import AS_IS, PARTS, Part, Sizes, leave_out, lines, measure


def test_a_parts_cost_is_what_it_changes_within_a_round() -> None:
    # The machine halves its speed after the first round.
    rounds = [
        {AS_IS.name: 4.0, "without it": 3.0},
        {AS_IS.name: 8.0, "without it": 6.5},
        {AS_IS.name: 8.0, "without it": 6.0},
    ]
    whole, without = lines(rounds)
    assert whole.split() == ["a", "row,", "as", "it", "is", "8.00", "us", "of", "CPU"]
    assert without.split("  ")[-1].strip() == "-1.50 us (-2.00 to -1.00)"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
async def test_a_part_is_left_out_and_nothing_else(database_url: str, part: Part) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        before = await schema_of(connection)
        await leave_out(connection, part)
        after = await schema_of(connection)
    finally:
        await connection.close()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    indexes = before["indexes"]
    expected = {
        "without any of the four": {"indexes": (indexes, indexes - 4)},
        "without the checks of the table": {"checks": (3, 0)},
        "without the log (unlogged)": {"persistence": (b"p", b"u")},
        "numbers of the sequence 64 at once": {"cache": (1, 64)},
        "wal_compression = on": {"compression": ("off", "pglz")},
    }
    one_index = {} if not part.without else {"indexes": (indexes, indexes - 1)}
    assert changed == expected.get(part.name, one_index)


async def schema_of(connection: asyncpg.Connection) -> dict[str, Any]:
    """What the parts change, of the volume that the rows go to."""
    queries = {
        "indexes": "SELECT count(*) FROM pg_index WHERE indrelid = 'transfers_10'::regclass",
        "checks": "SELECT count(*) FROM pg_constraint WHERE conrelid = 'transfers_10'::regclass AND contype = 'c'",
        "persistence": "SELECT relpersistence FROM pg_class WHERE oid = 'transfers_10'::regclass",
        "cache": "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'transfer_ids'::regclass",
        "compression": "SELECT current_setting('wal_compression')",
    }
    return {name: await connection.fetchval(query) for name, query in queries.items()}


@pytest.mark.long
@pytest.mark.programs("redis-server")
@pytest.mark.usefixtures("quick_tempdir")
def test_every_part_can_be_left_out() -> None:
    said = io.StringIO()
    (used,) = measure(Sizes(rounds=1, batches=1, rows=1_000, wallets=200), Console(file=said, width=200))
    assert list(used) == [part.name for part in PARTS[::-1]]
    assert "of the updates touch no index" in said.getvalue()
