"""Compares a day's parts of the ledger: batches, packets, kinds of entries, balances, statements.

All are read in one snapshot, so a movement meanwhile is in all of them or in none.
"""

from collections import defaultdict
from collections.abc import AsyncIterator

import asyncpg

from engine.auditing.comparison import Comparison, Day, Differences, Side
from engine.ledger.database import Connection
from engine.queries import load
from engine.wallets import statement

SQL = load("reconciliation")
PROPER = {
    "deposit": ("bank", "wallet"),
    "send": ("wallet", "custody"),
    "claim": ("custody", "wallet"),
    "refund": ("custody", "wallet"),
    "write_off": ("custody", "quarantine"),
    "withdrawal": ("wallet", "payout"),
    "withdrawal_return": ("payout", "wallet"),
    "payout": ("payout", "bank"),
    "fee": ("payout", "fee"),
    "correction": ("wallet", "wallet"),
}
"""The kind of the paying and the receiving account, per kind of entry."""
_PREFETCH = 5_000
_WALLETS_PAGE = 1_000
_MOVEMENTS_MAX = 10_000_000


async def batches(connection: Connection, day: Day) -> list[Comparison]:
    """The changes that the lanes' batches applied, and the entries at their positions."""
    said = {what: Side(what=f"{what} by the lanes' batches", fen=None) for what in ("claims", "refunds")}
    held = {what: Side(what=f"{what} in the ledger", fen=None) for what in said}
    differences = {what: Differences() for what in said}
    async for row in _rows(connection, SQL["batches"], day):
        for what, found in differences.items():
            says, holds = row[f"{what}_said"], row[f"{what}_held"]
            said[what].count += says
            held[what].count += holds
            if says != holds:
                batch = f"lane {row['lane']}, changes {row['position_before'] + 1} to {row['position']}"
                found.add(f"{batch}: {says} {what} were applied, the ledger holds {holds}")
    return [found.of(f"{what}: events", said[what], held[what]) for what, found in differences.items()]


async def packets(connection: Connection, day: Day) -> list[Comparison]:
    """The totals and rests of packets, and the entries for them."""
    return [
        await _packets(connection, day, "sends", SQL["sends"], ("packets sent", "payments for packets")),
        await _packets(connection, day, "endings", SQL["endings"], ("packets that ended with a rest", "refunds")),
    ]


async def _packets(connection: Connection, day: Day, name: str, query: str, sides: tuple[str, str]) -> Comparison:
    due, paid, differences = Side(what=sides[0]), Side(what=sides[1]), Differences()
    async for row in _rows(connection, query, day):
        for side, fen in ((due, row["due_fen"]), (paid, row["paid_fen"])):
            if fen is not None:
                side.add(fen)
        if row["due_fen"] != row["paid_fen"]:
            amounts = f"{_fen(row['due_fen'])} due, {_fen(row['paid_fen'])} moved"
            differences.add(f"packet {row['packet_id']}: {amounts}")
    return differences.of(f"{name}: packets", due, paid)


def _fen(fen: int | None) -> str:
    return "nothing" if fen is None else f"{fen} fen"


async def kinds(connection: Connection, day: Day) -> list[Comparison]:
    """Per kind of entry: what left the accounts of the paying kind, and what reached those of the receiving kind."""
    proper = (list(PROPER), [payer for payer, _ in PROPER.values()], [payee for _, payee in PROPER.values()])
    differences: defaultdict[str, Differences] = defaultdict(Differences)
    async for row in _rows(connection, SQL["improper"], day, *proper):
        accounts = f"from {_account(row, 'from_account', 'payer')} to {_account(row, 'to_account', 'payee')}"
        differences[row["kind"]].add(
            f"entry {row['transfer_id']}, a {row['kind']} of {row['amount_fen']} fen, goes {accounts}"
        )
    found = []
    for row in await connection.fetch(SQL["kinds"], *day, *proper):
        payer, payee = PROPER.get(row["kind"], ("known account", "known account"))
        left = Side(what=f"out of a {payer}", count=row["left_count"], fen=int(row["left_fen"]))
        reached = Side(what=f"into a {payee}", count=row["reached_count"], fen=int(row["reached_fen"]))
        found.append(differences[row["kind"]].of(f"{row['kind']}: ledger", left, reached))
    return found


