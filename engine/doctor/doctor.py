"""`hongbao doctor`: checks what is configured, reachable and safe. It prints one line per check, with advice.

It changes nothing and starts nothing. It always prints lines, whatever a server does: a failed check is a line, too.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from redis.exceptions import RedisError

from engine.doctor import lane_checks, machine_checks, postgres_checks, redis_checks
from engine.doctor.lines import Level, Line, ok, place_of, problem, without_secrets
from engine.doctor.postgres_checks import SQL
from engine.errors import HongbaoError
from engine.lanes.clients import check_redis
from engine.lanes.reader import clock_ms
from engine.lanes.topology import Topology, reading
from engine.ledger.database import database_connection
from engine.ledger.failures import DATABASE_ERRORS
from engine.settings import Settings

_ERRORS = (HongbaoError, RedisError, *DATABASE_ERRORS)
_UNREADABLE = (KeyError, ValueError, TypeError)
"""Errors that follow from an answer of unknown form."""
_START = "Start it, or correct {}."


def is_healthy(lines: list[Line]) -> bool:
    """Whether there is no problem. Warnings are not problems."""
    return not any(line.level is Level.PROBLEM for line in lines)


async def examine(settings: Settings, *, is_embedded: bool) -> list[Line]:
    """Check everything. ``is_embedded``: the servers are those of the data directory, on this machine's disk."""
    lines = list(machine_checks.examine(settings, is_embedded=is_embedded))
    async with _redis(settings, lines) as topology, _postgres(settings, lines) as connection:
        for node in () if topology is None else topology.nodes:
            await _add(lines, settings, "redis", redis_checks.examine(node.client, settings))
            asked = machine_checks.clock("redis clock", partial(clock_ms, node))
            await _add(lines, settings, "redis clock", _one(asked))
        if connection is not None:
            await _add(lines, settings, "postgres", postgres_checks.examine(connection, settings))
            asked = machine_checks.clock("postgres clock", lambda: connection.fetchval(SQL["now_ms"]))
            await _add(lines, settings, "postgres clock", _one(asked))
        if topology is not None and connection is not None:
            await _add(lines, settings, "lanes", lane_checks.examine(connection, topology, settings))
    return lines


async def _one(asked: Awaitable[Line]) -> list[Line]:
    return [await asked]


async def _add(lines: list[Line], settings: Settings, name: str, asked: Awaitable[list[Line]]) -> None:
    """Append the lines of a part, or a line that it could not be checked."""
    try:
        lines += await asked
    except (*_ERRORS, *_UNREADABLE) as error:
        why = without_secrets(str(error) or type(error).__name__, settings.redis_url, settings.database_url)
        lines.append(problem(name, f"it cannot be examined: {why}", "See the server's log."))


@asynccontextmanager
async def _redis(settings: Settings, lines: list[Line]) -> AsyncIterator[Topology | None]:
    if settings.redis_url is None:
        lines.append(
            problem("redis", "not configured, and no `hongbao up` runs it", _START.format("HONGBAO_REDIS_URL"))
        )
        yield None
        return
    try:
        topology = reading(settings.redis_url, timeout_s=settings.redis_timeout_s)
    except HongbaoError as error:
        lines.append(problem("redis", without_secrets(str(error), settings.redis_url), "Correct HONGBAO_REDIS_URL."))
        yield None
        return
    try:
        try:
            for node in topology.nodes:
                await check_redis(node.client)
        except HongbaoError as error:
            why = without_secrets(str(error), settings.redis_url)
            lines.append(problem("redis", f"{place_of(settings.redis_url)}: {why}", _START.format("HONGBAO_REDIS_URL")))
            yield None
            return
        lines.append(ok("redis", place_of(settings.redis_url)))
        yield topology
    finally:
        await topology.aclose()


@asynccontextmanager
async def _postgres(settings: Settings, lines: list[Line]) -> AsyncIterator[asyncpg.Connection | None]:
    advice = _START.format("HONGBAO_DATABASE_URL")
    if settings.database_url is None:
        lines.append(problem("postgres", "not configured, and no `hongbao up` runs it", advice))
        yield None
        return
    try:
        connection = await database_connection(settings.database_url)
    except HongbaoError as error:
        why = without_secrets(str(error), settings.database_url)
        lines.append(problem("postgres", f"{place_of(settings.database_url)}: {why}", advice))
        yield None
        return
    lines.append(ok("postgres", place_of(settings.database_url)))
    try:
        yield connection
    finally:
        connection.terminate()
