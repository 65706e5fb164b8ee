"""How cards move: every account is locked first, in the order that everybody has, and then each move is an entry.

So what two users do at once is done one after the other, and nothing that was begun can fail halfway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from engine.cards.register import SQL, CardKind, Known
from engine.errors import CardLackingError, FrozenError
from engine.ledger.database import Connection, ledger_errors


@dataclass(frozen=True, slots=True)
class Locked:
    """Accounts that are locked until the transaction ends, and Postgres's clock when that began."""

    rows: dict[int, asyncpg.Record]
    at_ms: int

    def wallet(self, user_id: str) -> asyncpg.Record:
        """A user's wallet: everybody who holds a card has one. Raises CardLackingError if there is none."""
        for row in self.rows.values():
            if row["kind"] == "wallet" and row["owner"] == user_id:
                return row
        raise CardLackingError("The user has no card of the set.")

    def holding(self, user_id: str, kind: CardKind) -> asyncpg.Record | None:
        """What a user holds of a card. None: never any."""
        for row in self.rows.values():
            if row["asset"] == kind.asset and row["owner"] == user_id:
                return row
        return None

    def account(self, user_id: str, kind: CardKind) -> int:
        """The account of what a user holds of a card, which ``can_hold`` has made."""
        row = self.holding(user_id, kind)
        if row is None:
            raise AssertionError("the account was made before")
        number: int = row["account_id"]
        return number

    def count(self, user_id: str, kind: CardKind) -> int:
        """How many of a card a user holds."""
        row = self.holding(user_id, kind)
        return 0 if row is None else row["balance_fen"]

    def must_hold(self, user_id: str, kind: CardKind) -> int:
        """The account from which a user gives a card. Raises CardLackingError."""
        row = self.holding(user_id, kind)
        if row is None or row["balance_fen"] < 1:
            raise CardLackingError(f"The user has no card {kind.card} ({kind.name}).")
        number: int = row["account_id"]
        return number

    def must_be_free(self, user_id: str, *, gives: bool = True) -> None:
        """Raise FrozenError if the user's account is frozen, or may send nothing."""
        row = self.wallet(user_id)
        until_ms = row["sending_frozen_until_ms"]
        if row["frozen"] or (gives and until_ms is not None and self.at_ms < until_ms):
            raise FrozenError("This account is frozen and cannot do this.")


async def lock(
    connection: Connection, user_ids: Sequence[str], kinds: Sequence[CardKind], others: Sequence[int] = ()
) -> Locked:
    """Lock the users' wallets and what they hold of these cards, and the accounts ``others``."""
    assets = [kind.asset for kind in kinds]
    rows = await connection.fetch(SQL["lock_accounts"], list(user_ids), assets, list(others))
    if not rows:
        raise CardLackingError("The user has no card of the set.")
    return Locked({row["account_id"]: row for row in rows}, rows[0]["now_ms"])


async def move(connection: Connection, kind: str, moves: Sequence[tuple[int, int]], at_ms: int) -> list[int]:
    """Move one card from each payer to its payee, all of them locked. Returns the entries' numbers.

    Raises CardLackingError if a payer has none.
    """
    payers, payees = [payer for payer, _ in moves], [payee for _, payee in moves]
    numbers = [row["transfer_id"] for row in await connection.fetch(SQL["move"], kind, payers, payees, at_ms)]
    if None in numbers:
        raise CardLackingError("One of the cards is no longer there.")
    return numbers


async def can_hold(pool: asyncpg.Pool, user_id: str, kinds: Sequence[CardKind]) -> None:
    """Have accounts for what a user is to hold: they are made before anything is locked. Raises UnavailableError."""
    with ledger_errors(is_undone=True):
        await pool.execute(SQL["create_wallet"], user_id)
        await pool.execute(SQL["create_holdings"], user_id, [kind.asset for kind in kinds])


async def must_have_one(pool: asyncpg.Pool, known: Known, user_id: str, kind: CardKind) -> None:
    """Look whether a user holds a card at this moment, before accounts are made for another.

    Raises CardSetEndedError, CardLackingError, UnavailableError.
    """
    with ledger_errors(is_undone=True):
        (row,) = await pool.fetch(SQL["holds"], user_id, kind.asset)
    known.must_collect(row["now_ms"])
    if not row["count"]:
        raise CardLackingError(f"The user has no card {kind.card} ({kind.name}).")


async def must_receive(connection: Connection, user_id: str, at_ms: int) -> None:
    """Raise FrozenError if a user, whose wallet is locked, may receive nothing."""
    if await connection.fetchval(SQL["cannot_receive"], user_id, at_ms):
        raise FrozenError("The account of the user who would get the card is frozen.")
