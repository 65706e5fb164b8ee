"""The ledger's own invariants. Each check returns how much it examined, and one sentence per problem."""

from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from engine.ledger.database import Connection
from engine.packets.split import commitment, split
from engine.queries import load
from engine.records import PacketState, SplitKind

SQL = load("audit")
Result = tuple[int, list[str]]
Check = Callable[[Connection, Sequence[asyncpg.Record]], Awaitable[Result]]


async def read_packets(connection: Connection) -> Sequence[asyncpg.Record]:
    """Every packet with the amounts that went in and out."""
    return await connection.fetch(SQL["packets"])


async def balances_sum_to_zero(connection: Connection, _packets: Sequence[asyncpg.Record]) -> Result:
    """Money is moved, never made."""
    total_fen = int(await connection.fetchval(SQL["sum_of_balances"]))
    problems = [] if total_fen == 0 else [f"all balances sum to {total_fen} fen"]
    return await connection.fetchval(SQL["accounts"]), problems


async def balances_equal_transfers(connection: Connection, _packets: Sequence[asyncpg.Record]) -> Result:
    """A balance is the stored sum of its account's entries, and every entry's accounts exist."""
    problems = []
    for row in await connection.fetch(SQL["wrong_balances"]):
        if row["kind"] is None:
            problems.append(f"entries name account {row['account_id']}, which does not exist")
        else:
            whose = f" of {row['owner']}" if row["owner"] else ""
            problems.append(
                f"{row['kind']} account {row['account_id']}{whose} has {row['balance_fen']} fen, "
                f"its entries sum to {row['transfers_fen']}"
            )
    return await connection.fetchval(SQL["accounts"]), problems


async def packets_add_up(_connection: Connection, packets: Sequence[asyncpg.Record]) -> Result:
    """What was paid in is claimed, refunded or still in custody. An ended packet states the rest correctly."""
    return len(packets), [
        f"packet {row['packet_id']}: {wrong}{_quarantined(row)}" for row in packets for wrong in _wrong_sums(row)
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


async def no_user_twice(connection: Connection, packets: Sequence[asyncpg.Record]) -> Result:
    """A user has at most one share of a packet."""
    rows = await connection.fetch(SQL["users_twice"])
    problems = [f"packet {row['packet_id']}: {row['owner']} has {row['claims']} shares" for row in rows]
    return sum(row["claims"] for row in packets), problems


async def no_slot_twice(connection: Connection, packets: Sequence[asyncpg.Record]) -> Result:
    """A share has at most one user."""
    rows = await connection.fetch(SQL["slots_twice"])
    problems = [f"packet {row['packet_id']}: share {row['slot']} was given {row['claims']} times" for row in rows]
    return sum(row["claims"] for row in packets), problems


async def shares_as_split(connection: Connection, packets: Sequence[asyncpg.Record]) -> Result:
    """Each claim matches the split, and the split matches the commitment made at sending."""
    problems, examined = [], 0
    for row in packets:
        packet_id = str(row["packet_id"])
        terms = (SplitKind(row["split"]), row["total_fen"], row["count"], row["min_fen"], row["max_fen"], row["seed"])
        if commitment(packet_id, *terms) != row["commitment"]:
            problems.append(f"packet {packet_id}: its seed and terms are not those it committed to")
            continue
        if not row["claims"]:
            continue
        amounts = split(*terms)
        for claim in await connection.fetch(SQL["claims_of"], row["packet_id"]):
            examined += 1
            slot, amount_fen = claim["slot"], claim["amount_fen"]
            due_fen = int(amounts[slot]) if 0 <= slot < row["count"] else 0
            if amount_fen != due_fen:
                problems.append(
                    f"packet {packet_id}: {claim['user_id']} got {amount_fen} fen for share {slot}, which is {due_fen}"
                )
    return examined, problems


async def events_applied(connection: Connection, _packets: Sequence[asyncpg.Record]) -> Result:
    """The batches lead up to each checkpoint without a gap, and the ledger holds everything they applied."""
    problems = [
        f"lane {row['lane']}: the batch up to {row['position']} begins after {row['position_before']}, "
        f"the one before ended at {row['previous']}"
        for row in await connection.fetch(SQL["batch_gaps"])
    ]
    applied = 0
    for row in await connection.fetch(SQL["lanes"]):
        applied += row["position"]
        for what in ("claims", "refunds", "opened", "closed"):
            said, held = row[f"{what}_said"], row[f"{what}_held"]
            if said != held:
                problems.append(f"lane {row['lane']}: {said} {what} were applied, the ledger holds {held}")
    return applied, problems


async def nothing_quarantined(connection: Connection, _packets: Sequence[asyncpg.Record]) -> Result:
    """A change that broke a rule waits in quarantine until an operator retries it or writes it off."""
    rows = await connection.fetch(SQL["quarantine"])
    problems = [
        f"row {row['quarantine_id']}, lane {row['lane']}, change {row['position']}: "
        + ("" if row["packet_id"] is None else f"{row['kind']} of packet {row['packet_id']}: ")
        + "; ".join(row["reason"].splitlines())
        for row in rows
    ]
    return len(rows), problems
