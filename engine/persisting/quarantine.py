"""Changes that broke a rule of the ledger: list them, retry them, or write them off. Until then their row is open.

A retry applies the change like any other, so afterwards the books are as if nothing had happened. A write-off gives the
change up: its money moves from the packet's custody to the quarantine account. The row records who did it and why.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from engine.connected import urls_of
from engine.errors import HongbaoError, OperatorError, UnavailableError
from engine.events import Change, Claims, Ending, Opening
from engine.lanes.reader import LaneReader
from engine.lanes.stream import EventStream
from engine.lanes.topology import Topology, reading
from engine.ledger.database import database_connection, ledger_errors
from engine.ledger.posting import PLANNED, RULES_BROKEN, Ledger
from engine.ledger.posting import SQL as LEDGER
from engine.persisting.set_aside import EntryAside, SetAside, entries_aside
from engine.queries import load
from engine.records import PacketState
from engine.settings import Settings
from engine.text import decimal

SQL = load("quarantine")
_PAGE = 500
AT_ONCE_MAX = 500
"""How many rows one call of ``retry_all`` goes through."""
DRY_RUN_MAX = 100
"""How many rows one dry run goes through: it locks their packets until it is rolled back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """One change in quarantine. ``amount_fen``: the claim's amount, or an ending's refund.

    ``asset`` None: it is of money. ``resolution`` None: it is open. ``packet_id`` None: its kind is "unreadable",
    several changes that are unknown.
    """

    quarantine_id: int
    lane: int
    position: int
    packet_id: str | None
    kind: str
    user_id: str | None
    slot: int | None
    amount_fen: int | None
    at_ms: int
    reason: str
    resolution: str | None
    resolved_at_ms: int | None
    resolved_by: str | None
    resolution_reason: str | None
    moved_fen: int | None
    asset: str | None
    scale: int | None

    @property
    def amount(self) -> str:
        """The amount with its unit: 900 fen, or 0.900 STARS."""
        fen = self.amount_fen or 0
        return f"{fen} fen" if self.asset is None or self.scale is None else f"{decimal(fen, self.scale)} {self.asset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result for one row: whether it is resolved now, and a sentence."""

    quarantine_id: int
    resolved: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a row is about, at one moment. ``user_fen``: the balance of the row's user. None: there is no such thing.

    ``asset`` None: the amounts are of money.
    """

    packet_state: str | None
    asset: str | None
    scale: int | None
    custody_fen: int | None
    user_fen: int | None
    sender_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What retrying a row, or writing it off, would do. Nothing of it was kept. ``after`` None: it would not work."""

    quarantine_id: int
    would_resolve: bool
    sentence: str
    before: Standing | None
    after: Standing | None


class _RefusedError(HongbaoError):
    """Why the row stays as it is."""

    code = "quarantine_refused"


class _RolledBackError(Exception):
    """Ends the transaction of a dry run."""


