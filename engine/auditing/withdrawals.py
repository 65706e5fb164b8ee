"""The audit of withdrawals: the payout account holds the open ones, and each has moved what its state says."""

from engine.auditing.books import SQL, Result, Scope
from engine.ledger.database import Connection


async def withdrawals_add_up(connection: Connection, scope: Scope) -> Result:
    """An open withdrawal is held. Then the bank has the amount and we have the fee, or everything is back."""
    problems = []
    account = await connection.fetchrow(SQL["payout_account"])
    if account is None:
        problems.append("there is no payout account")
    elif account["held_fen"] != account["processing_fen"]:
        problems.append(
            f"the payout account holds {account['held_fen']} fen, for the open withdrawals it should be "
            f"{account['processing_fen']}"
        )
    problems += [
        f"withdrawal {row['withdrawal_id']} is {row['state']}, but its {row['kind']} of {row['fen']} fen is not "
        f"what entry {row['transfer_id']} says"
        for row in await connection.fetch(SQL["wrong_withdrawals"], *scope.ids)
    ]
    problems += [
        f"entry {row['transfer_id']}, a {row['kind']} of {row['amount_fen']} fen, belongs to no withdrawal"
        for row in await connection.fetch(SQL["stray_payouts"], *scope.ids)
    ]
    return await connection.fetchval(SQL["withdrawals"], *scope.ids), problems
