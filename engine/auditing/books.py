"""The ledger's own invariants. Each check returns how much it examined, and one sentence per problem.

After an anchor, each examines what can have changed since then: the balances of all accounts, and the packets that
entries since then are about.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import asyncpg

from engine.auditing.spans import Span
from engine.auditing.streams import SQL as CHAIN
from engine.ledger.database import Connection
from engine.packets.split import commitment, split
from engine.queries import load
from engine.records import PacketState, SplitKind

SQL = load("audit")
Result = tuple[int, list[str]]
_PACKETS_PAGE, _CLAIMS_PAGE = 1_000, 20_000
_SETTLED_MS = 3_600_000
"""Packets that were settled so long before an anchor are not looked at again: far more than clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an audit examines. ``again``: a part of history that was audited before, which it walks once more.

    ``numbers``: the packets (None: all). ``packets``: each of them, with the amounts that went in and out.
    """

    span: Span
    again: Span | None
    numbers: list[int] | None
    packets: Sequence[asyncpg.Record]

    @property
    def ids(self) -> tuple[int, int, int]:
        """Entries after the first number are examined, and those after the second up to the third."""
        again = (0, 0) if self.again is None else (self.again.after_id, self.again.up_to_id)
        return self.span.after_id, *again


Check = Callable[[Connection, Scope], Awaitable[Result]]


async def scope_of(connection: Connection, span: Span, again: Span | None, at_ms: int) -> Scope:
    """The scope of an audit of these parts of history. ``at_ms``: when the part before ``span`` was audited."""
    numbers = None
    if span.after is not None:
        rows = await connection.fetch(SQL["packets_changed"], span.after_id, span.up_to_id, at_ms - _SETTLED_MS)
        if again is not None:
            rows += await connection.fetch(SQL["packets_changed"], again.after_id, again.up_to_id, None)
        numbers = sorted({row["packet_id"] for row in rows})
    return Scope(span=span, again=again, numbers=numbers, packets=await connection.fetch(SQL["packets"], numbers))


async def balances_sum_to_zero(connection: Connection, _scope: Scope) -> Result:
    """Money is moved, never made. So is every other asset."""
    problems = []
    for row in await connection.fetch(SQL["sum_of_balances"]):
        if int(row["fen"]) != 0:
            of_asset = "" if row["asset"] is None else f" of {row['asset']}"
            problems.append(f"all balances{of_asset} sum to {row['fen']}{'' if of_asset else ' fen'}")
    return await connection.fetchval(SQL["accounts"]), problems


async def assets_stay_apart(connection: Connection, scope: Scope) -> Result:
    """An entry goes from an account to another of the same asset, and a packet's custody holds what it promises."""
    if not await connection.fetchval(SQL["has_assets"]):
        return 0, []
    problems = [
        f"entry {row['transfer_id']}, a {row['kind']}, goes from {_asset(row['paid'])} to {_asset(row['received'])}"
        for row in await connection.fetch(SQL["between_assets"], *scope.ids)
    ]
    problems += [
        f"packet {row['packet_id']}: it promises {_asset(row['promised'])}, its custody is of {_asset(row['held'])}"
        for row in await connection.fetch(SQL["wrong_custodies"])
    ]
    return await connection.fetchval(SQL["entries"], *scope.ids), problems


def _asset(code: str | None) -> str:
    return code or "the currency"


async def balances_equal_transfers(connection: Connection, scope: Scope) -> Result:
    """A balance is the stored sum of its account's entries, and every entry's accounts exist."""
    problems = []
    for row in await connection.fetch(SQL["wrong_balances"], scope.span.after_id):
        if row["kind"] is None:
            problems.append(f"entries name account {row['account_id']}, which does not exist")
        else:
            whose = f" of {row['owner']}" if row["owner"] else ""
            problems.append(
                f"{row['kind']} account {row['account_id']}{whose} has {row['balance_fen']} {row['asset'] or 'fen'}, "
                f"its entries sum to {row['transfers_fen']}"
            )
    return await connection.fetchval(SQL["accounts"]), problems


async def packets_add_up(_connection: Connection, scope: Scope) -> Result:
    """What was paid in is claimed, refunded or still in custody. An ended packet states the rest correctly."""
    return len(scope.packets), [
        f"packet {row['packet_id']}: {wrong}{_quarantined(row)}" for row in scope.packets for wrong in _wrong_sums(row)
    ]


def _quarantined(row: asyncpg.Record) -> str:
    """Pending changes in quarantine are the likely reason if a packet does not add up."""
    return f" ({row['quarantined']} of its changes wait in quarantine)" if row["quarantined"] else ""


def _wrong_sums(row: asyncpg.Record) -> list[str]:
    problems = []
    if row["custody_fen"] is None:
        return ["it has no custody account"]
    if row["sent_fen"] != row["total_fen"]:
        problems.append(f"{row['sent_fen']} fen were paid for it, its total is {row['total_fen']}")
    accounted_fen = row["claimed_fen"] + row["refunded_fen"] + row["written_off_fen"] + row["custody_fen"]
    if accounted_fen != row["total_fen"]:
        written_off = f"+ written off {row['written_off_fen']} " if row["written_off_fen"] else ""
        problems.append(
            f"total {row['total_fen']} fen, but claims {row['claimed_fen']} + refund {row['refunded_fen']} "
            f"{written_off}+ custody {row['custody_fen']} = {accounted_fen}"
        )
    if row["state"] == PacketState.FUNDED and row["claims"]:
        problems.append(f"it is not open, but has {row['claims']} claims")
    if row["remaining_count"] is not None:
        problems += _wrong_end(row)
    return problems


