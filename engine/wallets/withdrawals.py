"""提现: money leaves a wallet for a bank. The payout account holds it until ``paying_out`` ends the withdrawal.

A withdrawal first locks the wallet's row, then checks freezes, the balance and the rest of the allowance.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import asyncpg

from engine.errors import FrozenError, InsufficientFundsError, UnknownWithdrawalError
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import PAYOUT_ACCOUNT, lock_wallet, move, now_ms
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.risk import limits, watch
from engine.risk.freezes import Freezes
from engine.settings import Settings
from engine.wallets.payment_passwords import PaymentPasswords
from engine.wallets.withdrawal_fees import cost_of

SQL = load("withdrawals")


class WithdrawalState(StrEnum):
    """``processing -> settled | failed``. The last two are final."""

    PROCESSING = "processing"  # the payout account holds the amount and the fee
    SETTLED = "settled"  # the bank has the amount
    FAILED = "failed"  # everything is back in the wallet


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """``free_fen``: the part of the free allowance it used. ``fee_fen`` was paid on top of ``amount_fen``.

    ``transfer_id``: the ledger entry out of the wallet. ``failure``: why it failed, if it did.
    """

    withdrawal_id: str
    user_id: str
    amount_fen: int
    fee_fen: int
    free_fen: int
    bank_account: str
    state: WithdrawalState
    failure: str | None
    transfer_id: str
    asked_at_ms: int
    ended_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalsPage:
    """A user's withdrawals, newest first. ``next``: the next page's cursor, None on the last page."""

    withdrawals: list[Withdrawal]
    next: str | None


class Asked(NamedTuple):
    """The answer to a withdrawal, as of when it was asked for. ``replayed``: it had been answered before."""

    withdrawal: Withdrawal
    replayed: bool


class Withdrawals:
    """Use cases of withdrawals. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, passwords: PaymentPasswords, freezes: Freezes) -> None:
        self._pool, self._settings, self._passwords = pool, settings, passwords
        self._freezes = freezes

    async def withdraw(
        self,
        user_id: str,
        amount_fen: int,
        bank_account: str,
        payment_password: str,
        *,
        address: str = "",
        idempotency_key: str,
        request_hash: bytes,
    ) -> Asked:
        """Take an amount and its fee out of a wallet, to be paid to a bank, once per user and Idempotency-Key.

        ``address``: where the request comes from. ``request_hash`` must not cover the password, because a repeat needs
        none. Raises FrozenError, AddressNotAllowedError, InsufficientFundsError, IdempotencyInFlightError,
        IdempotencyKeyReusedError, and as ``PaymentPasswords.check`` does.
        """
        request = idempotency.Request(
            principal=user_id, operation="withdraw", key=idempotency_key, request_hash=request_hash
        )

        async def check() -> None:
            # Not in the transaction that pays: a wrong try must count even if nothing else is done.
            await self._passwords.check(user_id, payment_password)

        async def hold(connection: Connection, _: None) -> dict[str, Any]:
            await self._admit(connection, user_id, amount_fen, address)
            return await self._hold(connection, user_id, amount_fen, bank_account)

        answer, replayed, _ = await idempotency.once(self._pool, request, check=check, work=hold)
        if not replayed:
            await watch.freeze_if_large(self._freezes, self._settings, user_id, amount_fen, what=watch.WITHDRAWAL)
        return Asked(Withdrawal(**answer), replayed)

    async def _admit(self, connection: Connection, user_id: str, amount_fen: int, address: str) -> None:
        """Refuse a user who may not withdraw from this address, and raise alerts for suspicious withdrawals."""
        if (await lock_wallet(connection, user_id)).frozen:
            raise FrozenError("This account is frozen and cannot withdraw.")
        await limits.check_address(connection, user_id, address)
        at_ms = await now_ms(connection)
        await watch.look(
            connection, self._settings, user_id, amount_fen, what=watch.WITHDRAWAL, address=address, at_ms=at_ms
        )

    async def _hold(self, connection: Connection, user_id: str, amount_fen: int, bank_account: str) -> dict[str, Any]:
        wallet = await lock_wallet(connection, user_id)
        at_ms = await now_ms(connection)
        used_fen = await connection.fetchval(SQL["free_used"], user_id)
        free_fen, fee_fen = cost_of(amount_fen, used_fen, self._settings)
        held_fen = amount_fen + fee_fen
        transfer_id = await move(
            connection, "withdrawal", payer=wallet.account_id, payee=PAYOUT_ACCOUNT, amount_fen=held_fen, at_ms=at_ms
        )
        if transfer_id is None:
            raise InsufficientFundsError(
                f"The wallet holds less than the amount and its fee of {fee_fen} fen.", "amount_fen"
            )
        terms = (user_id, amount_fen, fee_fen, free_fen, bank_account, transfer_id, at_ms)
        return {
            "withdrawal_id": str(await connection.fetchval(SQL["add"], *terms)),
            "user_id": user_id,
            "amount_fen": amount_fen,
            "fee_fen": fee_fen,
            "free_fen": free_fen,
            "bank_account": bank_account,
            "state": WithdrawalState.PROCESSING.value,
            "failure": None,
            "transfer_id": str(transfer_id),
            "asked_at_ms": at_ms,
            "ended_at_ms": None,
        }

    async def get(self, user_id: str, withdrawal_id: int) -> Withdrawal:
        """One of a user's withdrawals as it is now. Raises UnknownWithdrawalError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["withdrawal"], user_id, withdrawal_id)
        if row is None:
            raise UnknownWithdrawalError("The user has no withdrawal with this number.")
        return _withdrawal(row)

    async def of(self, user_id: str, *, after: str | None, limit: int) -> WithdrawalsPage:
        """A user's withdrawals, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_user"], user_id, below, limit + 1)
        withdrawals = [_withdrawal(row) for row in rows[:limit]]
        return WithdrawalsPage(
            withdrawals=withdrawals, next=withdrawals[-1].withdrawal_id if len(rows) > limit else None
        )


def _withdrawal(row: asyncpg.Record) -> Withdrawal:
    numbers = {"withdrawal_id": str(row["withdrawal_id"]), "transfer_id": str(row["transfer_id"])}
    return Withdrawal(**{**row, **numbers, "state": WithdrawalState(row["state"])})
