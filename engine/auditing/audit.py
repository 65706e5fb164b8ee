"""The audit: examines every invariant of the books on running servers, and reports what breaks it.

The ledger's own invariants are read in one snapshot. For those between Redis and the ledger, the order of reading
matters: moving money is seen in at least one of the two. So a busy system raises no false alarm.

An audit walks all history, or goes on from the anchor that the last one has kept (``engine.auditing.kept``).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import asyncpg

from engine.access.keyring import Keyring
from engine.auditing import books, cards, coupons, fundraisers, kept, lanes, operator_log, orders, withdrawals
from engine.auditing.anchors import Head
from engine.auditing.chains import Chains, anchor_holds, unbroken
from engine.auditing.findings import PROBLEMS_MAX, Finding, finding
from engine.auditing.kept import Draft, Kept, Part
from engine.auditing.snapshots import Pair, Snapshot
from engine.auditing.spans import ALL, Cut, LaneEnd, Span
from engine.errors import UnavailableError
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.database import Connection, ledger_errors

__all__ = ["PROBLEMS_MAX", "Audited", "Finding", "Plan", "audit", "audit_on", "chains"]

Told = Callable[[str, int, int], None]
"""Called when a piece of work is done: its name, how many are done, and the total."""
_Piece = Callable[[Pair], Awaitable[books.Result]]
_LEDGER_CHECKS: list[tuple[str, str, books.Check]] = [
    ("balances_sum_to_zero", "all balances sum to zero", books.balances_sum_to_zero),
    ("assets_stay_apart", "no entry is between two assets", books.assets_stay_apart),
    ("balances_equal_transfers", "each balance is the sum of its entries", books.balances_equal_transfers),
    ("packets_add_up", "each packet's total is its claims, its refund and its custody", books.packets_add_up),
    ("no_user_twice", "no user has two shares of a packet", books.no_user_twice),
    ("no_slot_twice", "no share was given twice", books.no_slot_twice),
    ("shares_as_split", "each claim is the share its packet's seed gives that slot", books.shares_as_split),
    ("events_applied", "every event up to the checkpoint is in the ledger", books.events_applied),
    ("nothing_quarantined", "no quarantined change is pending", books.nothing_quarantined),
    ("coupons_match_holdings", "each user has as many units of a batch as coupons", coupons.coupons_match_holdings),
    ("coupon_batches_add_up", "each coupon of a batch is in one place", coupons.coupon_batches_add_up),
    ("cards_add_up", "each card is there as often as published, and each pool is shared", cards.cards_add_up),
    ("operator_log_unbroken", "each row of the operator log has its own hash", operator_log.operator_log_unbroken),
    ("withdrawals_add_up", "each withdrawal is held, paid or returned", withdrawals.withdrawals_add_up),
    (
        "fundraisers_add_up",
        "each fund holds what its gifts and matches say, or nothing",
        fundraisers.fundraisers_add_up,
    ),
    ("orders_have_packets", "each paid order of WeChat Pay's calls has its packet", orders.orders_have_packets),
]
_STREAM = ("stream_continues_ledger", "each event stream continues from the ledger's checkpoint")
_REDIS = ("redis_agrees", "Redis and the ledger agree on shares given and shares left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to audit.

    - ``anchor``: heads from an earlier audit. Each must still be in its chain.
    - ``is_full``: all history is walked, also if there is a kept anchor.
    - ``is_anew``: this too, and the kept anchors count for nothing.
    - ``jobs``: how much is read at once, on two connections each.
    - ``retention_ms``: how long Redis keeps a packet that is settled.
    """

    anchor: Sequence[Head] | None = None
    is_full: bool = False
    is_anew: bool = False
    jobs: int = 1
    retention_ms: int = 0
    told: Told = field(default=lambda _name, _done, _total: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An audit's findings. ``scope``: a sentence about what was examined.

    - ``is_on``: it went on from the last anchor.
    - ``is_doubtful``: it did not because nothing tells whether that anchor is genuine. ``scope`` says so.
    - ``not_kept``: why no anchor was kept although nothing is wrong.
    """

    findings: list[Finding]
    scope: str
    is_on: bool
    is_doubtful: bool
    not_kept: str | None


@dataclass(slots=True, kw_only=True)
class _Start:
    """Where an audit begins. ``newest``: the last anchor. ``trusted``: the same, if it counts.

    ``is_on``: the audit goes on from there. ``why``: why it does not.
    """

    newest: Kept | None = None
    trusted: Kept | None = None
    is_on: bool = False
    why: str = ""
    problems: list[str] = field(default_factory=list)
    again: Part | None = None

    @property
    def span(self) -> Span:
        """The part of history that is examined."""
        return Span(after=self.trusted.cut) if self.trusted is not None and self.is_on else ALL

    @property
    def scope(self) -> str:
        """What is examined, as a sentence."""
        if self.trusted is None or not self.is_on:
            return f"All history is examined{self.why}."
        again = "" if self.again is None else f" The part up to {self.again.last.name} is walked once more."
        first = f"from entry {self.trusted.cut.transfer_id + 1:,} on"
        return f"What came after {self.trusted.name} is examined, {first}.{again}"


async def audit(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, anchor: Sequence[Head] | None = None
) -> list[Finding]:
    """Examine every invariant in all history. Raises UnavailableError if Redis or Postgres does not answer.

    ``anchor``: heads from an earlier audit. Each must still be in its chain. No anchor is read from the ledger or kept.
    """
    work = _Work(Plan(anchor=anchor))
    with ledger_errors():
        async with Snapshot.open(pool) as snapshot:
            findings = await work.ledger(snapshot, _Start())
        return findings + await work.redis(pool, store, stream, None)


async def audit_on(
    pool: asyncpg.Pool, store: LaneReader, stream: EventStream, keyring: Keyring | None, plan: Plan
) -> Audited:
    """Go on from the anchor that the last clean audit has kept, and keep the next one if nothing is wrong.

    ``keyring`` None: there is no secret to sign with, so no anchor is trusted or kept. Raises UnavailableError if Redis
    or Postgres does not answer. ``pool`` must have two connections per job.
    """
    work, draft = _Work(plan), None
    with ledger_errors():
        cut_id, not_kept = await _cut_id(pool, keyring)
        async with Snapshot.open(pool, plan.jobs) as snapshot:
            start = await _start(snapshot.connection, keyring, plan)
            at_ms = await kept.now_ms(snapshot.connection)
            findings = await work.ledger(snapshot, start)
            trusted = start.trusted
            if cut_id is not None and trusted is not None and cut_id < trusted.cut.transfer_id:
                cut_id, not_kept = None, _MEANWHILE
            if cut_id is not None and all(finding.holds for finding in findings):
                draft = await _draft(snapshot.connection, start, cut_id, at_ms)
        after_ms = trusted.at_ms - plan.retention_ms - _CLOCK_MS if trusted is not None and start.is_on else None
        findings += await work.redis(pool, store, stream, after_ms)
    is_clean = all(finding.holds for finding in findings)
    if draft is not None and keyring is not None and is_clean:
        try:
            not_kept = None if await kept.keep(pool, keyring, draft) else _MEANWHILE
        except UnavailableError as error:
            not_kept = str(error)
    return Audited(
        findings=findings,
        scope=start.scope,
        is_on=start.is_on,
        is_doubtful=start.newest is not None and start.newest.is_genuine is None and not plan.is_anew,
        not_kept=not_kept if is_clean else None,
    )


_MEANWHILE = "another audit has kept one meanwhile"
_CLOCK_MS = 3_600_000
"""Far more than clocks differ."""


async def _cut_id(pool: asyncpg.Pool, keyring: Keyring | None) -> tuple[int | None, str | None]:
    """The last entry that an anchor may cover. None, and why, if none can be kept."""
    if keyring is None:
        return None, "there is no secret to sign it with"
    if not await kept.may_keep(pool):
        return None, "this user of Postgres may not write"
    cut_id = await kept.cut_id(pool)
    return cut_id, None if cut_id is not None else "a transaction in Postgres has been open for too long"


async def _start(connection: Connection, keyring: Keyring | None, plan: Plan) -> _Start:
    """Read the last anchor and decide where to begin."""
    newest = await kept.newest(connection, keyring)
    if plan.is_anew:
        return _Start(newest=newest)
    if newest is None:
        return _Start(why="" if plan.is_full else ", because no anchor is kept yet")
    if newest.is_genuine is None:
        why = "the secret that signed it is not in force" if keyring else "there is no secret to check it with"
        return _Start(newest=newest, why=f", because the last anchor does not count: {why}")
    if not newest.is_genuine:
        forged = [f"{newest.name}: its anchor was changed or forged"]
        return _Start(newest=newest, why=", because the last anchor is not as it was kept", problems=forged)
    problems = await kept.contradictions(connection, newest)
    again = None if problems or plan.is_full else await kept.part_to_walk(connection, keyring)
    if again is not None:
        problems = again.forged
    if problems:
        why = ", because a kept anchor does not hold"
        return _Start(newest=newest, trusted=newest, why=why, problems=problems)
    return _Start(newest=newest, trusted=newest, is_on=not plan.is_full, again=again)


async def _draft(connection: Connection, start: _Start, cut_id: int, at_ms: int) -> Draft:
    """The anchor that is kept if Redis agrees."""
    ends = {
        row["lane"]: LaneEnd(
            position=row["position"], hash=row["hash"], opened=int(row["opened"]), closed=int(row["closed"])
        )
        for row in await books.applied(connection, start.span)
    }
    last = max(cut_id, await kept.last_transfer(connection))
    return await kept.draft(
        connection,
        at_ms=at_ms,
        cut=Cut(transfer_id=cut_id, last_transfer_id=last, lanes=ends),
        start=start.trusted,
        newest_id=None if start.newest is None else start.newest.audit_id,
        is_full=not start.is_on,
        walked_again=None if start.again is None else start.again.last.audit_id,
    )


class _Work:
    """One audit's pieces of work."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._done, self._total = 0, len(_LEDGER_CHECKS) + 2

    async def ledger(self, snapshot: Snapshot, start: _Start) -> list[Finding]:
        """Examine the ledger's own invariants in one snapshot."""
        connection, trusted = snapshot.connection, start.trusted
        again = None if start.again is None else start.again.span
        scope = await books.scope_of(connection, start.span, again, 0 if trusted is None else trusted.at_ms)
        walk = await Chains.of(snapshot, start.span, start.again)
        groups: list[_Piece] = [partial(walk.lanes, number=number) for number in range(walk.group_count)]
        lanes: list[_Piece] = [*groups, walk.lanes_again, walk.strays]
        accounts: list[_Piece] = [walk.accounts, walk.accounts_again]
        pieces = [
            *(self._piece("the lanes' chains", piece) for piece in lanes),
            *(self._piece("the accounts' chains", piece) for piece in accounts),
            *(self._piece(statement, partial(_checked, check, scope)) for _, statement, check in _LEDGER_CHECKS),
        ]
        self._total += len(lanes) + len(accounts)
        results = await snapshot.do(pieces)
        chained = len(lanes) + len(accounts)
        findings = [
            finding(name, statement, *result)
            for (name, statement, _), result in zip(_LEDGER_CHECKS, results[chained:], strict=True)
        ]
        findings += await unbroken(connection, results[: len(lanes)], results[len(lanes) : chained])
        findings += await self._anchor_holds(connection, start)
        return findings

    async def _anchor_holds(self, connection: Connection, start: _Start) -> list[Finding]:
        """The finding about the anchors, if there is one that counts: the kept one, or the plan's."""
        if self._plan.anchor is None and start.trusted is None and not start.problems:
            return []
        kept_heads = [] if start.trusted is None else start.trusted.heads
        return [await anchor_holds(connection, [*(self._plan.anchor or ()), *kept_heads], start.problems)]

    async def redis(
        self, pool: asyncpg.Pool, store: LaneReader, stream: EventStream, settled_after_ms: int | None
    ) -> list[Finding]:
        """Examine the invariants between Redis and the ledger."""
        findings = [finding(*_STREAM, *await lanes.stream_continues_ledger(pool, store, stream))]
        self._tell(_STREAM[1])
        findings.append(finding(*_REDIS, *await lanes.agrees(pool, store, stream, settled_after_ms)))
        self._tell(_REDIS[1])
        return findings

    def _piece(self, name: str, piece: _Piece) -> _Piece:
        async def told(pair: Pair) -> books.Result:
            result = await piece(pair)
            self._tell(name)
            return result

        return told

    def _tell(self, name: str) -> None:
        self._done += 1
        self._plan.told(name, self._done, self._total)


async def _checked(check: books.Check, scope: books.Scope, pair: Pair) -> books.Result:
    return await check(pair.connection, scope)


async def chains(pool: asyncpg.Pool, connection: Connection, anchor: Sequence[Head] | None) -> list[Finding]:
    """Walk along all hash chains in the snapshot of ``connection``, and compare them with the anchor, if given.

    ``connection``: in a repeatable-read transaction. Raises asyncpg's errors.
    """
    async with Snapshot.of(pool, connection) as snapshot:
        walk = await Chains.of(snapshot, ALL)
        pair = snapshot.pairs[0]
        results = [await walk.lanes(pair, number) for number in range(walk.group_count)]
        findings = await unbroken(connection, [*results, await walk.strays(pair)], [await walk.accounts(pair)])
    return findings if anchor is None else [*findings, await anchor_holds(connection, anchor)]