def _wrong_end(row: asyncpg.Record) -> list[str]:
    problems = []
    # A claim that was written off may have taken a share in Redis, or none.
    accounted = row["claims"] + row["remaining_count"]
    if not accounted <= row["count"] <= accounted + row["claims_written_off"]:
        problems.append(f"{row['count']} shares, but {row['claims']} claims and {row['remaining_count']} left over")
    returned_fen = row["refunded_fen"] + row["rest_written_off_fen"]
    if returned_fen != row["remaining_fen"]:
        problems.append(f"{row['remaining_fen']} fen were left over, {returned_fen} refunded")
    if row["custody_fen"] != 0:
        problems.append(f"it has ended with {row['custody_fen']} fen in custody")
    if row["settled_at_ms"] is None:
        problems.append("it has ended and is not settled")
    return problems


async def no_user_twice(connection: Connection, scope: Scope) -> Result:
    """A user has at most one share of a packet."""
    rows = await connection.fetch(SQL["users_twice"], scope.numbers)
    problems = [f"packet {row['packet_id']}: {row['owner']} has {row['claims']} shares" for row in rows]
    return sum(row["claims"] for row in scope.packets), problems


async def no_slot_twice(connection: Connection, scope: Scope) -> Result:
    """A share has at most one user."""
    rows = await connection.fetch(SQL["slots_twice"], scope.numbers)
    problems = [f"packet {row['packet_id']}: share {row['slot']} was given {row['claims']} times" for row in rows]
    return sum(row["claims"] for row in scope.packets), problems


async def shares_as_split(connection: Connection, scope: Scope) -> Result:
    """Each claim matches the split, and the split matches the commitment made at sending."""
    problems, examined = [], 0
    for page in _pages(scope.packets):
        rows = await connection.fetch(SQL["claims_of_many"], [row["packet_id"] for row in page if row["claims"]])
        claims: dict[int, list[asyncpg.Record]] = {}
        for claim in rows:
            claims.setdefault(claim["packet_id"], []).append(claim)
        for row in page:
            packet_id, of_packet = row["packet_id"], claims.get(row["packet_id"], [])
            split_as = SplitKind(row["split"])
            terms = (split_as, row["total_fen"], row["count"], row["min_fen"], row["max_fen"], row["seed"])
            if commitment(str(packet_id), *terms) != row["commitment"]:
                problems.append(f"packet {packet_id}: its seed and terms are not those it committed to")
                continue
            amounts: Sequence[int] = split(*terms).tolist() if of_packet else []
            for claim in of_packet:
                examined += 1
                slot, amount_fen = claim["slot"], claim["amount_fen"]
                due_fen = amounts[slot] if 0 <= slot < row["count"] else 0
                if amount_fen != due_fen:
                    problems.append(
                        f"packet {packet_id}: {claim['user_id']} got {amount_fen} fen for share {slot}, "
                        f"which is {due_fen}"
                    )
    return examined, problems


def _pages(packets: Sequence[asyncpg.Record]) -> Iterator[Sequence[asyncpg.Record]]:
    """Packets whose claims are read together: few enough to be kept in memory."""
    first, claims = 0, 0
    for number, row in enumerate(packets):
        if number > first and (claims + row["claims"] > _CLAIMS_PAGE or number - first >= _PACKETS_PAGE):
            yield packets[first:number]
            first, claims = number, 0
        claims += row["claims"]
    if first < len(packets):
        yield packets[first:]


async def applied(connection: Connection, span: Span) -> list[asyncpg.Record]:
    """Each lane with what its batches applied in a part of history that has no end, and what the ledger holds of it."""
    return list(await connection.fetch(SQL["lanes"], *await _lanes(connection, span), span.after_id))


async def _lanes(connection: Connection, span: Span) -> tuple[list[int], list[int], list[int], list[int]]:
    """Every lane, the position after which its batches count, and what those up to there opened and closed."""
    known = {} if span.after is None else span.after.lanes
    rows = [*await connection.fetch(CHAIN["lanes"]), *await connection.fetch(CHAIN["lanes_of_batches"])]
    lanes = sorted({row["lane"] for row in rows} | set(known))
    ends = [known.get(lane) for lane in lanes]
    return (
        lanes,
        [-1 if end is None else end.position for end in ends],
        [0 if end is None else end.opened for end in ends],
        [0 if end is None else end.closed for end in ends],
    )


async def events_applied(connection: Connection, scope: Scope) -> Result:
    """The batches lead up to each checkpoint without a gap, and the ledger holds everything they applied."""
    lanes, after, *_ = await _lanes(connection, scope.span)
    problems = [
        f"lane {row['lane']}: the batch up to {row['position']} begins after {row['position_before']}, "
        f"the one before ended at {row['previous']}"
        for row in await connection.fetch(SQL["batch_gaps"], lanes, after)
    ]
    examined = 0
    begun = dict(zip(lanes, after, strict=True))
    for row in await applied(connection, scope.span):
        examined += row["position"] - max(0, begun[row["lane"]])
        for what in ("claims", "refunds", "opened", "closed"):
            said, held = row[f"{what}_said"], row[f"{what}_held"]
            if said != held:
                problems.append(f"lane {row['lane']}: {said} {what} were applied, the ledger holds {held}")
    return examined, problems


async def nothing_quarantined(connection: Connection, _scope: Scope) -> Result:
    """A change that broke a rule waits in quarantine until an operator retries it or writes it off."""
    rows = await connection.fetch(SQL["quarantine"])
    problems = [
        f"row {row['quarantine_id']}, lane {row['lane']}, change {row['position']}: "
        + ("" if row["packet_id"] is None else f"{row['kind']} of packet {row['packet_id']}: ")
        + "; ".join(row["reason"].splitlines())
        for row in rows
    ]
    return len(rows), problems
