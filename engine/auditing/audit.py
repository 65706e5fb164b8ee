"""The audit: examines every invariant of the books on running servers, and reports what breaks it.

The ledger's own invariants are read in one snapshot. For those between Redis and the ledger, the order of reading
matters: moving money is seen in at least one of the two. So a busy system raises no false alarm.
"""

import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from engine.auditing import account_chains, anchors, books, hash_chain, lanes, withdrawals
from engine.auditing.anchors import Head
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import Connection, ledger_errors

PROBLEMS_MAX = 10
"""How many problems of one invariant are reported. The others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One invariant: its statement, how much was examined, and what breaks it (empty: it holds).

    ``heads``, only for ``chains_unbroken``: the ends of the chains, to be kept elsewhere (`audit --anchor`).
    """

    invariant: str
    statement: str
    examined: int
    problems: tuple[str, ...]
    more: int
    heads: tuple[Head, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the invariant holds."""
        return not self.problems

    def line(self) -> str:
        """The finding as a line for people."""
        return f"{'ok    ' if self.holds else 'FAILED'} {self.statement} ({self.examined:,} examined)"


async def audit(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, anchor: Sequence[Head] | None = None
) -> list[Finding]:
    """Examine every invariant. Raises UnavailableError if Redis or Postgres does not answer.

    ``anchor``: heads from an earlier audit. Each must still be in its chain.
    """
    findings = []
    with ledger_errors():
        async with _snapshot(pool) as connection:
            packets = await books.read_packets(connection)
            for name, statement, check in _LEDGER_CHECKS:
                examined, problems = await check(connection, packets)
                findings.append(_finding(name, statement, examined, problems))
            findings += await chains(pool, connection, anchor)
        for name, statement, redis_check in _REDIS_CHECKS:
            examined, problems = await redis_check(pool, store, stream)
            findings.append(_finding(name, statement, examined, problems))
    return findings


_LEDGER_CHECKS: list[tuple[str, str, books.Check]] = [
    ("balances_sum_to_zero", "all balances sum to zero", books.balances_sum_to_zero),
    ("balances_equal_transfers", "each balance is the sum of its entries", books.balances_equal_transfers),
    ("packets_add_up", "each packet's total is its claims, its refund and its custody", books.packets_add_up),
    ("no_user_twice", "no user has two shares of a packet", books.no_user_twice),
    ("no_slot_twice", "no share was given twice", books.no_slot_twice),
    ("shares_as_split", "each claim is the share its packet's seed gives that slot", books.shares_as_split),
    ("events_applied", "every event up to the checkpoint is in the ledger", books.events_applied),
    ("nothing_quarantined", "no quarantined change is pending", books.nothing_quarantined),
    ("withdrawals_add_up", "each withdrawal is held, paid or returned", withdrawals.withdrawals_add_up),
]
_REDIS_CHECKS: list[tuple[str, str, lanes.Check]] = [
    (
        "stream_continues_ledger",
        "each event stream continues from the ledger's checkpoint",
        lanes.stream_continues_ledger,
    ),
    ("redis_agrees", "Redis and the ledger agree on shares given and shares left", lanes.agrees),
]


async def chains(pool: asyncpg.Pool, connection: Connection, anchor: Sequence[Head] | None) -> list[Finding]:
    """Walk along the hash chains in the snapshot of ``connection``, and compare them with the anchor, if given.

    ``connection``: in a repeatable-read transaction. Raises asyncpg's errors.
    """
    async with _same_snapshot(pool, connection) as copying:
        examined, problems = await hash_chain.lanes_unbroken(connection, copying)
    heads = tuple(await anchors.heads(connection))
    statement = f"each batch's hash covers its rows and the batch before{await hash_chain.begins(connection)}"
    findings = [_finding("chains_unbroken", statement, examined, problems, heads)]
    examined, problems = await account_chains.transfers_unbroken(connection)
    statement = "each entry that no batch wrote has its own hash"
    findings.append(_finding("transfers_unbroken", statement, examined, problems))
    if anchor is not None:
        problems = await anchors.contradictions(connection, anchor)
        findings.append(_finding("anchor_holds", "the chains go on from the anchor", len(anchor), problems))
    return findings


@asynccontextmanager
async def _same_snapshot(pool: asyncpg.Pool, connection: Connection) -> AsyncIterator[Connection]:
    """A second connection with the first one's snapshot."""
    snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
    async with _snapshot(pool) as second:
        await second.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        yield second


@asynccontextmanager
async def _snapshot(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


def _finding(
    name: str, statement: str, examined: int, problems: Iterable[str], heads: tuple[Head, ...] = ()
) -> Finding:
    remaining = iter(problems)
    told = tuple(itertools.islice(remaining, PROBLEMS_MAX))
    more = sum(1 for _ in remaining)
    return Finding(invariant=name, statement=statement, examined=examined, problems=told, more=more, heads=heads)
