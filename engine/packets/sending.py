"""Sending a packet: preview, pay, open."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from engine.claiming.acks import Acks
from engine.coupons import numbers as coupon_numbers
from engine.errors import (
    FieldProblem,
    FrozenError,
    InsufficientFundsError,
    InvalidFieldsError,
    UnavailableError,
)
from engine.ids import lane_of, new_packet_number
from engine.lanes.replies import Opened
from engine.lanes.store import Store
from engine.ledger import idempotency, volumes
from engine.ledger.database import Connection, ledger_errors
from engine.packets import opening
from engine.packets.opening import Funded, funded_from, open_packet
from engine.packets.split import commitment, new_seed, split
from engine.queries import load
from engine.records import Ack, PacketState, Purpose, Terms
from engine.risk import limits, watch
from engine.risk.freezes import Freezes
from engine.settings import Settings

SQL = load("packets")
_NUMBER_TRIES_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The answer to a sending. ``replayed``: the same Idempotency-Key and body had been answered before."""

    packet_id: str
    state: PacketState
    total_fen: int
    count: int
    expires_at_ms: int
    commitment: str
    replayed: bool


class Reading(NamedTuple):
    """A packet's lane, its server's clock and its epoch, from before the ledger is read."""

    lane: int
    at_ms: int
    epoch: str | None


