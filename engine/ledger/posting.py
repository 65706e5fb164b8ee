"""Posts a lane's changes to the double-entry ledger, in order, exactly once. Changes in Redis get in by no other way.

One call is one Postgres transaction. It locks the lane's checkpoint, which must be where the caller expects it. Then it
writes the entries, moves the balances and moves the checkpoint. A crash before the commit leaves nothing, after it all.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import asyncpg
import numpy as np
import orjson

from engine.errors import HongbaoError
from engine.events import Change, Claims, Ending, Opening, Unreadable
from engine.ids import may_be_of_coupons
from engine.ledger import batches
from engine.ledger.batches import Tally
from engine.ledger.chain import Refund
from engine.ledger.claim_rows import COLUMNS, claim_rows, joined, summed
from engine.queries import load
from engine.records import PacketState

SQL = load("ledger")
PLANNED = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
    "plan_cache_mode": "force_custom_plan",
}
"""Planner settings for a connection that calls ``apply``: use indexes, row by row in the given order; plan each time.

Without them, Postgres joins a few thousand accounts by reading the whole table each time, however large it is, and
keeps a plan that it made for the first packets of an empty ledger.
"""
_WALLETS_KNOWN_MAX = 500_000
_PACKETS_KNOWN_MAX = 100_000
_SUM_FEN_MAX = 2**60
"""Far above all money in the ledger (``FEN_MAX``), and low enough for exact 64-bit sums."""
_KIND_NAMES: dict[type[Change], str] = {Claims: "claim", Opening: "opening", Ending: "ending"}


class CheckpointMovedError(HongbaoError):
    """Another persister has applied these changes already: read the checkpoint again."""

    code = "checkpoint_moved"


class RuleBrokenError(HongbaoError):
    """A change does not fit the ledger (its packet is unknown, or not open)."""

    code = "rule_broken"


RULES_BROKEN = (asyncpg.IntegrityConstraintViolationError, asyncpg.NumericValueOutOfRangeError, RuleBrokenError)
"""Errors of a change that the ledger cannot accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one call committed. ``ended``: packets whose end the ledger now has. ``quarantined``: rows set aside."""

    position: int
    claims: int
    ended: list[int]
    quarantined: int


class Ledger:
    """Writes one persister's changes. Remembers the ids of wallets it has seen, and the packets, up to a bound.

    ``_assets``: packet -> its asset, None if it is of the ledger's currency. ``_holdings``: asset -> user -> account.
    """

    def __init__(self) -> None:
        self._wallets: dict[str, int] = {}
        self._assets: dict[int, str | None] = {}
        self._holdings: dict[str, dict[str, int]] = {}

    async def apply(
        self,
        connection: asyncpg.Connection,
        lane: int,
        position_before: int,
        position: int,
        changes: Sequence[Change],
        *,
        lane_token: str | None = None,
        unreadable: Unreadable | None = None,
    ) -> Applied:
        """Apply changes (position_before, position] of a lane, read under this token (``engine.recovery.gate``).

        Raises CheckpointMovedError if the lane's checkpoint is not at position_before, or if its token has changed. A
        change that breaks a rule of the ledger goes into quarantine, and the others are applied. ``unreadable``: the
        last of these changes, if only their number is known. They go into quarantine as one row.
        """
        await self._know_accounts(connection, [change for change in changes if isinstance(change, Claims)])
        tally = Tally()
        async with connection.transaction():
            locked = await connection.fetchrow(SQL["lock_lane"], lane, lane_token)
            if locked is None or locked["position"] != position_before:
                raise CheckpointMovedError(f"Lane {lane} is no longer at {position_before}.")
            if changes:
                await self._write_or_set_aside(connection, lane, changes, tally)
            if unreadable is not None:
                row = (
                    unreadable.position,
                    None,
                    "unreadable",
                    None,
                    None,
                    None,
                    unreadable.at_ms,
                    unreadable.reason,
                    None,
                    None,
                )
                await connection.execute(SQL["set_aside"], lane, *row)
                tally.asides.append(row)
                tally.quarantined += unreadable.changes
            where = {"position_before": position_before, "position": position}
            await batches.record(connection, lane, tally, **where, previous=locked["hash"])
        return Applied(position=position, claims=tally.claims, ended=tally.ended, quarantined=len(tally.asides))

    async def apply_again(self, connection: asyncpg.Connection, change: Change) -> Tally:
        """Apply a change that was set aside before, inside the caller's transaction. The checkpoint stays.

        Raises RuleBrokenError, or Postgres's error for a broken constraint. Then nothing was written.
        """
        if isinstance(change, Claims):
            await self._know_accounts(connection, [change])
        async with connection.transaction():
            return await self._write(connection, [change])

    async def _write_or_set_aside(
        self, connection: asyncpg.Connection, lane: int, changes: Sequence[Change], tally: Tally
    ) -> None:
        """Write all changes. If one breaks a rule, halve them until it is alone, and set it aside."""
        try:
            async with connection.transaction():
                written = await self._write(connection, changes)
        except RULES_BROKEN as error:
            if len(changes) == 1 and isinstance(changes[0], Claims) and len(changes[0].slots) > 1:
                changes = changes[0].halves()
            if len(changes) == 1:
                tally.asides.append(await _set_aside(connection, lane, changes[0], str(error)))
                # An exhaustion belongs to the last claim's change and is not counted again.
                tally.quarantined += not _is_exhaustion(changes[0])
                return
            middle = len(changes) // 2
            await self._write_or_set_aside(connection, lane, changes[:middle], tally)
            await self._write_or_set_aside(connection, lane, changes[middle:], tally)
            return
        tally.add(written)

    async def _write(self, connection: asyncpg.Connection, changes: Sequence[Change]) -> Tally:
        claims = [change for change in changes if isinstance(change, Claims)]
        openings = [change.packet for change in changes if isinstance(change, Opening)]
        endings = [change for change in changes if isinstance(change, Ending)]
        claim_rows = [await self._write_claims(connection, claims)] if claims else []
        refunds = await _write_refunds(connection, [ending for ending in endings if ending.remaining_fen > 0])
        if openings:
            opened = await connection.execute(SQL["open_packets"], openings)
            _expect(opened, len(openings), "the packet is not waiting to be opened")
        if endings:
            await _end_packets(connection, endings)
        return Tally(
            opened=len(openings),
            claims=sum(len(change.slots) for change in claims),
            closed=sum(not _is_exhaustion(ending) for ending in endings),
            ended=[ending.packet for ending in endings],
            claim_rows=claim_rows,
            refunds=refunds,
        )

    async def _write_claims(self, connection: asyncpg.Connection, claims: Sequence[Claims]) -> bytes:
        """Move the balances and write an entry per claim. Returns the rows as they were copied."""
        sizes = [len(change.slots) for change in claims]
        last = np.cumsum(sizes)
        packets = np.array([change.packet for change in claims], dtype=np.int64)
        columns = {
            "from_account": np.repeat(packets, sizes),
            "to_account": np.fromiter(self._accounts(claims), dtype=np.int64, count=last[-1]),
            "amount_fen": joined([change.amounts_fen for change in claims]),
            "at_ms": np.repeat(np.array([change.at_ms for change in claims], dtype=np.int64), sizes),
            "slot": joined([change.slots for change in claims]),
            # A change's position is that of its last claim.
            "position": np.arange(1, last[-1] + 1)
            + np.repeat(np.array([change.position for change in claims], dtype=np.int64) - last, sizes),
        }
        if float(np.abs(columns["amount_fen"]).sum(dtype=np.float64)) > _SUM_FEN_MAX:
            raise RuleBrokenError("its amount is larger than all money in the ledger")
        rows = claim_rows(columns)
        received = summed(columns["to_account"], columns["amount_fen"])
        given = summed(columns["from_account"], -columns["amount_fen"])
        # The balances come first, because this locks the accounts. So an account's entries are numbered in the order in
        # which they are committed. Custody ids are larger than wallet ids, so both lists together are in order.
        await _move(connection, received[0] + given[0], received[1] + given[1])
        await connection.copy_to_table("transfers", source=_once(rows), columns=COLUMNS, format="binary")
        if of_coupons := np.flatnonzero(may_be_of_coupons(packets)).tolist():
            await _give_coupons(connection, [claims[place] for place in of_coupons])
        return rows

    def _accounts(self, claims: Sequence[Claims]) -> Iterator[int]:
        """The account that each claim is paid into. All of them are known."""
        if not self._holdings:
            return map(self._wallets.__getitem__, chain.from_iterable([change.user_ids for change in claims]))
        return chain.from_iterable(
            map(self._of_asset(self._assets.get(change.packet)).__getitem__, change.user_ids) for change in claims
        )

    def _of_asset(self, asset: str | None) -> dict[str, int]:
        return self._wallets if asset is None else self._holdings[asset]

    async def _know_accounts(self, connection: asyncpg.Connection, claims: Sequence[Claims]) -> None:
        """Look up each claim's account. Creates the missing ones (outside the transaction: they hold 0).

        Whoever has an account of another asset also has a wallet: freezes and limits are there.
        """
        await self._know_assets(connection, {change.packet for change in claims})
        known = len(self._wallets) + sum(map(len, self._holdings.values()))
        users = set(chain.from_iterable([change.user_ids for change in claims]))
        if known + 2 * len(users) > _WALLETS_KNOWN_MAX:
            self._wallets.clear()
            self._holdings.clear()
        await _know(connection, self._wallets, users, (SQL["wallets"], SQL["create_wallets"]))
        of_assets: defaultdict[str, set[str]] = defaultdict(set)
        for change in claims:
            if (asset := self._assets.get(change.packet)) is not None:
                of_assets[asset].update(change.user_ids)
        for asset, owners in of_assets.items():
            holdings = self._holdings.setdefault(asset, {})
            await _know(connection, holdings, owners, (SQL["holdings"], SQL["create_holdings"]), asset)

    async def _know_assets(self, connection: asyncpg.Connection, packets: set[int]) -> None:
        """Look up what each packet is of. That never changes. One that the ledger does not have is not remembered."""
        if len(self._assets) + len(packets) > _PACKETS_KNOWN_MAX:
            self._assets.clear()
        if unknown := packets.difference(self._assets):
            rows = await connection.fetch(SQL["assets"], list(unknown))
            self._assets.update({row["packet_id"]: row["asset"] for row in rows})


async def _know(
    connection: asyncpg.Connection, known: dict[str, int], users: set[str], queries: tuple[str, str], *asset: str
) -> None:
    """Add each user's account to ``known``. ``queries``: those that find and that create accounts."""
    unknown = users.difference(known)
    for query in (*queries, queries[0]):  # the last finds those created meanwhile
        if unknown:
            rows = await connection.fetch(query, list(unknown), *asset)
            known.update({row["owner"]: row["account_id"] for row in rows})
            unknown.difference_update(known)


