"""Compares a day's parts of the ledger: batches, packets, kinds of entries, balances, statements.

All are read in one snapshot, so a movement meanwhile is in all of them or in none.
"""

from collections import defaultdict
from collections.abc import AsyncIterator

import asyncpg

from engine.auditing.comparison import SQL, Comparison, Day, Differences, Pairs, Side, Subject, Units, named
from engine.ledger.database import Connection
from engine.wallets import statement

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
    "gift": ("wallet", "fund"),
    "gift_return": ("fund", "wallet"),
    "match_budget": ("wallet", "fund"),
    "match": ("fund", "fund"),
    "match_return": ("fund", "wallet"),
    "fund_payout": ("fund", "wallet"),
    "pool_fund": ("wallet", "card_pool"),
    "pool_share": ("card_pool", "wallet"),
    "pool_return": ("card_pool", "wallet"),
}
"""The kind of the paying and the receiving account, per kind of entry, of the ledger's currency."""
PROPER_OF_ASSETS = {
    "issue": ("issuer", "holding"),
    "send": ("holding", "custody"),
    "claim": ("custody", "holding"),
    "refund": ("custody", "holding"),
    "write_off": ("custody", "issuer"),
    "redeem": ("holding", "issuer"),
    "coupon_void": ("holding", "issuer"),
    "coupon_expire": ("holding", "issuer"),
    "coupon_transfer": ("holding", "holding"),
    "card_reserve": ("holding", "card_escrow"),
    "card_grant": ("card_escrow", "holding"),
    "card_gift": ("holding", "holding"),
    "card_offer": ("holding", "card_escrow"),
    "card_exchange": ("card_escrow", "holding"),
    "card_return": ("card_escrow", "holding"),
    "card_spend": ("holding", "card_spent"),
}
"""The same of every other asset."""
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
        *await _packets(connection, day, "sends", SQL["sends"], ("packets sent", "payments for packets")),
        *await _packets(connection, day, "endings", SQL["endings"], ("packets that ended with a rest", "refunds")),
    ]


async def _packets(connection: Connection, day: Day, name: str, query: str, sides: tuple[str, str]) -> list[Comparison]:
    found, units = Pairs(*sides), Units(connection)
    async for row in _rows(connection, query, day):
        pair = found.of(row["asset"])
        for side, fen in ((pair.left, row["due_fen"]), (pair.right, row["paid_fen"])):
            if fen is not None:
                side.add(fen)
        if row["due_fen"] != row["paid_fen"]:
            due, paid = [await units.said(row[name], row["asset"]) for name in ("due_fen", "paid_fen")]
            amounts = f"{due} due, {paid} moved"
            pair.differences.add(f"packet {row['packet_id']}: {amounts}", Subject(packet_id=str(row["packet_id"])))
    return found.compared(f"{name}: packets")


async def kinds(connection: Connection, day: Day) -> list[Comparison]:
    """Per kind of entry: what left the accounts of the paying kind, and what reached those of the receiving kind."""
    rules = [(kind, *accounts, True) for kind, accounts in PROPER.items()]
    rules += [(kind, *accounts, False) for kind, accounts in PROPER_OF_ASSETS.items()]
    proper = tuple(map(list, zip(*rules, strict=True)))
    units = Units(connection)
    differences: defaultdict[tuple[str, str | None], Differences] = defaultdict(Differences)
    async for row in _rows(connection, SQL["improper"], day, *proper):
        accounts = f"from {_account(row, 'from_account', 'payer')} to {_account(row, 'to_account', 'payee')}"
        amount = await units.said(row["amount_fen"], row["payer_asset"])
        asset = row["payer_asset"] or row["payee_asset"]
        differences[row["kind"], asset].add(f"entry {row['transfer_id']}, a {row['kind']} of {amount}, goes {accounts}")
    found = []
    for row in await connection.fetch(SQL["kinds"], *day, *proper):
        allowed = PROPER if row["asset"] is None else PROPER_OF_ASSETS
        payer, payee = allowed.get(row["kind"], ("known account", "known account"))
        left = Side(what=f"out of a {payer}", count=row["left_count"], fen=int(row["left_fen"]))
        reached = Side(what=f"into a {payee}", count=row["reached_count"], fen=int(row["reached_fen"]))
        name = named(f"{row['kind']}: ledger", row["asset"])
        found.append(differences[row["kind"], row["asset"]].of(name, left, reached))
    return found


def _account(row: asyncpg.Record, number: str, kind: str) -> str:
    if not row[kind]:
        return f"account {row[number]}, which does not exist,"
    asset = f" of {row[f'{kind}_asset']}" if row[f"{kind}_asset"] else ""
    return f"{row[kind]} {row[number]}{asset}"


