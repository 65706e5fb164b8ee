"""The hash chains over ledger entries outside batches (deposits, sends, withdrawals, ...), per paying account."""

from dataclasses import dataclass, field

import asyncpg

from engine.auditing.spans import Span
from engine.auditing.streams import SQL
from engine.ledger.chain import transfer_hash
from engine.ledger.database import Connection

_GONE_MAX = 100
"""How many hashes of removed entries are kept, so that the walk can continue after them."""


@dataclass(slots=True)
class _Walk:
    account: int | None = None
    stored: bytes | None = None
    expected: bytes | None = None
    head: bytes | None = None
    is_last: bool = True
    gone: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def leave_account(self) -> None:
        """Compare the account's head with the last hash."""
        if self.account is not None and self.is_last and self.head not in (self.stored, self.expected):
            self.problems.append(f"account {self.account}: its last entries were removed, or its head was changed")

    def visit(self, row: asyncpg.Record) -> None:
        """Check one entry and continue after it."""
        name = f"entry {row['transfer_id']}"
        if row["kind"] is None:
            self.problems.append(f"{name} was removed")
            self.gone = [*self.gone, row["stored"]][:_GONE_MAX]
            return
        if row["from_account"] != self.account:
            self.leave_account()
            self.account, self.stored, self.expected = row["from_account"], row["before"], row["before"]
        self.head, self.is_last = row["head"], row["is_last"]
        if row["stored"] is None:
            self.problems.append(f"{name}, a {row['kind']} of {row['amount_fen']} fen, was inserted: it has no hash")
            return
        values = (row["kind"], row["from_account"], row["to_account"], row["amount_fen"], row["at_ms"])
        # An entry after a removed one, or after a rewritten hash, is also right: the cause is reported there.
        befores = (self.stored, self.expected, *self.gone)
        if all(transfer_hash(before, values) != row["stored"] for before in befores):
            self.problems.append(
                f"{name}, a {row['kind']} of {row['amount_fen']} fen: it, or the one before, was changed"
            )
        self.expected, self.stored = transfer_hash(self.stored, values), row["stored"]


async def transfers_unbroken(connection: Connection, span: Span) -> tuple[int, list[str]]:
    """Walk along each account's outgoing entries outside batches. After an anchor they go on from its kept heads."""
    walk, examined = _Walk(), 0
    if span.up_to is None:
        rows = connection.cursor(SQL["transfers"], span.after_id, prefetch=5_000)
    else:
        rows = connection.cursor(SQL["transfers_between"], span.after_id, span.up_to_id, prefetch=5_000)
    async for row in rows:
        examined += 1
        walk.visit(row)
    walk.leave_account()
    if span.after is None and span.up_to is None:
        for row in await connection.fetch(SQL["heads_alone"]):
            walk.problems.append(f"account {row['account_id']}: every entry that its head covers was removed")
    elif span.up_to is None:
        for row in await connection.fetch(SQL["heads_moved"], span.after_id):
            walk.problems.append(f"account {row['account_id']}: its last entries were removed, or its head was changed")
    return examined, walk.problems
