"""The audit of fund-raising: what a fund holds is what its gifts and matches say, and every entry belongs to one."""

from collections.abc import Iterator

import asyncpg

from engine.auditing.books import SQL, Result, Scope
from engine.ledger.database import Connection


async def fundraisers_add_up(connection: Connection, scope: Scope) -> Result:
    """A gift is held, or it was paid out with all others, or it has gone back. So it is with what was matched."""
    rows = await connection.fetch(SQL["fundraisers"], *scope.ids)
    problems = [
        f"fundraiser {row['fundraiser_id']} is {row['state']}, {wrong}" for row in rows for wrong in _wrong(row)
    ]
    problems += [
        f"match {row['match_id']} of fundraiser {row['fundraiser_id']}: {wrong}"
        for row in await connection.fetch(SQL["matches"], [row["fundraiser_id"] for row in rows])
        for wrong in _wrong_match(row)
    ]
    problems += [
        f"fundraiser {row['fundraiser_id']}: its {row['kind']} of {row['fen']} fen is not what entry "
        f"{row['transfer_id']} says"
        for row in await connection.fetch(SQL["wrong_gifts"], *scope.ids)
    ]
    problems += [
        f"entry {row['transfer_id']}, a {row['kind']} of {row['amount_fen']} fen, belongs to no gift or match"
        for row in await connection.fetch(SQL["stray_gifts"], *scope.ids)
    ]
    problems += [
        f"fund {row['account_id']}, which holds {row['balance_fen']} fen, belongs to no fundraiser"
        for row in await connection.fetch(SQL["stray_funds"])
    ]
    return len(rows), problems


def _wrong(row: asyncpg.Record) -> Iterator[str]:
    for what, told, counted in (
        ("gifts", row["gift_count"], row["gifts"]),
        ("fen of gifts", row["given_fen"], row["gifts_fen"]),
        ("matched fen", row["matched_fen"], row["gifts_matched_fen"]),
        ("matched fen", row["matched_fen"], row["matches_fen"]),
        ("returned gifts", row["returned_count"], row["returned"]),
        ("returned fen", row["returned_fen"], row["back_fen"]),
    ):
        if told != counted:
            yield f"and counts {told} {what}, where its rows have {counted}"
    if row["state"] == "returned" and row["returned"] != row["gifts"]:
        yield f"but {row['gifts'] - row['returned']} gifts are not"
    if row["state"] not in ("returning", "returned") and row["returned"]:
        yield f"but {row['returned']} gifts are returned"
    is_settled = row["state"] in ("paid_out", "returned")
    due_fen = 0 if is_settled else row["gifts_fen"] - row["back_fen"] + row["gifts_matched_fen"]
    if row["held_fen"] != due_fen:
        yield f"and its fund holds {row['held_fen']} fen, it should be {due_fen}"


def _wrong_match(row: asyncpg.Record) -> Iterator[str]:
    if row["matched_fen"] > row["budget_fen"]:
        yield f"it has matched {row['matched_fen']} fen, its budget is {row['budget_fen']}"
    if row["moved_fen"] != row["matched_fen"]:
        yield f"it has matched {row['matched_fen']} fen, {row['moved_fen']} were moved"
    due_fen = 0 if row["settled_at_ms"] is not None else row["budget_fen"] - row["matched_fen"]
    if row["held_fen"] != due_fen:
        yield f"its account holds {row['held_fen']} fen, it should be {due_fen}"
