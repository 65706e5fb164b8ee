"""Retraction 撤回: a sender takes back a packet that nobody has claimed, if every viewer consents.

close.lua decides it, as claim.lua decides claims. When a claim and a retraction race, exactly one wins.
"""

import asyncpg

from engine.claiming.acks import Acks
from engine.errors import (
    ConfirmationRequiredError,
    ConsentRequiredError,
    FrozenError,
    NotRetractableError,
    NotSenderError,
    NotViewedError,
    OpeningError,
    RecoveringError,
    UnconfirmedError,
    UnknownPacketError,
    after_change,
)
from engine.ids import lane_of
from engine.lanes.replies import Closed, CloseReason, Noted
from engine.lanes.store import Store
from engine.ledger.database import ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.packets.sending import SQL as PACKETS
from engine.queries import load
from engine.records import Ack, FreezeScope, PacketState, Purpose, strongest
from engine.risk import alerts
from engine.risk.freezes import SQL as FREEZES
from engine.risk.freezes import freeze_in
from engine.settings import Settings

SQL = load("retraction")
_HOUR_MS = 3_600_000
_TOO_LATE = "It is too late to retract this packet; unclaimed shares are refunded when it expires."
_CLAIMED = "Someone has a share of this packet; unclaimed shares are refunded when it expires."


class Retractions:
    """Use cases of retraction. Every method raises UnavailableError if Redis or Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, acks: Acks, settings: Settings) -> None:
        self._pool, self._store, self._acks, self._settings = pool, store, acks, settings

    async def view(self, packet_id: str, user_id: str) -> bool:
        """Record that a user has viewed a packet. Returns whether its sender now needs their consent.

        Raises UnknownPacketError, OpeningError.
        """
        row = await self._packet_for(packet_id, user_id)
        if row["sender"] == user_id:
            return False
        reply = await self._note(row, user_id, consents=False)
        return reply is Noted.NOTED

    async def consent(self, packet_id: str, user_id: str) -> None:
        """Consent to the retraction of a packet that this user has viewed.

        Raises UnknownPacketError, OpeningError, NotViewedError, NotRetractableError.
        """
        reply = await self._note(await self._packet_for(packet_id, user_id), user_id, consents=True)
        if reply is Noted.NOT_VIEWED:
            raise NotViewedError("Your consent is not needed: you are not among the first viewers of this packet.")
        if reply is not Noted.NOTED:
            raise NotRetractableError(_CLAIMED if reply is Noted.CLAIMED else _TOO_LATE)

    async def retract(self, packet_id: str, sender: str, *, confirmed: bool) -> int:
        """Retract a packet. Returns the sender's refund in the asset's smallest unit. A repeat returns the same.

        Raises UnknownPacketError, NotSenderError, OpeningError, FrozenError, ConfirmationRequiredError,
        ConsentRequiredError, NotRetractableError, and UnconfirmedError if it stands but is not yet safe.
        """
        row = await self._packet_for(packet_id, sender)
        if row["sender"] != sender:
            raise NotSenderError("Only the packet's sender can retract it.")
        total_fen: int = row["total_fen"]
        if row["state"] == PacketState.RETRACTED:
            return total_fen
        is_large = row["asset"] is None and total_fen > self._settings.retraction_confirm_above_fen
        if is_large and not confirmed:
            raise ConfirmationRequiredError('Retracting a packet this large needs "confirm": true.')
        asked_at_ms = await self._ask(packet_id, sender)
        reply, _, _ = await self._store.close(packet_id, CloseReason.RETRACTED, not_after_ms=self._not_after_ms(row))
        with after_change():
            if reply is Closed.ENDED:
                (state,) = await self._store.states([packet_id])
                reply = Closed.CLOSED if state == PacketState.RETRACTED else Closed.ENDED
            if reply is Closed.CLOSED:
                await confirm_end(self._pool, self._store, self._acks, row)
            await self._note_end(packet_id, sender, asked_at_ms, is_done=reply is Closed.CLOSED)
        _raise_unless_closed(reply, row)
        return total_fen

    async def _packet_for(self, packet_id: str, user_id: str) -> asyncpg.Record:
        """The packet's row in the ledger, if this user may see it."""
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(PACKETS["packet"], int(packet_id))
        is_theirs = row is not None and (not row["recipients"] or user_id in (row["sender"], *row["recipients"]))
        if row is None or not is_theirs or row["purpose"] != Purpose.PACKET:
            raise UnknownPacketError("No packet has this number.")
        return row

    def _not_after_ms(self, row: asyncpg.Record) -> int:
        created_at_ms: int = row["created_at_ms"]
        return created_at_ms + self._settings.retraction_s_max * 1000

    async def _note(self, row: asyncpg.Record, user_id: str, *, consents: bool) -> Noted:
        reply, _, _ = await self._store.note_view(
            str(row["packet_id"]),
            user_id,
            consents=consents,
            not_after_ms=self._not_after_ms(row),
            named_max=self._settings.retraction_viewers_max,
        )
        if reply is Noted.MISSING:
            if row["state"] not in (PacketState.FUNDED, PacketState.OPEN):
                return Noted.ENDED
            raise missing(row)
        return reply

    async def _ask(self, packet_id: str, sender: str) -> int:
        async with ledger_change(self._pool) as connection:
            if (await lock_wallet(connection, sender)).frozen:
                raise FrozenError("This account is frozen: its money stays where it is.")
            at_ms = await now_ms(connection)
            await connection.execute(SQL["ask"], int(packet_id), sender, at_ms)
        return at_ms

    async def _note_end(self, packet_id: str, sender: str, asked_at_ms: int, *, is_done: bool) -> None:
        """Record the outcome, and freeze the sending of a user who retracts too often."""
        most, delivered = self._settings.retractions_an_hour_max, self._settings.webhook_url is not None
        with ledger_errors():
            async with self._pool.acquire() as connection:
                await connection.execute(SQL["end"], int(packet_id), "retracted" if is_done else "refused")
                count = await connection.fetchval(SQL["since"], sender, asked_at_ms - _HOUR_MS)
                if not is_done or count <= most:
                    return
                async with connection.transaction():
                    await connection.execute(FREEZES["take_turns"])
                    if await connection.fetchval(SQL["is_stopped"], sender, asked_at_ms):
                        return
                    until_ms = asked_at_ms + self._settings.retraction_freeze_s * 1000
                    reason = f"{count} packets retracted within an hour"
                    await freeze_in(
                        connection,
                        sender,
                        reason=reason,
                        frozen_by="rule:take_backs",
                        scope=FreezeScope.SENDING,
                        until_ms=until_ms,
                    )
                    details = {"retractions": count, "until_ms": until_ms}
                    await alerts.note(connection, "take_back_burst", sender, is_delivered=delivered, **details)