class Times(NamedTuple):
    """When a packet is made, when it can be claimed (None: at once), and when it is over."""

    created_at_ms: int
    arrives_at_ms: int | None
    expires_at_ms: int

    @classmethod
    def of(cls, terms: Terms, created_at_ms: int) -> "Times":
        """The times of a packet that is made at this moment."""
        arrives_at_ms = created_at_ms + terms.arrives_after_s * 1000
        return cls(created_at_ms, arrives_at_ms if terms.arrives_after_s else None, arrives_at_ms + terms.ttl_s * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A packet that has a number, and is not paid for."""

    packet_id: str
    terms: Terms
    times: Times
    seed: bytes = field(repr=False)

    @property
    def commitment(self) -> bytes:
        """What binds it to its split."""
        terms = self.terms
        split_terms = (terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen)
        return commitment(self.packet_id, *split_terms, self.seed)


class Packets:
    """A sender's use cases. Every method raises UnavailableError if Redis or Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, settings: Settings, acks: Acks) -> None:
        self._pool, self._store, self._settings = pool, store, settings
        self._acks = acks
        self._freezes = Freezes(pool, store)

    async def send(
        self,
        sender: str,
        terms: Terms | Callable[[], Awaitable[Terms]],
        *,
        address: str = "",
        idempotency_key: str,
        request_hash: bytes,
        note: Callable[[Connection, str], Awaitable[None]] | None = None,
    ) -> Sent:
        """Pay for a packet and open it. If Redis fails in between, the publisher opens it.

        ``terms``: the terms, or a function that checks and returns them. It is called for a first request only, because
        limits may change before a repeat. A repeat does not need Redis: without it, the state is the ledger's.
        ``address``: where the request comes from. ``note``: gets the packet's number in the transaction that pays; if
        it raises, nothing is paid. Raises as ``limits.admit`` and ``idempotency.once`` do, and
        InvalidFieldsError for an ack that Redis is not configured for.
        """

        async def check() -> tuple[Terms, Reading]:
            checked = terms if isinstance(terms, Terms) else await terms()
            return checked, await self.new_reading(checked.ack)

        async def pay(connection: Connection, checked: tuple[Terms, Reading]) -> dict[str, Any]:
            admitted, reading = checked
            await self._admit(connection, sender, admitted, address, reading.at_ms)
            paid = await self._pay(connection, sender, admitted, reading)
            if note is not None:
                await note(connection, paid["packet_id"])
            return paid

        request = idempotency.Request(
            principal=sender, operation="send", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=pay)
        paid, reading = answered.checked or (None, None)
        if paid is not None and paid.asset is None and not answered.replayed:
            await watch.freeze_if_large(self._freezes, self._settings, sender, paid.total_fen, what=paid.purpose)
        state = await self._open(answered.answer["packet_id"], reading)
        return Sent(**answered.answer, state=state, replayed=answered.replayed)

    def _any_lane(self) -> int:
        """A lane for a new packet, one that serves if any does.

        The lane is no secret; the number within it is, and comes from ``secrets``.
        """
        lanes = range(self._settings.lanes)
        return random.choice([lane for lane in lanes if lane not in self._store.paused] or lanes)  # noqa: S311

    async def new_reading(self, ack: Ack | None) -> Reading:
        """Choose a new packet's lane. If its server does not answer, another server's lane is chosen once.

        Raises InvalidFieldsError for an ack that the server is not configured for.
        """
        lane = self._any_lane()
        try:
            await self._acks.admit(ack, lane)
            return await self._reading(lane)
        except UnavailableError:
            self._store.pause_server_of(lane)
            other = self._any_lane()
            if self._store.topology.node_of(other).is_beside(self._store.topology.node_of(lane)):
                raise
        await self._acks.admit(ack, other)
        return await self._reading(other)

    async def _reading(self, lane: int) -> Reading:
        return Reading(lane, await self._store.now_ms(lane), self._store.epochs.get(lane))

    async def _admit(self, connection: Connection, sender: str, terms: Terms, address: str, at_ms: int) -> None:
        await limits.admit(connection, self._settings, sender, terms, address=address, at_ms=at_ms)
        what, total_fen = terms.purpose.value, terms.total_fen if terms.asset is None else 0
        await watch.look(connection, self._settings, sender, total_fen, what=what, address=address, at_ms=at_ms)

    async def _pay(self, connection: Connection, sender: str, terms: Terms, reading: Reading) -> dict[str, Any]:
        volume, times = await volumes.last(connection), Times.of(terms, reading.at_ms)
        packet_id, committed = await pay(connection, sender, terms, lane=reading.lane, volume=volume, times=times)
        return {
            "packet_id": packet_id,
            "total_fen": terms.total_fen,
            "count": terms.count,
            "expires_at_ms": times.expires_at_ms,
            "commitment": committed.hex(),
        }

    async def _open(self, packet_id: str, reading: Reading | None) -> PacketState:
        """Open a packet unless it is too large for a request. Returns its state, as far as the servers answer.

        ``reading`` None: the request is a repeat, and Redis has not been asked yet.
        """
        try:
            if reading is None:
                with contextlib.suppress(UnavailableError):
                    reading = await self._reading(lane_of(packet_id))
            with ledger_errors():
                row = await self._pool.fetchrow(SQL["packet"], int(packet_id))
            if row is None or row["state"] != PacketState.FUNDED:
                return PacketState.OPEN
            if reading is None:
                return PacketState.FUNDED
            funded: Funded = funded_from(row)
            if funded.count > opening.INLINE_COUNT_MAX:
                (state,) = await self._store.states([packet_id])
                return PacketState.FUNDED if state in (None, "loading") else PacketState.OPEN
            reply = await open_packet(
                self._store,
                funded,
                shares_per_call=opening.SHARES_PER_CALL_MAX,
                read_at_ms=reading.at_ms,
                epoch=reading.epoch,
            )
        except UnavailableError:
            return PacketState.FUNDED
        return PacketState.FUNDED if reply is Opened.LATE else PacketState.OPEN

    async def preview(self, terms: Terms) -> list[int]:
        """An example split by these terms. A real packet gets another one.

        Raises InvalidFieldsError if there are too many shares for an answer.
        """
        if terms.count > self._settings.preview_count_max:
            most = f"must be at most {self._settings.preview_count_max} for a preview"
            raise InvalidFieldsError([FieldProblem("count", most)])
        seed = new_seed()
        parts = (terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen, seed)
        amounts: list[int] = (await asyncio.to_thread(split, *parts)).tolist()
        return amounts


async def pay(
    connection: Connection, sender: str, terms: Terms, *, lane: int, volume: int, times: Times
) -> tuple[str, bytes]:
    """Pay for one packet inside the caller's transaction, which has admitted it. Returns its number and its commitment.

    Raises FrozenError, InsufficientFundsError, InvalidFieldsError for coupons that may not be sent so, UnavailableError
    if no number is free.
    """
    coupons = await coupon_numbers.batch_of(connection, terms.asset)
    if coupons is not None:
        terms = coupon_numbers.checked(coupons, sender, terms, times.expires_at_ms)
    seed, kind = new_seed(), {"in_campaign": terms.purpose is Purpose.CAMPAIGN, "of_coupons": coupons is not None}
    for _ in range(_NUMBER_TRIES_MAX):
        packet_id = new_packet_number(lane, volume, **kind)
        part = Numbered(packet_id=packet_id, terms=terms, times=times, seed=seed)
        try:
            async with connection.transaction():
                await pay_numbered(connection, sender, [part])
        except asyncpg.UniqueViolationError:
            continue  # another packet has this number
        if coupons is not None:
            await coupon_numbers.take(connection, coupons, int(packet_id), terms.count)
        return packet_id, part.commitment
    raise UnavailableError("No free packet number was found.")


async def pay_numbered(connection: Connection, sender: str, packets: Sequence[Numbered]) -> None:
    """Pay for some packets of one asset, made at one moment, inside the caller's transaction: for all or for none.

    Raises FrozenError, InsufficientFundsError, and asyncpg.UniqueViolationError if a number is not free.
    """
    first, rows = packets[0], [_row(packet) for packet in packets]
    shared = (sender, first.times.created_at_ms, first.terms.asset)
    if await connection.fetchval(SQL["send"], *shared, *map(list, zip(*rows, strict=True))) is not None:
        return
    if await connection.fetchval(SQL["why_not_paid"], sender, first.times.created_at_ms):
        raise FrozenError("This account is frozen and cannot send.")
    raise InsufficientFundsError("The wallet holds less than the packet's total.")


def _row(packet: Numbered) -> tuple[object, ...]:
    terms, times = packet.terms, packet.times
    return (
        *(int(packet.packet_id), terms.total_fen, terms.count, terms.split.value, terms.min_fen, terms.max_fen),
        *(terms.greeting, _array_of(terms.recipients), packet.seed, packet.commitment, times.expires_at_ms),
        *(terms.ack, terms.purpose, terms.label, times.arrives_at_ms),
    )


def _array_of(user_ids: Sequence[str]) -> str:
    """Postgres's text of an array. No user id has a character that means something there."""
    return "{" + ",".join(f'"{user_id}"' for user_id in user_ids) + "}"
