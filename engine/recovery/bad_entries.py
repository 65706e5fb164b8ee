"""Finds the first bad entry in a lane's stream, and whether the lane counted it.

The next event shows this. If it follows the event before the bad entry, the lane never counted the entry. If it begins
after the entry, the lane counted it, and the entry has replaced changes of the lane.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import WatchError

from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.entries import BadEntryError, Entry, Raw, entry_in, id_of, uncounted
from engine.lanes.failures import redis_errors
from engine.lanes.stream import EventStream

SET_ASIDE = "See docs/runbooks/bad-entry.md."


@dataclass(frozen=True, slots=True, kw_only=True)
class BadEntry:
    """A lane's first bad entry. ``before``: the position up to which there is no gap.

    ``changes``: how many of the lane's changes it replaces. 0: the lane never counted it.
    """

    error: BadEntryError
    raw: Raw
    before: int
    changes: int

    def __str__(self) -> str:
        """A sentence for operators."""
        counted = "the lane did not count it" if not self.changes else f"it replaces {self.changes} of its changes"
        return f"{str(self.error).removesuffix('.')} ({counted})"


async def first_bad(stream: EventStream, lane: int, checkpoint: int) -> BadEntry | None:
    """The first bad entry after the checkpoint. None if there is none, or if changes before it are gone."""
    reached = checkpoint
    suspect: tuple[Raw, BadEntryError] | None = None
    async for raw, position in _raw_entries(stream, lane, checkpoint):
        found = _judge(lane, raw, position)
        if suspect is not None:
            if isinstance(found, Entry):
                return _bad(*suspect, reached, found.position - found.event.changes)
        elif isinstance(found, BadEntryError):
            suspect = raw, found
        elif found.position - found.event.changes == reached:
            reached = found.position
        else:  # there is a gap: the lane did not write this event, or events before it are gone
            why = f"The lane's changes go on after {reached}, and this event does not."
            suspect = raw, BadEntryError(lane, raw.entry_id, why)
    if suspect is None:
        return None
    _, position = await stream.raw(lane, suspect[0].entry_id, 1)
    return _bad(*suspect, reached, reached if position is None else position)


async def _raw_entries(stream: EventStream, lane: int, after: int) -> AsyncIterator[tuple[Raw, int | None]]:
    """Each entry after a position, with the lane's own position at the time of reading."""
    last = f"{after}-0"
    while True:
        page, position = await stream.raw(lane, last)
        for raw in page:
            yield raw, position
        if not page:
            return
        last = page[-1].entry_id


def _judge(lane: int, raw: Raw, position: int | None) -> Entry | BadEntryError:
    try:
        entry = entry_in(lane, raw)
    except BadEntryError as error:
        return error
    if position is not None and entry.position > position:
        return uncounted(lane, raw.entry_id, position)
    return entry


def _bad(raw: Raw, error: BadEntryError, reached: int, goes_on: int) -> BadEntry | None:
    """``goes_on``: the position before the lane's next event or, without one, the lane's own position."""
    ends, sequence = id_of(raw.entry_id)
    is_counted = not sequence and reached < ends <= goes_on
    if is_counted and error.why.startswith("The lane's changes go on"):
        return None  # this event is correct, counted and in its place: events before it are missing
    return BadEntry(error=error, raw=raw, before=reached, changes=ends - reached if is_counted else 0)


async def clear_way(client: Redis, stream: EventStream, lane: int) -> bool:
    """Let a lane write again if a foreign entry has left its empty stream with a last ID beyond the lane's position.

    Redis remembers a stream's last ID as long as its key exists, so the empty key is removed. Returns False if there is
    nothing to do or the lane has written meanwhile. Only for the holder of the lane's lease. Raises UnavailableError.
    """
    if not (await stream.look(lane, 0)).stale:
        return False
    with redis_errors():
        async with client.pipeline(transaction=True) as pipeline:
            try:
                await pipeline.watch(keys.lane(lane), keys.events(lane))
                # If the key is removed, nobody has written since here.
                if await command(pipeline, "XLEN", keys.events(lane)) or not (await stream.look(lane, 0)).stale:
                    return False
                pipeline.multi()  # type: ignore[no-untyped-call]
                pipeline.execute_command("UNLINK", keys.events(lane))
                await pipeline.execute()
            except WatchError:
                return False
    return True
