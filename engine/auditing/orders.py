"""The audit of WeChat Pay's calls: each order that is paid has the packet that it says, and no day counts too much."""

from collections.abc import Iterator
from datetime import UTC, datetime

import asyncpg

from engine.auditing.books import SQL, Result, Scope
from engine.calendar.china_time import CHINA
from engine.ledger.database import Connection


async def orders_have_packets(connection: Connection, scope: Scope) -> Result:
    """An order's packet is of its amount, from its account, and paid for once. A payment's user has it, or nothing."""
    problems = [
        f"order {row['number']} of merchant {row['mch_id']} ({row['api']}) is {row['state']}, {wrong}"
        for row in await connection.fetch(SQL["wrong_orders"], scope.numbers)
        for wrong in _wrong(row)
    ]
    problems += [
        f"merchant {row['mch_id']} has counted {row['counted_fen']} fen ({row['api']}) on "
        f"{datetime.fromtimestamp(row['begins_at_ms'] / 1000, UTC).astimezone(CHINA):%Y-%m-%d}, "
        f"its orders of the day are {row['ordered_fen']} fen"
        for row in await connection.fetch(SQL["wrong_order_sums"])
    ]
    return await connection.fetchval(SQL["orders"], scope.numbers), problems


def _wrong(row: asyncpg.Record) -> Iterator[str]:
    packet = f"packet {row['packet_id']}"
    if row["packet_id"] is None:
        yield "but has no packet"
        return
    if row["state"] == "asked":
        yield f"but has {packet}"
    if row["total_fen"] != row["amount_fen"]:
        yield f"and is of {row['amount_fen']} fen, but {packet} is of {row['total_fen']} fen"
    if row["sender"] != row["account"]:
        yield f"and {row['account']} pays, but {packet} is from {row['sender']}"
    if (row["entries"], row["sent_fen"]) != (1, row["amount_fen"]):
        yield f"and is of {row['amount_fen']} fen, but {row['entries']} entries pay {row['sent_fen']} fen for {packet}"
    due_fen = row["amount_fen"] if row["state"] == "given" else 0
    if row["is_settled"] and row["state"] in ("given", "refused") and row["to_user_fen"] != due_fen:
        yield f"but its user has {row['to_user_fen']} fen of {packet}"
