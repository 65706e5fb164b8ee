"""The ledger's record of one transaction: what was applied, and a hash that links it to the transaction before."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine.ledger.chain import Counts, Refund, batch_hash, rows_digest
from engine.ledger.claim_rows import body
from engine.queries import load

SQL = load("ledger")


@dataclass(slots=True)
class Tally:
    """What a transaction has written so far.

    ``quarantined`` counts changes, as the batch does. ``asides`` has one more row per exhaustion that was set aside:
    it belongs to its packet's last claim and is not a change by itself.
    """

    opened: int = 0
    claims: int = 0
    closed: int = 0
    quarantined: int = 0
    ended: list[int] = field(default_factory=list)
    claim_rows: list[bytes] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    asides: list[Sequence[Any]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add a later tally to this one."""
        self.opened += other.opened
        self.claims += other.claims
        self.closed += other.closed
        self.quarantined += other.quarantined
        self.ended += other.ended
        self.claim_rows += other.claim_rows
        self.refunds += other.refunds
        self.asides += other.asides

    def counts(self) -> Counts:
        """The counts as in the batch's row."""
        return Counts(self.opened, self.claims, self.closed, len(self.refunds), self.quarantined)


async def record(
    connection: asyncpg.Connection,
    lane: int,
    tally: Tally,
    *,
    position_before: int,
    position: int,
    previous: bytes | None,
) -> None:
    """Write the batch's row and move the lane's checkpoint to it. ``previous``: the previous batch's hash."""
    counts = tally.counts()
    digest = rows_digest(map(body, tally.claim_rows), tally.refunds, tally.asides)
    hashed = batch_hash(previous, (lane, position, position_before), counts, digest)
    await connection.execute(SQL["record_batch"], lane, position, position_before, *counts, hashed)
    await connection.execute(SQL["move_checkpoint"], lane, position, hashed)
