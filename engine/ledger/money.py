"""Moving money in the ledger where no lane's event does: withdrawals, fees, corrections.

A wallet's row is locked before its money is looked at and moved; so of two who would spend the same fen, or of one who
pays and one who freezes, the second sees what the first did.
"""

from typing import NamedTuple

import asyncpg

from engine.ledger.database import Connection
from engine.queries import load

SQL = load("money")
BANK_ACCOUNT, FEE_ACCOUNT, PAYOUT_ACCOUNT = 1, 2, 4
"""Accounts that are always there: the outside world, what we earn, and money on its way to a bank."""


class WalletRow(NamedTuple):
    """A wallet that is locked until the transaction ends. ``sending_frozen_until_ms`` None: never was."""

    account_id: int
    balance_fen: int
    frozen: bool
    sending_frozen_until_ms: int | None


async def lock_wallet(connection: Connection, user_id: str) -> WalletRow:
    """Lock a user's wallet, made if it is not there, inside the caller's transaction.

    Of two wallets lock the one with the smaller ``account_id`` first, or let ``move`` do it.
    """
    row = await connection.fetchrow(SQL["lock_wallet"], user_id)
    if row is None:
        await connection.execute(SQL["create_wallet"], user_id)
        row = await connection.fetchrow(SQL["lock_wallet"], user_id)
    if row is None:
        raise AssertionError("a wallet that was made in this transaction is there")
    return WalletRow(**row)


async def move(connection: Connection, kind: str, *, payer: int, payee: int, amount_fen: int, at_ms: int) -> int | None:
    """Move money between two accounts; returns the transfer's number, None if the payer holds too little."""
    transfer_id: int | None = await connection.fetchval(SQL["move"], kind, payer, payee, amount_fen, at_ms)
    return transfer_id


async def now_ms(connection: asyncpg.Pool | Connection) -> int:
    """Postgres's clock."""
    at_ms: int = await connection.fetchval(SQL["now_ms"])
    return at_ms
