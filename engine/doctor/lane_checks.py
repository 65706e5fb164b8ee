"""The lane checks of `hongbao doctor`: do Redis and the ledger agree, and how far is the ledger behind?"""

from typing import NamedTuple

import asyncpg

from engine.doctor.lines import Line, ok, problem, warning
from engine.lanes.reader import LaneReader, LaneStatus
from engine.lanes.stream import EventStream
from engine.lanes.topology import Node, Topology
from engine.persisting import lag
from engine.recovery.epochs import SQL as LANES
from engine.recovery.serving import Paused, why_paused
from engine.settings import Settings

_BACKLOG_SHARE_WARNING, _BACKLOG_SHARE_PROBLEM = 0.5, 0.9
_AGE_S_WARNING, _AGE_S_PROBLEM = 10.0, 60.0
_REBUILD = "It refuses claims until it is rebuilt from the ledger (docs/runbooks/redis-lost.md)."
_NAME = "Name one: its packets cannot be claimed until then."
_AWAY = "Its packets cannot be claimed until its server is back. The lanes of other servers are not affected."
_SET_ASIDE = "The ledger gets no later change until it is set aside (docs/runbooks/bad-entry.md)."


class Answering(NamedTuple):
    """The servers that answer, of all."""

    topology: Topology
    nodes: list[Node]


async def examine(connection: asyncpg.Connection, found: Answering, settings: Settings) -> list[Line]:
    """One line per lane, and one for the quarantine. Raises UnavailableError, or asyncpg's errors."""
    store, stream = LaneReader(found.topology), EventStream(found.topology)
    lines = []
    for row in await connection.fetch(LANES["all"]):
        if not found.topology.holds(row["lane"]):
            lines.append(problem(f"lane {row['lane']}", "HONGBAO_REDIS_URL names no server for it", _NAME))
            continue
        node = found.topology.node_of(row["lane"])
        await found.topology.locate(row["lane"])
        if not any(node.is_beside(other) for other in found.nodes):
            lines.append(problem(f"lane {row['lane']}", f"{node.name} does not answer", _AWAY))
            continue
        status = await store.lane_status(row["lane"])
        lines.append(await _lane(row, status, store, stream, settings))
    if not lines:
        lines.append(ok("lanes", "none yet: the first process that starts makes them"))
    total = sum((await lag.open_rows(connection)).values())
    if total:
        advice = "Run `hongbao quarantine list` (docs/runbooks/quarantine.md)."
        return [*lines, warning("quarantine", f"{total} change{'' if total == 1 else 's'} set aside", advice)]
    return [*lines, ok("quarantine", "empty")]


async def _lane(
    row: asyncpg.Record, status: LaneStatus | None, store: LaneReader, stream: EventStream, settings: Settings
) -> Line:
    name, checkpoint = f"lane {row['lane']}", row["position"]
    if not row["begun"]:
        return ok(name, "not used yet")
    look = await stream.look(row["lane"], checkpoint)
    if look.bad is not None:
        return problem(name, str(look.bad), _SET_ASIDE)
    if not look.is_stream:
        return problem(name, "Redis has a key of another type in the place of its stream", _REBUILD)
    paused = why_paused(row["epoch"], checkpoint, status)
    if status is None or paused is not None:
        return _paused(name, paused or Paused.LOST, checkpoint, 0 if status is None else status.position)
    oldest = look.oldest
    age_s = 0.0 if oldest is None else max(0, await store.now_ms(row["lane"]) - oldest.event.at_ms) / 1_000
    return _progress(name, checkpoint, status, age_s, settings)


def _paused(name: str, paused: Paused, checkpoint: int, position: int) -> Line:
    """Why a lane does not serve, and what to do."""
    match paused:
        case Paused.LOST:
            return problem(name, f"Redis has lost it; the ledger is at {checkpoint}", _REBUILD)
        case Paused.REBUILDING:
            return warning(name, "it is being rebuilt from the ledger", "Wait; if it stays, run `hongbao recover`.")
        case Paused.MOVING:
            advice = "Wait; if it stays, run `hongbao lanes move` again (docs/operations.md)."
            return warning(name, "it is being moved to another server", advice)
        case Paused.OTHER_EPOCH:
            return problem(name, "fenced: Redis and the ledger disagree about its epoch", _REBUILD)
        case Paused.SET_BACK:
            return problem(name, f"Redis is at {position}, behind the ledger at {checkpoint}", _REBUILD)
        case Paused.UNVERIFIED:
            found = "Redis was restarted, and nobody has compared the lane with the ledger since"
            return problem(name, found, "Start `hongbao persist`: it compares, and lets the lane serve again.")


def _progress(name: str, checkpoint: int, status: LaneStatus, age_s: float, settings: Settings) -> Line:
    backlog, bound = status.position - status.applied, settings.backlog_max
    found = (
        f"at {status.position}, ledger at {checkpoint}: {status.position - checkpoint} behind by {age_s:.1f} s; "
        f"backlog {backlog:,} of {bound:,}"
    )
    advice = "See whether `hongbao persist` runs and why it is slow (docs/runbooks/persister-behind.md)."
    if backlog > bound * _BACKLOG_SHARE_PROBLEM or age_s > _AGE_S_PROBLEM:
        return problem(name, found, advice)
    if backlog > bound * _BACKLOG_SHARE_WARNING or age_s > _AGE_S_WARNING:
        return warning(name, found, advice)
    return ok(name, found)