async def balances(connection: Connection, day: Day) -> list[Comparison]:
    """The balance and the sum of entries of each account that moved."""
    found, units = Pairs("balances of accounts", "sums of their entries"), Units(connection)
    async for row in _rows(connection, SQL["balances"], day):
        pair, asset = found.of(row["asset"]), row["asset"]
        pair.right.add(row["transfers_fen"])
        if row["kind"] is None:
            pair.differences.add(
                f"account {row['account_id']} does not exist, and its entries sum to {row['transfers_fen']} fen"
            )
            continue
        pair.left.add(row["balance_fen"])
        if row["balance_fen"] != row["transfers_fen"]:
            whose = f"{row['kind']} {row['account_id']}" + (f" of {row['owner']}" if row["owner"] else "")
            holds, sums = await units.said(row["balance_fen"], asset), await units.number(row["transfers_fen"], asset)
            amounts = f"holds {holds}, its entries sum to {sums}"
            pair.differences.add(f"{whose} {amounts}", _subject(row))
    return found.compared("balances: ledger")


def _subject(row: asyncpg.Record) -> Subject:
    """Whose account it is: a user's, or a packet's custody."""
    if row["kind"] == "custody":
        return Subject(packet_id=str(row["account_id"]))
    return Subject(user_id=row["owner"])


async def statements(connection: Connection, day: Day) -> list[Comparison]:
    """The day's statements as users get them: whether each one adds up, and whether together they equal the ledger."""
    found, units = Pairs("statements' closings", "wallets after the day"), Units(connection)
    sums: defaultdict[tuple[str, str | None], Side] = defaultdict(lambda: Side(what="in the statements"))
    async for row in _wallets(connection, day):
        asset = row["asset"]
        opening_fen, entries = await statement.bounds(connection, row["account_id"], *day)
        after_fen, _ = await statement.bounds(connection, row["account_id"], day.after_ms, day.after_ms)
        moved_fen = 0
        async for kind, fen in _movements(connection, entries):
            moved_fen += fen
            sums[f"{kind} {'in' if fen > 0 else 'out'}", asset].add(abs(fen))
        pair = found.of(asset)
        pair.left.add(opening_fen + moved_fen)
        pair.right.add(after_fen)
        if opening_fen + moved_fen != after_fen:
            opening = await units.said(opening_fen, asset)
            moved, after = await units.number(moved_fen, asset), await units.number(after_fen, asset)
            told = f"{opening} and movements of {moved} are not the {after} held after it"
            pair.differences.add(f"{row['owner']}: {told}", Subject(user_id=row["owner"]))
    return [*found.compared("statements close"), *await _statement_kinds(connection, day, sums)]


async def _statement_kinds(
    connection: Connection, day: Day, sums: dict[tuple[str, str | None], Side]
) -> list[Comparison]:
    rows = await connection.fetch(SQL["wallet_kinds"], *day)
    ledger = {
        (row["kind"], row["asset"]): Side(what="in the ledger", count=row["count"], fen=int(row["fen"])) for row in rows
    }
    found, units = [], Units(connection)
    for kind, asset in sorted(sums.keys() | ledger.keys(), key=lambda key: (key[1] or "", key[0])):
        told = sums.get((kind, asset), Side(what="in the statements"))
        kept = ledger.get((kind, asset), Side(what="in the ledger"))
        differences = Differences()
        if (told.count, told.fen) != (kept.count, kept.fen):
            differences.add(
                f"{kind} of wallets: {told.count} of {await units.said(told.fen, asset)} in the statements, "
                f"{kept.count} of {await units.said(kept.fen, asset)} in the ledger"
            )
        found.append(differences.of(named(f"{kind}: statements", asset), told, kept))
    return found


async def _wallets(connection: Connection, day: Day) -> AsyncIterator[asyncpg.Record]:
    """Users' accounts that moved, page by page: other queries run between two pages."""
    cursor = await connection.cursor(SQL["wallets"], *day)
    while page := await cursor.fetch(_WALLETS_PAGE):
        for row in page:
            yield row


async def _movements(connection: Connection, entries: statement.Range | None) -> AsyncIterator[tuple[str, int]]:
    if entries is None:
        return
    query = connection.cursor(statement.SQL["movements"], *entries, _MOVEMENTS_MAX, prefetch=_PREFETCH)
    async for row in query:
        yield row["kind"], row["amount_fen"]


async def _rows(connection: Connection, query: str, day: Day, *more: object) -> AsyncIterator[asyncpg.Record]:
    async for row in connection.cursor(query, *day, *more, prefetch=_PREFETCH):
        yield row
