"""The cluster checks of `hongbao doctor`, for each master that holds a lane."""

from collections.abc import Mapping

from redis.asyncio import Redis

from engine.doctor.lines import Line, ok, problem, warning
from engine.doctor.redis_checks import config_of
from engine.lanes.clients import command
from engine.records import Ack
from engine.settings import Settings

_NODE_TIMEOUT_MS_MAX = 5_000
_NAMES = ("cluster-require-full-coverage", "cluster-node-timeout", "min-replicas-to-write")


async def examine(client: Redis, settings: Settings) -> list[Line]:
    """Check what decides how lanes fail over. Raises RedisError or OSError if the server does not answer."""
    told = await config_of(client, _NAMES)
    if not told:
        return [warning("redis cluster", "its settings are not reported", "Compare them with docs/operations.md.")]
    replicas = int((await command(client, "INFO", "replication"))["connected_slaves"])
    return [_replicas(replicas), _coverage(told), _timeout(told), *_least_replicas(told, settings)]


def _replicas(replicas: int) -> Line:
    if not replicas:
        return warning("redis replicas", "none", "Give this master a replica: if it is lost, its lanes wait for it.")
    return ok("redis replicas", f"{replicas} would take over")


def _coverage(told: Mapping[str, str]) -> Line:
    found = f"cluster-require-full-coverage {told.get('cluster-require-full-coverage')}"
    if told.get("cluster-require-full-coverage") != "no":
        return problem("redis coverage", found, "Set it to no: one lost master would stop all lanes.")
    return ok("redis coverage", found)


def _timeout(told: Mapping[str, str]) -> Line:
    timeout_ms = int(told.get("cluster-node-timeout", 0))
    found = f"cluster-node-timeout {timeout_ms} ms"
    if timeout_ms > _NODE_TIMEOUT_MS_MAX:
        advice = f"Set at most {_NODE_TIMEOUT_MS_MAX}: the lanes of a lost master wait longer than that."
        return warning("redis node timeout", found, advice)
    return ok("redis node timeout", found)


def _least_replicas(told: Mapping[str, str], settings: Settings) -> list[Line]:
    """A master that is cut off from its replicas goes on accepting claims until its cluster replaces it."""
    if settings.ack is not Ack.MEMORY:
        return []  # what it accepts then is not acknowledged
    least = int(told.get("min-replicas-to-write", 0))
    found = f"min-replicas-to-write {least}, HONGBAO_ACK=memory"
    if not least:
        advice = "Set 1: a master that is cut off from its replicas then refuses claims that would be lost."
        return [warning("redis cut off", found, advice)]
    return [ok("redis cut off", found)]
