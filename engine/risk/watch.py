"""Watching movements of money: a large one, one from a network that is new for its user, many within a minute.

Each is an alert in the transaction of the movement that it is about. Above a threshold the account is frozen as well,
in a separate transaction after the movement's, because a freeze must be made before any wallet is locked.
"""

import ipaddress
from collections.abc import Sequence

import structlog

from engine.errors import UnavailableError
from engine.ledger.database import Connection
from engine.observability.repeats import repeats
from engine.queries import load
from engine.risk import alerts
from engine.risk.freezes import Freezes
from engine.settings import Settings

LOG = structlog.get_logger()
SQL = load("watch")
FROZEN_BY = "rule:large_movement"
WITHDRAWAL = "withdrawal"
PLACES_MAX = 100
"""How many networks are remembered per user: the most recent ones."""
_V4_PREFIX, _V6_PREFIX = 24, 64


async def look(
    connection: Connection,
    settings: Settings,
    user_id: str,
    amount_fen: int,
    *,
    what: str,
    address: str,
    at_ms: int,
    others_fen: Sequence[int] = (),
) -> None:
    """Write alerts, inside the transaction of a movement and before it is written.

    ``what``: the kind of movement; ``address``: where the request comes from, empty if unknown. ``others_fen``: the
    amounts of other movements of its kind in the same transaction.
    """
    network = network_of(address) if settings.alert_new_place else None
    most = 0 if what == WITHDRAWAL else settings.alert_sends_a_minute_max
    before = max(0, most - len(others_fen)) if most else None
    (row,) = await connection.fetch(SQL["look"], user_id, network, at_ms, before)
    is_delivered = settings.webhook_url is not None
    for large_fen in (fen for fen in (amount_fen, *others_fen) if 0 < settings.alert_large_fen <= fen):
        details: dict[str, object] = {"what": what, "amount_fen": large_fen}
        await alerts.note(connection, "large_movement", user_id, is_delivered=is_delivered, **details)
    if row["is_new_place"]:
        await connection.execute(SQL["forget_places"], user_id, PLACES_MAX)
        await alerts.note(connection, "new_place", user_id, is_delivered=is_delivered, what=what, network=network)
    if row["is_burst"]:
        await alerts.note(
            connection, "burst", user_id, is_delivered=is_delivered, sent_in_a_minute=max(most, len(others_fen)) + 1
        )


async def freeze_if_large(freezes: Freezes, settings: Settings, user_id: str, amount_fen: int, *, what: str) -> None:
    """Freeze an account after a movement above the threshold. A failure is only logged, because the alert is there."""
    if not 0 < settings.freeze_large_fen <= amount_fen:
        return
    try:
        await freezes.freeze(user_id, reason=f"a {what} of {amount_fen} fen", frozen_by=FROZEN_BY)
    except UnavailableError as error:
        if times := repeats.times(("not_frozen", user_id), str(error)):
            LOG.error("not_frozen", user_id=user_id, error=str(error), times=times)


def network_of(address: str) -> str | None:
    """The network of an address: its /24, or its /64 of IPv6. None if it is not an address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    prefix = _V4_PREFIX if found.version == 4 else _V6_PREFIX
    return str(ipaddress.ip_network((found, prefix), strict=False))
