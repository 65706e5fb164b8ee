"""Moves money in the ledger without a lane's event: withdrawals, fees, corrections.

A wallet's row is locked before its balance is read and changed. So if two requests spend the same fen, or one pays
while another freezes, the second sees what the first did.
"""

from typing import NamedTuple

import asyncpg

from engine.ledger.database import Connection
from engine.queries import load

SQL = load("money")
BANK_ACCOUNT, FEE_ACCOUNT, PAYOUT_ACCOUNT = 1, 2, 4
"""Accounts that always exist: the outside world, the fees, and money on its way to a bank."""


class WalletRow(NamedTuple):
    """A wallet that is locked until the transaction ends. ``sending_frozen_until_ms`` None: it never was."""

    account_id: int
    balance_fen: int
    frozen: bool
    sending_frozen_until_ms: int | None


async def lock_wallet(connection: Connection, user_id: str) -> WalletRow:
    """Lock a user's wallet inside the caller's transaction. Creates it if it is missing.

    To lock two wallets, start with the smaller ``account_id``, or let ``move`` do it.
    """
    row = await connection.fetchrow(SQL["lock_wallet"], user_id)
    if row is None:
        await connection.execute(SQL["create_wallet"], user_id)
        row = await connection.fetchrow(SQL["lock_wallet"], user_id)
    if row is None:
        raise AssertionError("a wallet that was made in this transaction is there")
    return WalletRow(**row)


async def move(connection: Connection, kind: str, *, payer: int, payee: int, amount_fen: int, at_ms: int) -> int | None:
    """Move money between two accounts. Returns the entry's number, or None if the payer holds too little."""
    transfer_id: int | None = await connection.fetchval(SQL["move"], kind, payer, payee, amount_fen, at_ms)
    return transfer_id


async def now_ms(connection: asyncpg.Pool | Connection) -> int:
    """Postgres's clock."""
    at_ms: int = await connection.fetchval(SQL["now_ms"])
    return at_ms
