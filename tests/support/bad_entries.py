"""Bad entries in the stream of a lane: put there, seen by everybody who should see them, set aside."""

from collections.abc import Sequence

import msgspec

from engine.auditing.audit import audit
from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.engine import Engine
from engine.errors import OperatorError
from engine.lanes import keys
from engine.lanes.clients import command
from engine.observability import metrics
from engine.persisting.quarantine import Quarantine
from engine.recovery.recovery import mend
from tests.support.scenes import checkpoints, positions

NEWER = msgspec.msgpack.encode(["claims", 2, 1, {"of": "another form"}])
Fields = Sequence[str | bytes]


async def put_foreign(engine: Engine, fields: Fields = ("event", b"garbage"), *, ahead: int = 1, lane: int = 0) -> str:
    """Somebody writes to the stream, further on than the lane is; the entry's ID."""
    entry_id = f"{(await positions(engine))[lane] + ahead}-0"
    await command(engine.redis, "XADD", keys.events(lane), entry_id, *fields)
    return entry_id


async def put_counted(engine: Engine, fields: Fields = ("event", b"garbage"), *, changes: int = 1) -> str:
    """The same, and the lane has counted it; the entry's ID."""
    entry_id = await put_foreign(engine, fields, ahead=changes)
    await engine.redis.hset(keys.lane(0), "position", int(entry_id.partition("-")[0]))
    return entry_id


async def spoil(engine: Engine, entry_id: str, payload: bytes, lane: int = 0) -> None:
    """Put another payload into an entry of the lane's own, where it is."""
    redis, name = engine.redis, keys.events(lane)
    entries = await command(redis, "XRANGE", name, "-", "+")
    await redis.delete(name)
    assert entry_id.encode() in {entry[0] for entry in entries}
    for found, fields in entries:
        words = ("event", payload) if found == entry_id.encode() else [part for pair in fields.items() for part in pair]
        await command(redis, "XADD", name, found, *words)


async def last_entry(engine: Engine, lane: int = 0) -> str:
    """The ID of the newest entry."""
    ((entry_id, _),) = await command(engine.redis, "XREVRANGE", keys.events(lane), "+", "-", "COUNT", 1)
    return str(entry_id.decode())


async def wrong(engine: Engine) -> dict[str, tuple[str, ...]]:
    """What the audit finds, by invariant."""
    findings = await audit(engine.pool, engine.store, engine.stream)
    return {finding.invariant: finding.problems for finding in findings if not finding.holds}


async def gauge(engine: Engine, lane: int = 0) -> float:
    """Where a bad entry is, as a scrape shows it."""
    await engine.measure()
    return float(metrics.LANE_BAD_ENTRY.labels(str(lane))._value.get())


async def told(engine: Engine) -> dict[str, str]:
    """What each of those says of lane 0 that an operator may ask. None of them may raise anything else."""
    lines = {line.name: line for line in await examine(engine.settings, is_embedded=False)}
    assert lines["lane 1"].level is Level.OK
    try:
        await mend(engine.settings, engine.store, engine.stream, 0, force=False)
        recovery = "in order"
    except OperatorError as error:
        recovery = str(error)
    return {
        "readyz": " ".join(await engine.ready()),
        "doctor": lines["lane 0"].found if lines["lane 0"].level is Level.PROBLEM else "ok",
        "audit": " ".join((await wrong(engine)).get("stream_continues_ledger", ())),
        "recover": recovery,
        "metrics": f"{await gauge(engine):.0f}",
    }


async def set_aside(engine: Engine, entry_id: str, *, lane: int = 0, force: bool = False) -> str:
    """Set an entry aside as an operator does."""
    async with Quarantine.open(engine.settings) as quarantine:
        return await quarantine.set_aside(lane, entry_id, reason="a test", by="root", force=force)


async def write_all_off(engine: Engine) -> list[str]:
    """Write off what waits in quarantine; the reasons why it was there."""
    async with Quarantine.open(engine.settings) as quarantine:
        rows = [row async for row in quarantine.rows()]
        for row in rows:
            assert (await quarantine.write_off(row.quarantine_id, reason="a test", by="root")).resolved
        return [row.reason for row in rows]


async def behind(engine: Engine, lane: int = 0) -> int:
    """How many changes of a lane the ledger has not."""
    return (await positions(engine))[lane] - (await checkpoints(engine))[lane]