def _is_exhaustion(change: Change) -> bool:
    return isinstance(change, Ending) and change.state is PacketState.EXHAUSTED


def _expect(status: str, rows: int, otherwise: str) -> None:
    """Check how many rows a statement changed, by its status ("UPDATE 3")."""
    if int(status.rpartition(" ")[2]) != rows:
        raise RuleBrokenError(otherwise)


async def _once(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


async def _move(connection: asyncpg.Connection, accounts: list[int], deltas_fen: list[int]) -> None:
    """Change balances. Each account is named once, in the order of ids."""
    moved = await connection.execute(SQL["move_balances"], _array_text(accounts), _array_text(deltas_fen))
    _expect(moved, len(accounts), "it names an account that is not in the ledger")


def _array_text(numbers: list[int]) -> str:
    try:
        return f"{{{orjson.dumps(numbers)[1:-1].decode()}}}"  # a third of the time of str() for each number
    except orjson.JSONEncodeError:  # more than 64 bits
        raise RuleBrokenError("its amount is larger than all money in the ledger") from None


async def _give_coupons(connection: asyncpg.Connection, claims: Sequence[Claims]) -> None:
    """Write down who holds which coupon. Packets that only look as if they were of coupons have no numbers of any."""
    await connection.execute(
        SQL["give_coupons"],
        [change.packet for change in claims for _ in change.slots],
        [slot for change in claims for slot in change.slots],
        [user_id for change in claims for user_id in change.user_ids],
        [change.at_ms for change in claims for _ in change.slots],
    )


async def _write_refunds(connection: asyncpg.Connection, endings: Sequence[Ending]) -> list[Refund]:
    """Refund the unclaimed amounts to the senders."""
    if not endings:
        return []
    found = await connection.fetch(SQL["senders"], [ending.packet for ending in endings])
    senders = {row["packet_id"]: row["account_id"] for row in found}
    deltas: defaultdict[int, int] = defaultdict(int)
    refunds = []
    for ending in endings:
        if (sender := senders.get(ending.packet)) is None:
            raise RuleBrokenError("the packet is unknown")
        deltas[ending.packet] -= ending.remaining_fen
        deltas[sender] += ending.remaining_fen
        refunds.append(Refund(ending.packet, sender, ending.remaining_fen, ending.at_ms, ending.position))
    rows = [("refund", *refund[:4], None, refund.position) for refund in refunds]
    accounts = sorted(deltas)
    await _move(connection, accounts, [deltas[account] for account in accounts])  # first, as for claims
    await connection.copy_records_to_table("transfers", records=rows, columns=COLUMNS)
    return refunds


async def _end_packets(connection: asyncpg.Connection, endings: Sequence[Ending]) -> None:
    packets = [ending.packet for ending in endings]
    ended = await connection.execute(
        SQL["end_packets"],
        packets,
        [ending.state.value for ending in endings],
        [ending.remaining_count for ending in endings],
        [ending.remaining_fen for ending in endings],
        [ending.at_ms for ending in endings],
    )
    _expect(ended, len(endings), "the packet is not open")
    # After the claims that came with it. What is written off is never free again (engine.persisting.quarantine).
    if of_coupons := [ending for ending in endings if ending.remaining_count and may_be_of_coupons(ending.packet)]:
        left = [ending.remaining_count for ending in of_coupons]
        await connection.execute(SQL["free_coupons"], [ending.packet for ending in of_coupons], left)
    if retracted := [ending.packet for ending in endings if ending.state is PacketState.RETRACTED]:
        await connection.execute(SQL["uncount_packets"], retracted)


async def _set_aside(
    connection: asyncpg.Connection, lane: int, change: Change, reason: str
) -> tuple[int | str | None, ...]:
    """Put a change into quarantine. Returns the row's values in the order of ``chain.ASIDE_COLUMNS``."""
    user_id, slot, amount_fen, state, remaining_count = None, None, None, None, None
    if isinstance(change, Claims):
        (user_id,), (slot,), (amount_fen,) = change.user_ids, change.slots, change.amounts_fen
    elif isinstance(change, Ending):
        amount_fen, state, remaining_count = change.remaining_fen, change.state.value, change.remaining_count
    what = (change.packet, _KIND_NAMES[type(change)], user_id, slot, amount_fen, change.at_ms)
    row = (change.position, *what, reason, state, remaining_count)
    await connection.execute(SQL["set_aside"], lane, *row)
    return row
