"""Transfers 转账: money for one person. Each is a packet of one share for one recipient, with the packet's number.

A transfer waits for confirmation (the recipient's claim), or it arrives after a delay (the sweeper claims it for the
recipient). Until then its sender can cancel it. An unconfirmed transfer is refunded like any packet.
"""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from engine.claiming.acks import Acks
from engine.claiming.claims import Claims
from engine.errors import (
    FieldProblem,
    FrozenError,
    InsufficientFundsError,
    InvalidFieldsError,
    NotCancellableError,
    NotSenderError,
    TransferEndedError,
    UnavailableError,
    UnknownPacketError,
)
from engine.ids import USER_ID_RULE, is_user_id, lane_of
from engine.lanes.replies import Closed, CloseReason
from engine.lanes.store import Store
from engine.ledger.database import ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.packets.retraction import confirm_end, missing
from engine.packets.sending import SQL as PACKETS
from engine.packets.sending import Packets
from engine.packets.split import TOTAL_FEN_MAX
from engine.queries import load
from engine.records import Outcome, PacketState, Purpose, SplitKind, Terms
from engine.settings import Settings
from engine.text import TEXT_RULE, is_readable
from engine.transfers.delays import Delays

SQL = load("transfers")


class TransferState(StrEnum):
    """A transfer's state. The last three are final."""

    DELAYED = "delayed"  # it will arrive by itself; until then its sender can cancel it
    WAITING = "waiting"  # for its recipient's confirmation
    CONFIRMED = "confirmed"  # its recipient has it
    RETURNED = "returned"  # not confirmed in time: its sender gets it back
    CANCELLED = "cancelled"  # its sender cancelled it


