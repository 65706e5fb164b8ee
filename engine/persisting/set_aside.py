"""Sets aside the entry that stops a lane: Postgres keeps it as it was, and the lane goes on without it.

An entry that the lane never counted is just removed from the stream. An entry in the place of the lane's changes is
replaced by what Redis's packets show of them. The other changes go into quarantine, where the audit finds them.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from engine.errors import OperatorError
from engine.events import Unreadable
from engine.lanes import keys
from engine.lanes.clients import command
from engine.lanes.connections import lane_token_of
from engine.lanes.failures import redis_errors
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.ledger.posting import Ledger
from engine.persisting.lost_changes import SQL, lost_changes, placed
from engine.recovery import gate
from engine.recovery.bad_entries import BadEntry, clear_way, first_bad
from engine.recovery.recovery import carry_over

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryAside:
    """An entry that was set aside. ``fields``: names and values in turn, in hexadecimal.

    ``changes``: how many of the lane's changes it replaced. ``changes_found``: how many of these Redis shows.
    """

    aside_id: int
    lane: int
    entry_id: str
    fields: list[str]
    changes: int
    changes_found: int
    found: str
    set_aside_at_ms: int
    set_aside_by: str
    reason: str


async def entries_aside(connection: asyncpg.Connection) -> AsyncIterator[EntryAside]:
    """All entries that were set aside, in that order."""
    after = 0
    while page := await connection.fetch(SQL["page"], after, _PAGE):
        for row in page:
            yield EntryAside(**{**dict(row), "fields": [part.hex() for part in row["fields"]]})
        after = page[-1]["aside_id"]


class SetAside:
    """Works on one lane and takes its lease. ``retention_ms``: how long packets that it ends stay in Redis."""

    def __init__(
        self, connection: asyncpg.Connection, reader: LaneReader, stream: EventStream, lane: int, *, retention_ms: int
    ) -> None:
        self._connection, self._reader, self._stream, self._lane = connection, reader, stream, lane
        self._retention_ms = retention_ms

    async def run(self, entry_id: str, *, reason: str, by: str, force: bool = False) -> str:
        """Set aside the entry that stops the lane. Returns a sentence. ``force``: also an event of a newer release.

        Raises OperatorError if another entry stops it, or if the lane must be recovered first.
        """
        await self._refuse_if_nothing_stops()
        await gate.wait_for_lease(self._connection, self._lane)
        row = await gate.ledger_lane(self._connection, self._lane)
        if not await self._continues(row):
            raise OperatorError(
                f"Lane {self._lane} in Redis does not continue the ledger: run `hongbao recover` first."
            )
        bad = self._checked(await first_bad(self._stream, self._lane, row.position), entry_id, force=force)
        lane_token = lane_token_of(row.epoch, row.run_id)
        await carry_over(
            self._connection, self._stream, self._lane, row.position, up_to=bad.before, lane_token=lane_token
        )
        await self._stream.discard_applied(self._lane, bad.before, retention_ms=self._retention_ms)
        sentence = await (self._replace(bad, lane_token, reason, by) if bad.changes else self._remove(bad, reason, by))
        await clear_way(self._reader.client_of(self._lane), self._stream, self._lane)
        return sentence

    async def _refuse_if_nothing_stops(self) -> None:
        """A persister keeps the lease of a lane that goes on, so that one would wait for it to no purpose."""
        row = await gate.ledger_lane(self._connection, self._lane)
        if not await self._continues(row):
            return
        bad = await first_bad(self._stream, self._lane, row.position)
        if bad is None and row == await gate.ledger_lane(self._connection, self._lane):  # and nobody trimmed meanwhile
            self._checked(bad, "", force=False)

    async def _continues(self, row: gate.LedgerLane) -> bool:
        """Whether the lane in Redis continues the ledger's."""
        status = await self._reader.lane_status(self._lane)
        return status is not None and status.epoch == row.epoch and status.position >= row.position

    def _checked(self, bad: BadEntry | None, entry_id: str, *, force: bool) -> BadEntry:
        if bad is None:
            raise OperatorError(f"No entry stops lane {self._lane}.")
        if bad.raw.entry_id != entry_id:
            raise OperatorError(f"{entry_id} is not what stops lane {self._lane}: {bad}.")
        if bad.error.is_newer and not force:
            raise OperatorError(
                f"{bad}. A newer release can read it: upgrade instead. To set it aside anyway, add --force."
            )
        return bad

    async def _remove(self, bad: BadEntry, reason: str, by: str) -> str:
        """Remove an entry that the lane never counted. It is kept first, so that no crash loses it."""
        await self._keep(bad, 0, reason, by)
        with redis_errors():
            await command(self._reader.client_of(self._lane), "XDEL", keys.events(self._lane), bad.raw.entry_id)
        return "the lane never counted it: nothing else was changed"

    async def _replace(self, bad: BadEntry, lane_token: str, reason: str, by: str) -> str:
        """Replace an entry with what Redis shows, in the transaction that keeps the entry."""
        position = bad.before + bad.changes
        found = await lost_changes(self._connection, self._reader, self._stream, self._lane, position)
        changes = placed(found, bad.before, bad.changes)
        known = len({change.position for change in changes})
        unreadable = None
        if unknown := bad.changes - known:
            are = "1 change is" if unknown == 1 else f"{unknown} changes are"
            why = f"{are} not known: entry {bad.raw.entry_id} was set aside, and Redis does not show them"
            at_ms = await self._reader.now_ms(self._lane)
            unreadable = Unreadable(unknown, why, at_ms, position)
        async with self._connection.transaction():
            await self._keep(bad, known, reason, by)
            applied = await Ledger().apply(
                self._connection,
                self._lane,
                bad.before,
                position,
                changes,
                lane_token=lane_token,
                unreadable=unreadable,
            )
        await self._stream.discard(self._lane, position, applied.ended, retention_ms=self._retention_ms)
        sentence = f"it replaced {bad.changes} of the lane's changes; Redis shows {known}, and the ledger has them now"
        if not unknown:
            return sentence
        return f"{sentence}; {unknown} of them are unknown and wait in quarantine (hongbao quarantine list)"

    async def _keep(self, bad: BadEntry, known: int, reason: str, by: str) -> None:
        fields = [part for pair in bad.raw.fields.items() for part in pair]
        values = (bad.raw.entry_id, fields, bad.changes, known, bad.error.why, by, reason)
        await self._connection.execute(SQL["add"], self._lane, *values)
