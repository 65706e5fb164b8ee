"""The Redis checks of `hongbao doctor`: can it do what the engine needs, and do its settings keep all data?"""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.doctor.lines import Line, megabytes, ok, problem, warning
from engine.errors import HongbaoError, UnavailableError
from engine.lanes.clients import command
from engine.lanes.durability import fsync_by
from engine.lanes.topology import Node
from engine.lanes.trial import try_scripts
from engine.records import Ack
from engine.settings import Settings

_VERSION_MIN = (6, 2)
"""XTRIM MINID and ZRANGE BYSCORE."""
_PINGS = 7
_PING_MS_MAX = 5.0
_MEMORY_SHARE_WARNING, _MEMORY_SHARE_PROBLEM = 0.75, 0.9
_CLIENTS_SHARE_MAX = 0.9

Facts = Mapping[str, Any]


async def examine(node: Node, settings: Settings) -> list[Line]:
    """Check the server itself. Raises RedisError or OSError if it does not answer."""
    client = node.client
    facts: dict[str, Any] = {**await command(client, "INFO", "everything")}
    settings_of_server = await config_of(client, ("appendfsync", "maxclients"))
    return [
        _version(facts),
        await _scripts(node),
        await _ping(client),
        _role(facts),
        _memory(facts),
        _eviction(facts),
        *_append_only_file(facts, settings_of_server),
        await _acknowledging(client, facts, settings),
        _clients(facts, settings_of_server),
    ]


async def config_of(client: Redis, names: Sequence[str]) -> dict[str, str]:
    """Some of the server's settings. Empty if it does not show them (managed services often do not)."""
    found: dict[str, str] = {}
    for name in names:
        try:
            told: Any = await command(client, "CONFIG", "GET", name)
        except RedisError:
            return {}
        pairs = told.items() if isinstance(told, Mapping) else zip(told[::2], told[1::2], strict=True)
        found |= {_text(key): _text(value) for key, value in pairs}
    return found


def _text(word: str | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _version(facts: Facts) -> Line:
    said = str(facts["redis_version"])
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {said}"
    numbers = tuple(int(part) for part in said.split(".")[:2])
    if numbers < _VERSION_MIN:
        return problem("redis version", name, "Upgrade it to 6.2 or newer: the scripts use commands it lacks.")
    return ok("redis version", name)


async def _scripts(node: Node) -> Line:
    try:
        await try_scripts(node.client, node.lane)
    except UnavailableError as error:
        return problem("redis scripts", str(error), "Until then every claim is refused.")
    return ok("redis scripts", "each has run on a trial lane")


async def _ping(client: Redis) -> Line:
    taken = []
    for _ in range(_PINGS):
        start_s = time.perf_counter()
        await command(client, "PING")
        taken.append((time.perf_counter() - start_s) * 1_000)
    found = f"median {statistics.median(taken):.2f} ms, longest {max(taken):.2f} ms of {_PINGS}"
    if statistics.median(taken) > _PING_MS_MAX:
        return warning("redis latency", found, "Put the API nearer to Redis, or find what slows it (SLOWLOG GET).")
    return ok("redis latency", found)


def _role(facts: Facts) -> Line:
    role, replicas = str(facts["role"]), int(facts.get("connected_slaves", 0))
    if role != "master":
        return problem("redis role", "a replica", "Point HONGBAO_REDIS_URL to the primary: a replica takes no writes.")
    return ok("redis role", f"primary with {replicas} replica{'' if replicas == 1 else 's'}")


def _memory(facts: Facts) -> Line:
    used, bound = int(facts["used_memory"]), int(facts.get("maxmemory", 0))
    of = "maxmemory" if bound else "the machine's memory"
    bound = bound or int(facts.get("total_system_memory", 0))
    if not bound:
        return ok("redis memory", f"{megabytes(used)} used")
    found = f"{megabytes(used)} of {megabytes(bound)} ({of})"
    advice = "Give it more memory, or lower HONGBAO_BACKLOG_MAX and settled packets' retention."
    if used > bound * _MEMORY_SHARE_PROBLEM:
        return problem("redis memory", found, advice)
    if used > bound * _MEMORY_SHARE_WARNING:
        return warning("redis memory", found, advice)
    return ok("redis memory", found)


def _eviction(facts: Facts) -> Line:
    policy = str(facts.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return ok("redis eviction", policy)
    return problem(
        "redis eviction",
        policy,
        "Set maxmemory-policy noeviction: an evicted key is a user's share, or the record of it.",
    )


def _append_only_file(facts: Facts, told: Mapping[str, str]) -> Iterator[Line]:
    if facts.get("loading"):
        yield problem("redis loading", "it is reading its data", "Wait: until it is done it answers nothing.")
    if not int(facts.get("aof_enabled", 0)):
        yield problem("redis log", "off", "Set appendonly yes: otherwise a restart loses claims not yet in the ledger.")
        return
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if (status := str(facts.get(name, "ok"))) != "ok":
            yield problem("redis log", f"{name} is {status}", "Look at its disk: it cannot write its append-only file.")
            return
    fsync = told.get("appendfsync")
    if fsync is None:
        yield warning("redis log", "on; its appendfsync is not reported", "Make sure that appendfsync is not `no`.")
    elif fsync == "no":
        yield warning(
            "redis log", "on, appendfsync no", "Set appendfsync everysec: a power cut loses up to 30 seconds."
        )
    else:
        yield ok("redis log", f"on, appendfsync {fsync}")


async def _acknowledging(client: Redis, facts: Facts, settings: Settings) -> Line:
    """Check that the server can do what HONGBAO_ACK requires."""
    name, found = "acknowledging", f"HONGBAO_ACK={settings.ack.value}"
    if settings.ack is Ack.FSYNC:
        try:
            by = await fsync_by(client)
        except HongbaoError as error:
            return problem(name, f"{found}: {error}", "Change Redis's settings, or choose another HONGBAO_ACK.")
        return ok(name, f"{found}, by {by.name}")
    replicas = int(facts.get("connected_slaves", 0))
    if settings.ack is Ack.REPLICA and replicas < settings.ack_replicas:
        return problem(
            name, f"{found}, {replicas} of {settings.ack_replicas} replicas", "Connect the replicas: claims answer 503."
        )
    return ok(name, found)


def _clients(facts: Facts, told: Mapping[str, str]) -> Line:
    connected, bound = int(facts.get("connected_clients", 0)), int(told.get("maxclients", 0))
    found = f"{connected} connected" + (f" of {bound}" if bound else "")
    if bound and connected > bound * _CLIENTS_SHARE_MAX:
        return warning("redis clients", found, "Raise maxclients: new processes would be refused.")
    return ok("redis clients", found)