class Quarantine:
    """Open with ``async with Quarantine.open(settings) as quarantine``. ``by``: the operator's name."""

    def __init__(self, connection: asyncpg.Connection, topology: Topology, retention_ms: int) -> None:
        self._connection, self._reader, self._stream = connection, LaneReader(topology), EventStream(topology)
        self._retention_ms = retention_ms

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Quarantine"]:
        """Connect to both servers. Raises OperatorError."""
        urls = urls_of(settings)
        connection = await database_connection(urls.database, PLANNED)
        topology = reading(urls.redis, timeout_s=settings.redis_timeout_s)
        try:
            with ledger_errors():
                yield cls(connection, topology, settings.settled_retention_s * 1_000)
        finally:
            await topology.aclose()
            await connection.close(timeout=5)

    async def rows(self, *, resolved_too: bool = False) -> AsyncIterator[Aside]:
        """The open rows, or all rows, in the order in which they were set aside."""
        after = 0
        while page := await self._connection.fetch(SQL["page"], after, resolved_too, _PAGE):
            for row in page:
                yield aside_of(row)
            after = page[-1]["quarantine_id"]

    async def entries(self) -> AsyncIterator[EntryAside]:
        """The stream entries that were set aside."""
        async for entry in entries_aside(self._connection):
            yield entry

    async def set_aside(self, lane: int, entry_id: str, *, reason: str, by: str, force: bool) -> str:
        """Set aside the entry that stops a lane. Returns a sentence. Raises as ``SetAside.run``, and OperatorError."""
        if not await self._connection.fetchval(SQL["is_lane"], lane):
            raise OperatorError(f"There is no lane {lane}.")
        setting = SetAside(self._connection, self._reader, self._stream, lane, retention_ms=self._retention_ms)
        return await setting.run(entry_id, reason=reason, by=by, force=force)

    async def dry_run(self, quarantine_ids: Sequence[int], *, writes_off: bool = False) -> list[DryRun]:
        """Do what retrying some rows, or writing them off, does: the oldest first, in one transaction, rolled back.

        So a claim finds the opening before it applied. Only sequences move on. What it locks is locked for a moment.
        """
        told: list[DryRun] = []
        with suppress(_RolledBackError):
            async with self._connection.transaction():
                told += [
                    await self._dry_run_one(quarantine_id, writes_off=writes_off)
                    for quarantine_id in sorted(set(quarantine_ids))[:DRY_RUN_MAX]
                ]
                raise _RolledBackError
        return told

    async def _dry_run_one(self, quarantine_id: int, *, writes_off: bool) -> DryRun:
        before = after = None
        try:
            async with self._connection.transaction():  # a savepoint: what fails leaves the others as they are
                row = await self._locked(quarantine_id)
                before = await self._standing(row)
                if writes_off:
                    took_effect, moved_fen = await self._give_up(row)
                    sentence = _leaving(moved_fen, row["asset"], row["scale"])
                else:
                    await Ledger().apply_again(self._connection, _change(row))
                    took_effect, moved_fen, sentence = True, None, "the ledger would take it"
                resolution = "written_off" if writes_off else "retried"
                await self._resolve(row, resolution, by="dry run", took_effect=took_effect, moved_fen=moved_fen)
                after = await self._standing(row)
        except RULES_BROKEN as error:
            sentence = f"it still breaks a rule: {error}"
        except _RefusedError as error:
            sentence = str(error)
        return DryRun(
            quarantine_id=quarantine_id,
            would_resolve=after is not None,
            sentence=sentence,
            before=before,
            after=after,
        )

    async def _standing(self, row: asyncpg.Record) -> Standing:
        (found,) = await self._connection.fetch(SQL["touched"], row["packet_id"], row["user_id"])
        return Standing(**found)

    async def retry_all(
        self, quarantine_ids: Sequence[int] | None = None, *, by: str, at_most: int = AT_ONCE_MAX
    ) -> AsyncIterator[Result]:
        """Retry some rows, or all that are open, the oldest first, each in its own transaction.

        A change that needs an earlier one (a claim, its opening) finds it applied. At most ``at_most`` rows.
        """
        if quarantine_ids is None:
            rows = await self._connection.fetch(SQL["open_ids"], 0, at_most)
            quarantine_ids = [row["quarantine_id"] for row in rows]
        for quarantine_id in sorted(set(quarantine_ids))[:at_most]:
            yield await self.retry(quarantine_id, by=by)

    async def retry(self, quarantine_id: int, *, by: str) -> Result:
        """Apply the change again. It stays in quarantine if it still breaks a rule."""
        ended: Sequence[int] = ()
        try:
            async with self._connection.transaction():
                row = await self._locked(quarantine_id)
                # A new Ledger: it must not remember a wallet whose creation was rolled back.
                tally = await Ledger().apply_again(self._connection, _change(row))
                ended = tally.ended
                await self._resolve(row, "retried", by=by, took_effect=True)
        except RULES_BROKEN as error:
            return Result(quarantine_id=quarantine_id, resolved=False, sentence=f"it still breaks a rule: {error}")
        except _RefusedError as error:
            return Result(quarantine_id=quarantine_id, resolved=False, sentence=str(error))
        sentence = "the ledger has taken it"
        if ended and not await self._let_go(ended):
            sentence += ", but Redis does not answer and keeps the packet's keys"
        return Result(quarantine_id=quarantine_id, resolved=True, sentence=sentence)

    async def write_off(self, quarantine_id: int, *, reason: str, by: str) -> Result:
        """Give the change up, and move its money out of the packet's custody.

        A claim can be written off once its packet has ended. Before that, the custody belongs to later claimants.
        """
        try:
            async with self._connection.transaction():
                row = await self._locked(quarantine_id)
                took_effect, moved_fen = await self._give_up(row)
                await self._resolve(
                    row, "written_off", by=by, reason=reason, moved_fen=moved_fen, took_effect=took_effect
                )
        except _RefusedError as error:
            return Result(quarantine_id=quarantine_id, resolved=False, sentence=str(error))
        if took_effect:
            await self._let_go([row["packet_id"]])
        sentence = written_off(moved_fen, row["asset"], row["scale"])
        return Result(quarantine_id=quarantine_id, resolved=True, sentence=sentence)

    async def _locked(self, quarantine_id: int) -> asyncpg.Record:
        row = await self._connection.fetchrow(SQL["lock"], quarantine_id)
        if row is None:
            raise _RefusedError("there is no row with this number")
        if row["resolution"] is not None:
            raise _RefusedError(f"it was already {row['resolution'].replace('_', ' ')}")
        return row

    async def _give_up(self, row: asyncpg.Record) -> tuple[bool, int]:
        """Move the money. Returns whether this ended the packet, and how much was moved."""
        packet, is_open = row["packet_id"], row["packet_state"] in (PacketState.OPEN, PacketState.FUNDED)
        custody_fen = await self._connection.fetchval(SQL["custody"], packet) or 0
        ends = row["kind"] == "ending" and is_open
        if row["kind"] == "claim" and is_open:
            raise _RefusedError(f"packet {packet} has not ended: write the claim off when it has")
        if row["kind"] in ("opening", "unreadable"):
            return False, 0
        # The packet's last row also takes the rest, so that the custody is empty.
        is_last = ends or not await self._connection.fetchval(SQL["other_open"], packet, row["quarantine_id"])
        moved_fen = custody_fen if is_last else min(custody_fen, row["amount_fen"] or 0)
        if ends:
            await self._end(row, moved_fen)
        if moved_fen:
            now_ms = await self._connection.fetchval(SQL["now_ms"])
            await self._connection.execute(SQL["write_off"], packet, moved_fen, now_ms, row["position"])
        return ends, moved_fen

    async def _end(self, row: asyncpg.Record, remaining_fen: int) -> None:
        """End the packet as the change says, with the amount that is really left in the ledger."""
        change = _change(row)
        if not isinstance(change, Ending):
            raise TypeError("only an ending ends a packet")
        values = ([change.state.value], [change.remaining_count], [remaining_fen], [change.at_ms])
        if await self._connection.execute(LEDGER["end_packets"], [change.packet], *values) != "UPDATE 1":
            raise _RefusedError(f"packet {change.packet} was never opened: retry its opening first")

    async def _resolve(
        self,
        row: asyncpg.Record,
        resolution: str,
        *,
        by: str,
        took_effect: bool,
        reason: str | None = None,
        moved_fen: int | None = None,
    ) -> None:
        now_ms = await self._connection.fetchval(SQL["now_ms"])
        values = (resolution, now_ms, by, reason, moved_fen, took_effect)
        await self._connection.execute(SQL["resolve"], row["quarantine_id"], *values)
        await self._connection.execute(SQL["settle"], row["packet_id"], now_ms)

    async def _let_go(self, packets: Sequence[int]) -> bool:
        """Let Redis drop packets whose end the ledger has now. Returns False if Redis does not answer."""
        try:
            await self._stream.forget(packets, retention_ms=self._retention_ms)
        except UnavailableError:
            return False
        return True


