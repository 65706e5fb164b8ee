"""Wallets: what a user holds, how it came there, and money put in from outside."""

from dataclasses import dataclass

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number
from engine.ledger import idempotency
from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.settings import Settings
from engine.wallets.depositing import Depositing

SQL = load("wallet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What a user holds, in fen. A user nobody has paid yet holds 0."""

    user_id: str
    balance_fen: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTransfer:
    """One movement as its wallet sees it: ``amount_fen`` is positive when money came in, negative when it left."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int
    packet_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersPage:
    """A wallet's movements, newest first."""

    transfers: list[WalletTransfer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """The answer to a deposit."""

    transfer_id: str
    user_id: str
    amount_fen: int
    balance_fen: int
    replayed: bool


class Wallets:
    """Use cases over wallets. Every method raises UnavailableError when Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._depositing = Depositing(pool)

    async def get(self, user_id: str) -> Wallet:
        """A user's balance; someone nobody has paid yet holds 0."""
        with ledger_errors():
            balance_fen = await self._pool.fetchval(SQL["balance"], user_id)
        return Wallet(user_id=user_id, balance_fen=balance_fen or 0, currency=self._settings.currency)

    async def transfers(self, user_id: str, *, after: str | None, limit: int) -> TransfersPage:
        """The wallet's movements, newest first: nothing ever appears below one that was there before.

        Raises InvalidFieldsError for a cursor that is none.
        """
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["transfers"], user_id, below, limit + 1)
        transfers = [
            WalletTransfer(
                transfer_id=str(row["transfer_id"]),
                kind=row["kind"],
                amount_fen=row["amount_fen"],
                at_ms=row["at_ms"],
                packet_id=str(row["other"]) if is_packet_number(str(row["other"])) else None,
            )
            for row in rows[:limit]
        ]
        return TransfersPage(transfers=transfers, next=transfers[-1].transfer_id if len(rows) > limit else None)

    async def deposit(self, user_id: str, amount_fen: int, *, idempotency_key: str, request_hash: bytes) -> Deposit:
        """Put money into a wallet from the bank, once for each Idempotency-Key of the wallet, whoever sends it.

        Raises InvalidFieldsError, and as ``Depositing.put`` does.
        """

        request = idempotency.Request(
            principal=user_id, operation="deposit_into", key=idempotency_key, request_hash=request_hash
        )
        if 1 <= amount_fen <= self._settings.deposit_fen_max:
            answer, replayed = await self._depositing.put(request, amount_fen)
            return Deposit(**answer, replayed=replayed)
        before = await idempotency.answered_meanwhile(self._pool, request)
        if before is None:
            most = f"must be from 1 to {self._settings.deposit_fen_max}"
            raise InvalidFieldsError([FieldProblem("amount_fen", most)])
        return Deposit(**before, replayed=True)
