"""The Postgres checks of `hongbao doctor`: is it this release's ledger, and does a commit stay committed?"""

from collections.abc import Iterator, Mapping

import asyncpg

from engine.coupons import keys as coupon_keys
from engine.coupons.batches import keys_in_use
from engine.doctor.lines import Level, Line, megabytes, ok, problem, warning
from engine.ids import FIRST_VOLUME, LAST_VOLUME
from engine.ledger import schema, volumes
from engine.ledger.currency import why_another
from engine.ledger.pooler import why_pooled
from engine.ledger.trial import why_not_written
from engine.queries import load
from engine.settings import Settings

SQL = load("doctor")
_VERSION_MIN = 140_000
_CONNECTIONS_SHARE_MAX = 0.9
_VOLUMES_LEFT_MIN = 8
_OVERFULL_SHARE = 0.5
"""A sweeper looks every few seconds, and waits while the ledger is in use."""


async def examine(connection: asyncpg.Connection, settings: Settings) -> list[Line]:
    """Check the server and its schema. Raises asyncpg's errors if it does not answer."""
    told = {row["name"]: row["setting"] for row in await connection.fetch(SQL["settings"])}
    (state,) = await connection.fetch(SQL["state"])
    lines = [_version(told), await _schema(connection), *_durable(told), _connections(told, state, settings)]
    if lines[1].level is Level.OK:
        lines += [await _currency(connection, settings), await _volumes(connection, settings)]
        lines += await _coupon_keys(connection, settings)
    if state["is_replica"]:
        advice = "Point HONGBAO_DATABASE_URL to the primary: a replica takes no writes."
        return [*lines, problem("postgres role", "a replica", advice)]
    if (why := await why_pooled(settings.database_url or "", connection)) is not None:
        lines.append(problem("postgres sessions", "shared by a pooler", why))
    else:
        lines.append(ok("postgres sessions", "each connection has its own"))
    if (why := await why_not_written(connection)) is not None:
        lines.append(problem("postgres writes", "refused", why))
    else:
        lines.append(ok("postgres writes", "allowed"))
    if settings.standbys:
        lines.append(await _standbys(connection, settings.standbys))
    lines.append(ok("postgres role", f"primary, wal_level {told['wal_level']}, {megabytes(state['size_bytes'])}"))
    return lines


def _version(told: Mapping[str, str]) -> Line:
    found = f"Postgres {told['server_version']}"
    if int(told["server_version_num"]) < _VERSION_MIN:
        return problem("postgres version", found, "Upgrade it to 14 or newer.")
    return ok("postgres version", found)


async def _schema(connection: asyncpg.Connection) -> Line:
    known = await connection.fetchval(SQL["has_schema"])
    current = await connection.fetchval(SQL["version"]) if known else 0
    latest = schema.migrations()[-1][0]
    found = f"version {current}, this release has {latest}"
    if current < latest:
        return problem("postgres schema", found, "Stop the processes and run `hongbao migrate`.")
    if current > latest:
        return problem("postgres schema", found, "Upgrade hongbao: a newer release has written here.")
    return ok("postgres schema", f"version {current}")


async def _currency(connection: asyncpg.Connection, settings: Settings) -> Line:
    if (why := await why_another(connection, settings.currency)) is not None:
        return problem("currency", why, "No process starts until then.")
    return ok("currency", settings.currency)


async def _volumes(connection: asyncpg.Connection, settings: Settings) -> Line:
    filled = await volumes.filled(connection)
    full = settings.volume_entries or filled.fitting
    number, of = filled.volume - FIRST_VOLUME + 1, LAST_VOLUME - FIRST_VOLUME + 1
    found = f"{number} of {of}, the last has {filled.entries:,} of {full:,} entries"
    if number > of - _VOLUMES_LEFT_MIN:
        advice = "After the last one, claims cost more the older the ledger is: make volumes larger, with more memory."
        return warning("ledger volumes", found, advice)
    if filled.entries > full + full * _OVERFULL_SHARE:
        return warning("ledger volumes", found, "Start a sweeper: it begins the next volume.")
    return ok("ledger volumes", found)


async def _coupon_keys(connection: asyncpg.Connection, settings: Settings) -> list[Line]:
    """Whether the keys of all batches of coupons are in force here. Nothing if there is no batch."""
    named = await keys_in_use(connection)
    if not named:
        return []
    if missing := coupon_keys.load(settings).missing(named):
        advice = "Add them to HONGBAO_COUPON_KEYS of all API processes: without them codes cannot be shown or redeemed."
        return [warning("coupon keys", f"missing here: {', '.join(missing)}", advice)]
    return [ok("coupon keys", ", ".join(named))]


def _durable(told: Mapping[str, str]) -> Iterator[Line]:
    """If a crash could undo a commit, a claim that was trimmed from the stream would vanish."""
    risks = {
        "fsync": ("off", "a power cut corrupts the whole database"),
        "full_page_writes": ("off", "a power cut may corrupt pages"),
        "synchronous_commit": ("off", "a crash undoes commits whose events Redis has dropped"),
    }
    for name, (wrong, why) in risks.items():
        if told[name] == wrong:
            yield problem(f"postgres {name}", wrong, f"Set it on: {why}.")
        else:
            yield ok(f"postgres {name}", told[name])


async def _standbys(connection: asyncpg.Connection, wanted: int) -> Line:
    """Redis drops nothing that fewer standbys have, so its lanes would fill up."""
    ((seen, hidden),) = await connection.fetch(SQL["standbys"])
    found = f"{seen} of {wanted} standbys follow (HONGBAO_STANDBYS)"
    if hidden:
        advice = "Grant our user pg_monitor: it may not see what the standbys have, so Redis keeps everything."
        return problem("postgres standbys", f"{found}, {hidden} hidden", advice)
    if seen < wanted:
        advice = "Connect them, or lower HONGBAO_STANDBYS: until then Redis keeps everything, and its lanes fill up."
        return problem("postgres standbys", found, advice)
    return ok("postgres standbys", found)


def _connections(told: Mapping[str, str], state: asyncpg.Record, settings: Settings) -> Line:
    bound = int(told["max_connections"]) - int(told["superuser_reserved_connections"])
    found = f"{state['connections']} of {bound} used; each of our processes takes up to {settings.database_pool_max}"
    if state["connections"] + settings.database_pool_max > bound * _CONNECTIONS_SHARE_MAX:
        return warning("postgres connections", found, "Raise max_connections, or lower HONGBAO_DATABASE_POOL_MAX.")
    return ok("postgres connections", found)