def written_off(moved_fen: int | None, asset: str | None, scale: int | None) -> str:
    """The sentence about a row that was written off."""
    if asset is None or scale is None:
        return f"written off, {moved_fen or 0} fen left the custody"
    return f"written off, {decimal(moved_fen or 0, scale)} {asset} left the custody"


def _leaving(moved_fen: int, asset: str | None, scale: int | None) -> str:
    if asset is None or scale is None:
        return f"{moved_fen} fen would leave the custody"
    return f"{decimal(moved_fen, scale)} {asset} would leave the custody"


def aside_of(row: asyncpg.Record) -> Aside:
    """A row as it is told."""
    packet = row["packet_id"]
    return Aside(**{**dict(row), "packet_id": None if packet is None else str(packet)})


def _change(row: asyncpg.Record) -> Change:
    """The change as it was in the stream."""
    packet, at_ms, position = row["packet_id"], row["at_ms"], row["position"]
    if row["kind"] == "unreadable":
        raise _RefusedError("these changes are unknown and cannot be retried: investigate, then write them off")
    if row["kind"] == "claim":
        return Claims(packet, [row["user_id"]], [row["slot"]], [row["amount_fen"]], at_ms, position)
    if row["kind"] == "opening":
        return Opening(packet, at_ms, position)
    if row["state"] is None:
        raise _RefusedError("an older release set it aside and did not record how the packet ended")
    return Ending(packet, PacketState(row["state"]), row["remaining_count"], row["amount_fen"], at_ms, position)
