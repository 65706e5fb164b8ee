"""The audit of the operator log: no row was changed, removed or added, and no approval was decided past it."""

from engine.auditing.books import SQL, Result, Scope
from engine.ledger.database import Connection
from engine.operators.chain import COLUMNS, row_hash

_ROWS_AT_ONCE = 1_000


async def operator_log_unbroken(connection: Connection, _scope: Scope) -> Result:
    """Each row's hash covers the row and the one before it, the head is the last one's, and each decision is in it."""
    problems, previous, number = [], b"", 0
    async for row in connection.cursor(SQL["operator_log"], prefetch=_ROWS_AT_ONCE):
        values = [row[column] for column in COLUMNS]
        if row["number"] != number + 1:
            gap = f"row {number + 1}" if row["number"] == number + 2 else f"rows {number + 1} to {row['number'] - 1}"
            problems.append(f"the operator log: {gap} is missing before row {row['number']}")
        elif row["hash"] != row_hash(previous, values):
            problems.append(f"the operator log: row {row['number']}, or its hash, was changed")
        number, previous = row["number"], row["hash"]
    head = await connection.fetchrow(SQL["operator_log_head"])
    if head is None or (head["number"], head["hash"]) != (number, previous):
        told = 0 if head is None else head["number"]
        problems.append(f"the operator log: it ends with row {number}, and its head says {told}")
    problems += [
        f"approval {row['approval_id']} is {row['state']} by {row['decided_by']}, who is not in the log with it"
        for row in await connection.fetch(SQL["approvals_past_the_log"])
    ]
    return number, problems
