"""The persister's statements on many packets, in a database whose statistics are of another day.

Postgres learns minutes after a rush has begun how many packets are open. A plan that reads all open packets for each
packet of a batch took a millisecond per packet among ten thousand.
"""

import json
from typing import Any

import asyncpg
import pytest

from engine.ledger.posting import PLANNED, SQL
from tests.support.books import AT_MS, Books

PACKETS = 2_000
ROWS_PER_PACKET_MAX = 12
"""What all steps of a plan read together. A step reads a packet once or twice."""
COPIED = """
    INSERT INTO packets
    SELECT copied.* FROM packets, generate_series($2::bigint, $3::bigint) AS number, jsonb_populate_record(
        NULL::packets,
        to_jsonb(packets) || jsonb_build_object(
            'packet_id', packets.packet_id + number, 'state', $4::text, 'sender', 'sender' || number
        )
    ) AS copied
    WHERE packets.packet_id = $1
"""
CUSTODY = """
    INSERT INTO accounts (account_id, kind)
    SELECT $1::bigint + number, 'custody' FROM generate_series($2::bigint, $3::bigint) AS number
"""
WALLETS = """
    INSERT INTO accounts (account_id, kind, owner)
    SELECT nextval('wallet_ids'), 'wallet', 'sender' || number FROM generate_series(1, $1::bigint) AS number
"""
COUNTED = """
    INSERT INTO day_totals (subject, day, sent_fen)
    SELECT 'user:' || sender, DATE '1970-01-01' + ((created_at_ms + 28800000) / 86400000)::integer, 1
    FROM packets WHERE packet_id = ANY ($1::bigint[])
"""


async def many(books: Books, state: str) -> list[int]:
    """Packets with an empty custody in this state, each of another sender.

    The statistics say that hardly any packet is in it, and that there are hardly any wallets.
    """
    other = {"open": "funded", "funded": "open"}[state]
    first, connection = await books.packet(), books.connection
    await stay_uncollected(connection)
    await connection.execute(COPIED, first, PACKETS + 1, PACKETS + 100, other)
    await connection.execute(CUSTODY, first, PACKETS + 1, PACKETS + 1_000)
    await connection.execute("VACUUM (ANALYZE) packets, accounts")
    await connection.execute(WALLETS, PACKETS)
    return await more(connection, first, state)


async def stay_uncollected(connection: asyncpg.Connection) -> None:
    """Have Postgres collect statistics only when told."""
    for table in ("packets", "accounts"):
        await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = FALSE)")


async def more(connection: asyncpg.Connection, first: int, state: str) -> list[int]:
    """Copies of a packet in this state, and their custody."""
    await connection.execute(COPIED, first, 1, PACKETS, state)
    await connection.execute(CUSTODY, first, 1, PACKETS)
    return [first + number for number in range(1, PACKETS + 1)]


def rows_read(plan: dict[str, Any]) -> float:
    """The rows that a step and the steps below it have read, those they did not keep included."""
    own = sum(count for name, count in plan.items() if name == "Actual Rows" or name.startswith("Rows Removed"))
    return float(own * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", []))))


async def explained(connection: asyncpg.Connection, name: str, values: str) -> dict[str, Any]:
    """The plan of a statement after its execution, which is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"PREPARE statement AS {SQL[name]}")
        told = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE statement ({values})")
    finally:
        await connection.execute("DEALLOCATE ALL")
        await transaction.rollback()
    plan: dict[str, Any] = json.loads(told)[0]["Plan"]
    return plan


@pytest.mark.parametrize("before", [0, 2, 5])
async def test_a_plan_of_the_first_packets_is_not_kept(books: Books, database_url: str, before: int) -> None:
    """Somebody collects statistics of a nearly empty ledger while a persister is connected, and then a rush comes."""
    first = await books.packet()
    for _ in range(before):
        await books.packet()
    await stay_uncollected(books.connection)
    await books.connection.execute("VACUUM (ANALYZE) packets, accounts")
    connection = await asyncpg.connect(database_url, server_settings=PLANNED)
    try:
        await connection.execute(f"PREPARE statement AS {SQL['end_packets']}")
        for _ in range(10):
            await connection.execute(
                f"EXECUTE statement ('{{{first}}}', '{{expired}}', '{{0}}', '{{0}}', '{{{AT_MS}}}')"
            )
        packets = await more(books.connection, first, "open")
        columns: list[list[object]] = [
            [*packets],
            ["exhausted"] * PACKETS,
            [0] * PACKETS,
            [0] * PACKETS,
            [AT_MS] * PACKETS,
        ]
        values = ", ".join(f"'{{{','.join(map(str, column))}}}'" for column in columns)
        told = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE statement ({values})")
    finally:
        await connection.close()
    plan: dict[str, Any] = json.loads(told)[0]["Plan"]
    assert plan["Plans"][0]["Actual Rows"] == PACKETS
    assert rows_read(plan) <= ROWS_PER_PACKET_MAX * PACKETS, json.dumps(plan, indent=1)


@pytest.mark.parametrize("cache", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("open_packets", "funded"),
        ("end_packets", "open"),
        ("senders", "open"),
        ("uncount_packets", "open"),
        ("move_balances", "open"),
        ("assets", "open"),
        ("wallets", "open"),
    ],
)
async def test_many_packets_cost_no_more_each_than_few(
    books: Books, database_url: str, name: str, state: str, cache: str
) -> None:
    packets = await many(books, state)
    await books.connection.execute(COUNTED, packets)
    values: list[list[object]] = [[*packets]]
    if name == "end_packets":
        values += [["exhausted"] * PACKETS, [0] * PACKETS, [0] * PACKETS, [AT_MS] * PACKETS]
    if name == "move_balances":
        values += [[1] * PACKETS]
    if name == "wallets":
        values = [[f"sender{number}" for number in range(1, PACKETS + 1)]]
    connection = await asyncpg.connect(database_url, server_settings={**PLANNED, "plan_cache_mode": cache})
    try:
        arrays = ", ".join(f"'{{{','.join(map(str, column))}}}'" for column in values)
        plan = await explained(connection, name, arrays)
    finally:
        await connection.close()
    done = plan["Plans"][0] if plan["Node Type"] == "ModifyTable" else plan
    assert done["Actual Rows"] == PACKETS
    assert rows_read(plan) <= ROWS_PER_PACKET_MAX * PACKETS, json.dumps(plan, indent=1)
