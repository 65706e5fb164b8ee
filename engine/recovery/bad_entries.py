"""What stands in a lane's way in its stream: the first entry that does not belong there. Did the lane count it?

What follows tells: where the next event joins on to the one before the bad entry, the lane never counted it; where
the next one begins after it, the lane did, and the bad entry is in the place of changes that were given.
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
    """The first bad entry of a lane. ``before``: the position up to which everything joins on.

    ``changes``: how many of the lane's changes it is in the place of; 0: the lane never counted it.
    """

    error: BadEntryError
    raw: Raw
    before: int
    changes: int

    def __str__(self) -> str:
        """A sentence for people."""
        counted = "the lane did not count it" if not self.changes else f"it stands for {self.changes} of its changes"
        return f"{str(self.error).removesuffix('.')} ({counted})"


async def first_bad(stream: EventStream, lane: int, checkpoint: int) -> BadEntry | None:
    """The first entry after the checkpoint that is bad; None if there is none, or if changes are gone before it."""
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
        else:  # it does not join on: it is another's, or what came before it is gone
            why = f"The lane's changes go on after {reached}, and this event does not."
            suspect = raw, BadEntryError(lane, raw.entry_id, why)
    if suspect is None:
        return None
    _, position = await stream.raw(lane, suspect[0].entry_id, 1)
    return _bad(*suspect, reached, reached if position is None else position)


async def _raw_entries(stream: EventStream, lane: int, after: int) -> AsyncIterator[tuple[Raw, int | None]]:
    """Each entry after a position, and the lane's own position when it was read."""
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
    """``goes_on``: the position after which the lane's next event begins, or up to which it has counted."""
    ends, sequence = id_of(raw.entry_id)
    is_counted = not sequence and reached < ends <= goes_on
    if is_counted and error.why.startswith("The lane's changes go on"):
        return None  # a sound event, counted, in its own place: what is wrong is what is not there
    return BadEntry(error=error, raw=raw, before=reached, changes=ends - reached if is_counted else 0)


async def clear_way(client: Redis, stream: EventStream, lane: int) -> bool:
    """Let a lane write again whose stream is empty and takes only IDs further on, since an entry of another was there.

    Redis remembers the last ID of a stream as long as its key is there, so the empty key goes. False: there is nothing
    to do, or the lane has written meanwhile. For the holder of the lane's lease. Raises UnavailableError.
    """
    if not (await stream.look(lane, 0)).stale:
        return False
    with redis_errors():
        async with client.pipeline(transaction=True) as pipeline:
            try:
                await pipeline.watch(keys.lane(lane), keys.events(lane))
                # From here on nobody has written if the key goes.
                if await command(pipeline, "XLEN", keys.events(lane)) or not (await stream.look(lane, 0)).stale:
                    return False
                pipeline.multi()  # type: ignore[no-untyped-call]
                pipeline.execute_command("UNLINK", keys.events(lane))
                await pipeline.execute()
            except WatchError:
                return False
    return True
