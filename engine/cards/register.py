"""Sets of cards as a process knows them: what never changes is read once."""

import zlib
from collections import OrderedDict
from dataclasses import dataclass

import asyncpg

from engine.cards.terms import Payout
from engine.errors import CardSetEndedError, FieldProblem, InvalidFieldsError, UnknownCardSetError
from engine.ledger.database import ledger_errors
from engine.queries import load
from engine.records import SplitKind

SQL = load("cards")
KNOWN_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKind:
    """What never changes of a card. ``card``: its number, from 1. ``issuer`` and the following: accounts."""

    card: int
    name: str
    is_wild: bool
    asset: str
    count: int
    granted_count: int
    issuer: int
    reserve_account: int
    escrow_accounts: tuple[int, ...]
    spent_accounts: tuple[int, ...]

    def escrow_of(self, user_id: str) -> int:
        """Where what a user offers of it lies."""
        return _one_of(self.escrow_accounts, user_id)

    def spent_of(self, user_id: str) -> int:
        """Where what a user spends of it goes."""
        return _one_of(self.spent_accounts, user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What never changes of a set. ``kinds``: its cards, the wild one last."""

    set_id: str
    owner: str
    name: str
    pool_fen: int
    split: SplitKind
    min_fen: int
    payout: Payout
    claim_seconds: int | None
    grants_a_user_max: int
    ends_at_ms: int
    draws_at_ms: int
    seed: bytes
    commitment: bytes
    pool_account: int
    created_at_ms: int
    kinds: tuple[CardKind, ...]

    @property
    def number(self) -> int:
        """Its number in the ledger."""
        return int(self.set_id)

    @property
    def cards(self) -> tuple[CardKind, ...]:
        """The cards that make a set: one of each."""
        return tuple(kind for kind in self.kinds if not kind.is_wild)

    @property
    def wild(self) -> CardKind | None:
        """The card that stands for any missing one."""
        return self.kinds[-1] if self.kinds[-1].is_wild else None

    def kind(self, card: int, field: str = "card") -> CardKind:
        """A card by its number. Raises InvalidFieldsError that names ``field``."""
        if not 1 <= card <= len(self.kinds):
            raise InvalidFieldsError([FieldProblem(field, f"must be from 1 to {len(self.kinds)}, the set's cards")])
        return self.kinds[card - 1]

    def must_collect(self, at_ms: int) -> None:
        """Raise CardSetEndedError if its cards are collected no longer."""
        if at_ms >= self.ends_at_ms:
            raise CardSetEndedError("The set's cards are collected no longer.")


class Register:
    """One process's memory of sets."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known: OrderedDict[str, Known] = OrderedDict()

    async def known(self, set_id: str) -> Known:
        """A set. Raises UnknownCardSetError, UnavailableError."""
        known = self._known.get(set_id)
        if known is None:
            self._known[set_id] = known = await self._read(set_id)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return known

    async def _read(self, set_id: str) -> Known:
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["set"], int(set_id))
            if row is None:
                raise UnknownCardSetError("No set of cards has this number.")
            kinds = await self._pool.fetch(SQL["kinds"], int(set_id))
        return known_from(row, kinds)


def known_from(row: asyncpg.Record, kinds: list[asyncpg.Record]) -> Known:
    """A set as the ledger has it."""
    values = dict(row)
    del values["cards"]
    return Known(
        **values
        | {
            "set_id": str(row["set_id"]),
            "split": SplitKind(row["split"]),
            "payout": Payout(row["payout"]),
            "kinds": tuple(
                CardKind(
                    **{
                        **kind,
                        "escrow_accounts": tuple(kind["escrow_accounts"]),
                        "spent_accounts": tuple(kind["spent_accounts"]),
                    }
                )
                for kind in kinds
            ),
        }
    )


def _one_of(accounts: tuple[int, ...], user_id: str) -> int:
    return accounts[zlib.crc32(user_id.encode()) % len(accounts)]