_STATES = {
    PacketState.EXHAUSTED: TransferState.CONFIRMED,
    PacketState.EXPIRED: TransferState.RETURNED,
    PacketState.RETRACTED: TransferState.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer between two people. ``arrives_at_ms`` None: it waits for confirmation from the start."""

    transfer_id: str
    sender: str
    to: str
    amount_fen: int
    note: str
    state: TransferState
    created_at_ms: int
    arrives_at_ms: int | None
    expires_at_ms: int


class Transfers:
    """Use cases of transfers. Every method raises UnavailableError if Redis or Postgres does not answer."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: Store,
        packets: Packets,
        claims: Claims,
        *,
        acks: Acks,
        delays: Delays,
        settings: Settings,
    ) -> None:
        self._pool, self._store, self._packets, self._claims = pool, store, packets, claims
        self._acks, self._delays, self._settings = acks, delays, settings

    async def send(
        self,
        sender: str,
        to: str,
        amount_fen: int,
        *,
        note: str = "",
        confirm_within_s: int | None = None,
        arrives_after_s: int | None = None,
        asset: str | None = None,
        address: str = "",
        idempotency_key: str,
        request_hash: bytes,
    ) -> tuple[Transfer, bool]:
        """Pay for a transfer. Returns it, and whether it was answered before under this key.

        ``confirm_within_s``: how long the recipient may take. ``arrives_after_s``: the delay until it arrives. With
        neither, the sender's general choice applies (``engine.transfers.delays``). ``asset`` None: it is money. Raises
        as ``Packets.send`` does.
        """

        async def terms() -> Terms:
            times_s = (confirm_within_s, arrives_after_s)
            return await self._terms(sender, to, amount_fen, note=note, times_s=times_s, asset=asset)

        try:
            sent = await self._packets.send(
                sender, terms, address=address, idempotency_key=idempotency_key, request_hash=request_hash
            )
        except InsufficientFundsError:
            raise InsufficientFundsError("The wallet holds less than the amount.", field="amount_fen") from None
        return await self._paid(sent.packet_id, sender), sent.replayed

    async def _terms(
        self,
        sender: str,
        to: str,
        amount_fen: int,
        *,
        note: str,
        times_s: tuple[int | None, int | None],
        asset: str | None,
    ) -> Terms:
        """A transfer as a packet. ``times_s``: the two times given to ``send``. Raises InvalidFieldsError."""
        amount_fen_max = self._settings.transfer_fen_max if asset is None else TOTAL_FEN_MAX
        problems = self._problems(sender, to, amount_fen, note, amount_fen_max)
        delay_s = await self._delay_s(sender, to, *times_s, problems)
        if problems:
            raise InvalidFieldsError(problems)
        return Terms(
            total_fen=amount_fen,
            count=1,
            split=SplitKind.EQUAL,
            min_fen=amount_fen,
            max_fen=amount_fen,
            ttl_s=times_s[0] or self._settings.transfer_confirm_s,
            greeting=note,
            recipients=(to,),
            purpose=Purpose.TRANSFER,
            arrives_after_s=delay_s,
            asset=asset,
        )

    async def _paid(self, transfer_id: str, sender: str) -> Transfer:
        """A paid transfer's present state or, if Redis does not answer, its state in the ledger."""
        try:
            return await self.get(transfer_id, sender)
        except UnavailableError:
            row = await self._row(transfer_id, sender)
            with ledger_errors():
                return _transfer(row, PacketState(row["state"]), await now_ms(self._pool))

    async def get(self, transfer_id: str, user_id: str | None) -> Transfer:
        """A transfer, for its sender or recipient (None: for an admin). Raises UnknownPacketError."""
        row = await self._row(transfer_id, user_id)
        state = PacketState(row["state"])
        if state in (PacketState.FUNDED, PacketState.OPEN):
            (live,) = await self._store.states([transfer_id])
            if live is not None and live in set(_STATES):
                state = PacketState(live)
        return _transfer(row, state, 0 if state in _STATES else await self._store.now_ms(lane_of(transfer_id)))

    async def confirm(self, transfer_id: str, user_id: str) -> Transfer:
        """Take a transfer. A repeat changes nothing.

        Raises UnknownPacketError for anyone but its recipient, NotArrivedError, TransferEndedError, FrozenError.
        """
        row = await self._row(transfer_id, user_id)
        if row["sender"] == user_id:
            raise UnknownPacketError("A transfer to somebody else.")
        result = await self._claims.claim(transfer_id, user_id)
        if result.outcome not in (Outcome.CLAIMED, Outcome.ALREADY):
            ended = "was cancelled" if result.outcome is Outcome.RETRACTED else "was not confirmed in time"
            raise TransferEndedError(f"The transfer {ended}; its money goes back to the sender.")
        return await self.get(transfer_id, user_id)

    async def cancel(self, transfer_id: str, user_id: str) -> Transfer:
        """Cancel a transfer: until it arrives or, if it waits for confirmation, as long as packets can be retracted.

        A repeat changes nothing, even if the account has been frozen since.
        Raises UnknownPacketError, NotSenderError, FrozenError, NotCancellableError, and UnconfirmedError if it
        stands but is not yet safe.
        """
        row = await self._row(transfer_id, user_id)
        if row["sender"] != user_id:
            raise NotSenderError("Only the transfer's sender can cancel it.")
        transfer = await self.get(transfer_id, user_id)
        if transfer.state is TransferState.CANCELLED:
            await confirm_end(self._pool, self._store, self._acks, row)
            return transfer
        await self._refuse_frozen(user_id)
        not_after_ms = row["created_at_ms"] + self._settings.retraction_s_max * 1000
        if row["arrives_at_ms"] is not None:
            not_after_ms = row["arrives_at_ms"] - 1
        reply, _, _ = await self._store.close(transfer_id, CloseReason.RETRACTED, not_after_ms=not_after_ms)
        if reply is Closed.MISSING and row["state"] in (PacketState.FUNDED, PacketState.OPEN):
            raise missing(row)
        transfer = await self.get(transfer_id, user_id)
        if transfer.state is not TransferState.CANCELLED:
            ended = "It is too late to cancel the transfer." if reply is Closed.LATE else "The transfer has ended."
            raise NotCancellableError(ended)
        await confirm_end(self._pool, self._store, self._acks, row)
        return transfer

    def _problems(self, sender: str, to: str, amount_fen: int, note: str, amount_fen_max: int) -> list[FieldProblem]:
        settings, problems = self._settings, []
        if not is_user_id(to):
            problems.append(FieldProblem("to", USER_ID_RULE))
        elif to == sender:
            problems.append(FieldProblem("to", "must be another user"))
        if not 1 <= amount_fen <= amount_fen_max:
            problems.append(FieldProblem("amount_fen", f"must be from 1 to {amount_fen_max}"))
        if len(note) > settings.greeting_length_max:
            problems.append(FieldProblem("note", f"must have at most {settings.greeting_length_max} characters"))
        if not is_readable(note):
            problems.append(FieldProblem("note", TEXT_RULE))
        return problems

    async def _delay_s(
        self,
        sender: str,
        to: str,
        confirm_within_s: int | None,
        arrives_after_s: int | None,
        problems: list[FieldProblem],
    ) -> int:
        """The delay until it arrives, or 0 if it waits for confirmation. Adds what is wrong to ``problems``."""
        settings = self._settings
        waits = (settings.transfer_confirm_s_short, settings.transfer_confirm_s)
        delays_s = (settings.transfer_delay_s_short, settings.transfer_delay_s_long)
        if confirm_within_s is not None and arrives_after_s is not None:
            problems.append(FieldProblem("confirm_within_s", "must not be given with arrives_after_s"))
        if confirm_within_s is not None and confirm_within_s not in waits:
            problems.append(FieldProblem("confirm_within_s", f"must be {waits[0]} or {waits[1]}"))
        if arrives_after_s is not None and arrives_after_s not in delays_s:
            problems.append(FieldProblem("arrives_after_s", f"must be {delays_s[0]} or {delays_s[1]}"))
        if problems or arrives_after_s is not None:
            return arrives_after_s or 0
        with ledger_errors():
            are_strangers = await self._pool.fetchval(SQL["are_strangers"], sender, to)
        if confirm_within_s is not None:
            if are_strangers:
                least = f"must not be given: a transfer to a stranger arrives after at least {delays_s[0]} s"
                problems.append(FieldProblem("confirm_within_s", least))
            return 0
        chosen_s = await self._delays.of(sender)
        return max(chosen_s, delays_s[0]) if are_strangers else chosen_s

    async def _row(self, transfer_id: str, user_id: str | None) -> asyncpg.Record:
        with ledger_errors():
            row = await self._pool.fetchrow(PACKETS["packet"], int(transfer_id))
        if row is None or row["purpose"] != Purpose.TRANSFER:
            raise UnknownPacketError("No transfer has this number.")
        if user_id is not None and user_id not in (row["sender"], row["recipients"][0]):
            raise UnknownPacketError("A transfer between others.")
        return row

    async def _refuse_frozen(self, user_id: str) -> None:
        async with ledger_change(self._pool) as connection:
            if (await lock_wallet(connection, user_id)).frozen:
                raise FrozenError("This account is frozen: its money stays where it is.")


def _by_clock(arrives_at_ms: int | None, expires_at_ms: int, now_ms: int) -> TransferState:
    """The state of a transfer that has not ended in Redis. Its time may be over before the sweeper closes it."""
    if now_ms >= expires_at_ms:
        return TransferState.RETURNED
    return TransferState.DELAYED if arrives_at_ms is not None and now_ms < arrives_at_ms else TransferState.WAITING


def _transfer(row: asyncpg.Record, state: PacketState, at_ms: int) -> Transfer:
    """A packet's row as a transfer in this state. ``at_ms``: the time now, if it has not ended."""
    return Transfer(
        transfer_id=str(row["packet_id"]),
        sender=row["sender"],
        to=row["recipients"][0],
        amount_fen=row["total_fen"],
        note=row["greeting"],
        state=_STATES.get(state) or _by_clock(row["arrives_at_ms"], row["expires_at_ms"], at_ms),
        created_at_ms=row["created_at_ms"],
        arrives_at_ms=row["arrives_at_ms"],
        expires_at_ms=row["expires_at_ms"],
    )
