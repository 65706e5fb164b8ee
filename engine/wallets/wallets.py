"""Wallets: a user's balance, its entries, and deposits from outside."""

from dataclasses import dataclass

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number
from engine.ledger import idempotency
from engine.ledger.currency import SCALE
from engine.ledger.database import ledger_errors
from engine.ledger.volumes import Volumes
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.settings import Settings
from engine.wallets.assets import Known
from engine.wallets.depositing import Depositing

SQL = load("wallet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """A user's balance, in 10^-scale of ``currency``, which may be any asset. It is 0 if nobody has paid them yet."""

    user_id: str
    balance_fen: int
    currency: str
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTransfer:
    """One entry as its wallet sees it. ``amount_fen`` is positive if money came in, negative if it left."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int
    packet_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersPage:
    """A wallet's entries, newest first."""

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
    """Use cases of wallets. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings
        self._depositing, self._volumes = Depositing(pool), Volumes(pool)

    async def get(self, user_id: str, known: Known | None = None) -> Wallet:
        """A user's balance of an asset (None: of the ledger's currency). It is 0 if nobody has paid them yet."""
        asset = known or Known(self._settings.currency, SCALE)
        with ledger_errors():
            balance_fen = await self._pool.fetchval(SQL["balance"], user_id, asset.code)
        return Wallet(user_id=user_id, balance_fen=balance_fen or 0, currency=asset.asset, scale=asset.scale)

    async def transfers(
        self, user_id: str, *, after: str | None, limit: int, asset: str | None = None
    ) -> TransfersPage:
        """The wallet's entries, newest first. A new entry never appears below an older one.

        ``asset``: those of this asset (None: of the ledger's currency).
        Raises InvalidFieldsError for an invalid cursor.
        """
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._volumes.newest(
                below,
                limit + 1,
                lambda payers: self._pool.fetch(SQL["transfers"], user_id, below, limit + 1, asset, *payers),
            )
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
        """Move money from the bank into a wallet, once per wallet and Idempotency-Key, whichever admin sends it.

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
