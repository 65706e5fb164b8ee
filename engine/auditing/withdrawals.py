"""The audit of withdrawals: the payout account holds what is processed, and each moved what its state says."""

from collections.abc import Sequence

import asyncpg

from engine.auditing.books import SQL, Result
from engine.ledger.database import Connection


async def withdrawals_add_up(connection: Connection, _packets: Sequence[asyncpg.Record]) -> Result:
    """Held while it is processed; then the amount is the bank's and the fee ours, or everything is back."""
    problems = []
    account = await connection.fetchrow(SQL["payout_account"])
    if account is None:
        problems.append("there is no payout account")
    elif account["held_fen"] != account["processing_fen"]:
        problems.append(
            f"the payout account holds {account['held_fen']} fen, of what is processed it should be "
            f"{account['processing_fen']}"
        )
    problems += [
        f"withdrawal {row['withdrawal_id']} is {row['state']}, but its {row['kind']} of {row['fen']} fen is not "
        f"what transfer {row['transfer_id']} says"
        for row in await connection.fetch(SQL["wrong_withdrawals"])
    ]
    problems += [
        f"transfer {row['transfer_id']}, a {row['kind']} of {row['amount_fen']} fen, is of no withdrawal"
        for row in await connection.fetch(SQL["stray_payouts"])
    ]
    return await connection.fetchval(SQL["withdrawals"]), problems
