"""`hongbao doctor`: checks what is configured, reachable and safe. It prints one line per check, with advice.

It changes nothing and starts nothing. It always prints lines, whatever a server does: a failed check is a line, too.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import asyncpg
from redis.exceptions import RedisError

from engine.doctor import cluster_checks, lane_checks, machine_checks, postgres_checks, redis_checks
from engine.doctor.lane_checks import Answering
from engine.doctor.lines import Level, Line, ok, place_of, problem, without_secrets
from engine.doctor.postgres_checks import SQL
from engine.errors import HongbaoError, UnavailableError
from engine.lanes.clients import check_redis
from engine.lanes.reader import clock_ms
from engine.lanes.topology import Node, Topology, reading
from engine.ledger.database import database_connection
from engine.ledger.failures import DATABASE_ERRORS
from engine.redis_servers import servers_in
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
    async with _redis(settings, lines) as found, _postgres(settings, lines) as connection:
        for node in () if found is None else found.nodes:
            await _add(lines, settings, _of(node, "redis"), _named(node, redis_checks.examine(node, settings)))
            if node.holder is not None:
                cluster = cluster_checks.examine(node.client, settings)
                await _add(lines, settings, _of(node, "redis cluster"), _named(node, cluster))
            asked = machine_checks.clock(_of(node, "redis clock"), partial(clock_ms, node))
            await _add(lines, settings, _of(node, "redis clock"), _one(asked))
        if connection is not None:
            await _add(lines, settings, "postgres", postgres_checks.examine(connection, settings))
            asked = machine_checks.clock("postgres clock", lambda: connection.fetchval(SQL["now_ms"]))
            await _add(lines, settings, "postgres clock", _one(asked))
        if found is not None and connection is not None:
            await _add(lines, settings, "lanes", lane_checks.examine(connection, found, settings))
    return lines


def _of(node: Node, name: str) -> str:
    """A check's name. With several servers, it says which one."""
    return f"{name} {node.place}".rstrip()


async def _named(node: Node, asked: Awaitable[list[Line]]) -> list[Line]:
    return [replace(line, name=_of(node, line.name)) for line in await asked]


async def _one(asked: Awaitable[Line]) -> list[Line]:
    return [await asked]


async def _add(lines: list[Line], settings: Settings, name: str, asked: Awaitable[list[Line]]) -> None:
    """Append the lines of a part, or a line that it could not be checked."""
    try:
        lines += await asked
    except (*_ERRORS, *_UNREADABLE) as error:
        urls = (*_redis_urls(settings), settings.database_url)
        why = without_secrets(str(error) or type(error).__name__, *urls)
        lines.append(problem(name, f"it cannot be examined: {why}", "See the server's log."))


@asynccontextmanager
async def _redis(settings: Settings, lines: list[Line]) -> AsyncIterator[Answering | None]:
    if settings.redis_url is None:
        lines.append(
            problem("redis", "not configured, and no `hongbao up` runs it", _START.format("HONGBAO_REDIS_URL"))
        )
        yield None
        return
    try:
        topology = reading(settings.redis_url, timeout_s=settings.redis_timeout_s)
    except HongbaoError as error:
        why = without_secrets(str(error), *_redis_urls(settings))
        lines.append(problem("redis", why, "Correct HONGBAO_REDIS_URL."))
        yield None
        return
    try:
        servers = await _servers(topology, settings, lines)
        answering = [server.node for server in servers if await _answers(server, settings, lines)]
        yield Answering(topology, answering) if answering else None
    finally:
        await topology.aclose()


class _Server(NamedTuple):
    """A node by which a server can be asked. ``lanes``: those that it holds, or None: all of them."""

    node: Node
    place: str
    lanes: Sequence[int] | None


async def _servers(topology: Topology, settings: Settings, lines: list[Line]) -> list[_Server]:
    """Each server of the setting, and each master of a cluster that holds lanes. Appends why a cluster cannot tell."""
    found: list[_Server] = []
    for server in servers_in(settings.redis_url or ""):
        lanes = server.lanes or range(settings.lanes)
        if not server.cluster:
            found.append(_Server(topology.node_of(lanes[0]), place_of(server.url), server.lanes))
            continue
        held: dict[str, list[int]] = {}
        try:
            for lane in lanes:
                await topology.locate(lane)
                held.setdefault(topology.node_of(lane).place, []).append(lane)
        except UnavailableError as error:
            why = without_secrets(str(error), *_redis_urls(settings))
            lines.append(problem("redis", f"{server.place}: {why}", _START.format("HONGBAO_REDIS_URL")))
            continue
        found += [_Server(topology.node_of(of_place[0]), place, of_place) for place, of_place in held.items()]
    return found


async def _answers(server: _Server, settings: Settings, lines: list[Line]) -> bool:
    """Whether a server answers. Appends a line about it."""
    name = _of(server.node, "redis")
    held = "" if server.lanes is None else f", lanes {', '.join(map(str, server.lanes))}"
    try:
        await check_redis(server.node.client)
    except HongbaoError as error:
        why = without_secrets(str(error), *_redis_urls(settings))
        lines.append(problem(name, f"{server.place}{held}: {why}", _START.format("HONGBAO_REDIS_URL")))
        return False
    lines.append(ok(name, f"{server.place}{held}"))
    return True


def _redis_urls(settings: Settings) -> list[str]:
    try:
        return [server.url for server in servers_in(settings.redis_url or "")]
    except ValueError:
        return [settings.redis_url or ""]


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