def _account(row: asyncpg.Record, number: str, kind: str) -> str:
    return f"{row[kind]} {row[number]}" if row[kind] else f"account {row[number]}, which does not exist,"


async def balances(connection: Connection, day: Day) -> Comparison:
    """The balance and the sum of entries of each account that moved."""
    held, summed, differences = Side(what="balances of accounts"), Side(what="sums of their entries"), Differences()
    async for row in _rows(connection, SQL["balances"], day):
        summed.add(row["transfers_fen"])
        if row["kind"] is None:
            differences.add(
                f"account {row['account_id']} does not exist, and its entries sum to {row['transfers_fen']} fen"
            )
            continue
        held.add(row["balance_fen"])
        if row["balance_fen"] != row["transfers_fen"]:
            whose = f"{row['kind']} {row['account_id']}" + (f" of {row['owner']}" if row["owner"] else "")
            amounts = f"holds {row['balance_fen']} fen, its entries sum to {row['transfers_fen']}"
            differences.add(f"{whose} {amounts}")
    return differences.of("balances: ledger", held, summed)


async def statements(connection: Connection, day: Day) -> list[Comparison]:
    """The day's statements as users get them: whether each one adds up, and whether together they equal the ledger."""
    closing, held, differences = Side(what="statements' closings"), Side(what="wallets after the day"), Differences()
    sums: defaultdict[str, Side] = defaultdict(lambda: Side(what="in the statements"))
    async for user_id in _wallets(connection, day):
        opening_fen, entries = await statement.bounds(connection, user_id, *day)
        after_fen, _ = await statement.bounds(connection, user_id, day.after_ms, day.after_ms)
        moved_fen = 0
        async for kind, fen in _movements(connection, entries):
            moved_fen += fen
            sums[f"{kind} {'in' if fen > 0 else 'out'}"].add(abs(fen))
        closing.add(opening_fen + moved_fen)
        held.add(after_fen)
        if opening_fen + moved_fen != after_fen:
            told = f"{user_id}: {opening_fen} fen and movements of {moved_fen} are not the {after_fen} held after it"
            differences.add(told)
    return [differences.of("statements close", closing, held), *await _statement_kinds(connection, day, sums)]


async def _statement_kinds(connection: Connection, day: Day, sums: dict[str, Side]) -> list[Comparison]:
    rows = await connection.fetch(SQL["wallet_kinds"], *day)
    ledger = {row["kind"]: Side(what="in the ledger", count=row["count"], fen=int(row["fen"])) for row in rows}
    found = []
    for kind in sorted(sums.keys() | ledger.keys()):
        told, kept = sums.get(kind, Side(what="in the statements")), ledger.get(kind, Side(what="in the ledger"))
        differences = Differences()
        if (told.count, told.fen) != (kept.count, kept.fen):
            differences.add(
                f"{kind} of wallets: {told.count} of {told.fen} fen in the statements, "
                f"{kept.count} of {kept.fen} fen in the ledger"
            )
        found.append(differences.of(f"{kind}: statements", told, kept))
    return found


async def _wallets(connection: Connection, day: Day) -> AsyncIterator[str]:
    """Users whose wallet moved, page by page: other queries run between two pages."""
    cursor = await connection.cursor(SQL["wallets"], *day)
    while page := await cursor.fetch(_WALLETS_PAGE):
        for row in page:
            yield row["owner"]


async def _movements(connection: Connection, entries: statement.Range | None) -> AsyncIterator[tuple[str, int]]:
    if entries is None:
        return
    query = connection.cursor(statement.SQL["movements"], *entries, _MOVEMENTS_MAX, prefetch=_PREFETCH)
    async for row in query:
        yield row["kind"], row["amount_fen"]


async def _rows(connection: Connection, query: str, day: Day, *more: object) -> AsyncIterator[asyncpg.Record]:
    async for row in connection.cursor(query, *day, *more, prefetch=_PREFETCH):
        yield row
