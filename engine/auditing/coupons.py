"""The audit of coupons: what the ledger counts is what these tables say, coupon by coupon."""

from engine.auditing.books import SQL, Result, Scope
from engine.ledger.database import Connection

_PARTS = ("not_uploaded", "unsent", "in_packets", "held", "redeemed", "void", "expired", "written_off")


async def coupons_match_holdings(connection: Connection, _scope: Scope) -> Result:
    """A user has as many units of a batch as coupons. Its owner also has those that are not sent."""
    problems = [
        f"{row['owner']} has {row['units']} units of {row['asset']}, and {row['coupons']} coupons"
        for row in await connection.fetch(SQL["wrong_coupon_holdings"])
    ]
    problems += [
        f"packet {row['packet_id']}: {row['claims']} coupons were claimed, {row['coupons']} were given"
        for row in await connection.fetch(SQL["wrong_coupon_claims"])
    ]
    return await connection.fetchval(SQL["coupons"]), problems


async def coupon_batches_add_up(connection: Connection, _scope: Scope) -> Result:
    """A batch's coupons are where its statement says, none is in two places, and each end has its entry."""
    problems, rows = [], await connection.fetch(SQL["coupon_batches"])
    for row in rows:
        found = sum(row[part] for part in _PARTS)
        if found != row["count"] or row["issued"] != row["count"]:
            told = ", ".join(f"{row[part]} {part.replace('_', ' ')}" for part in _PARTS if row[part])
            problems.append(f"batch {row['batch_id']}: of {row['count']} coupons {row['issued']} were issued; {told}")
        for part, kind in (("redeemed", "redeem"), ("void", "coupon_void"), ("expired", "coupon_expire")):
            if row[part] != row[kind]:
                problems.append(f"batch {row['batch_id']}: {row[part]} coupons are {part}, entries say {row[kind]}")
    problems += [
        f"batch {row['batch_id']}: coupon {row['number']} was given, and is free"
        for row in await connection.fetch(SQL["free_and_given"])
    ]
    return len(rows), problems