async def confirm_end(pool: asyncpg.Pool, store: Store, acks: Acks, row: asyncpg.Record) -> None:
    """Wait until a packet's end is as safe as its claims must be. Beyond memory mode, the ledger must have it.

    ``row``: the packet in the ledger before. Raises UnconfirmedError: the end stands, and a repeat returns the same; or
    another server has the lane since, and whoever repeats it ends the packet there.
    """
    promised = strongest(acks.setting, None if row["ack"] is None else Ack(row["ack"]))
    if promised is Ack.MEMORY or row["state"] == PacketState.RETRACTED:
        return
    lane = lane_of(str(row["packet_id"]))
    status = await store.lane_status(lane)
    if status is None or not await acks.in_ledger(lane, status.lane_token, status.position):
        raise UnconfirmedError("The change stands, but the ledger does not have it yet: repeat the request.")
    # The position may be that of a replica that has taken over since, without the change.
    if not await _has_ended(pool, row["packet_id"]):
        raise UnconfirmedError("Another server may have the packet since: repeat the request.")


async def _has_ended(pool: asyncpg.Pool, packet: int) -> bool:
    with ledger_errors():
        row = await pool.fetchrow(PACKETS["packet"], packet)
    return row is not None and row["state"] not in (PacketState.FUNDED, PacketState.OPEN)


def missing(row: asyncpg.Record) -> OpeningError | RecoveringError:
    """Why Redis does not hold a packet that is funded or open in the ledger."""
    if row["state"] == PacketState.FUNDED:
        return OpeningError("The packet's shares are still being loaded: try again in a moment.")
    return RecoveringError("This packet is being recovered from the ledger: try again in a few seconds.")


def _raise_unless_closed(reply: Closed, row: asyncpg.Record) -> None:
    match reply:
        case Closed.CLOSED:
            return
        case Closed.MISSING:
            if row["state"] in (PacketState.FUNDED, PacketState.OPEN):
                raise missing(row)
            raise NotRetractableError("The packet has ended.")
        case Closed.VIEWED:
            raise ConsentRequiredError(
                "Someone has viewed this packet; every viewer must consent before it is retracted."
            )
        case Closed.LATE:
            raise NotRetractableError(_TOO_LATE)
        case Closed.CLAIMED:
            raise NotRetractableError(_CLAIMED)
        case _:
            raise NotRetractableError("The packet has ended.")
