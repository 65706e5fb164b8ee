"""Reads packets and their claims: from Redis while it holds them, then from the ledger, with the same answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from engine.errors import NotSettledError, RecoveringError, UnavailableError, UnknownPacketError
from engine.ids import lane_of
from engine.lanes.reader import READ_WHOLE_COUNT_MAX, LiveCounts
from engine.lanes.store import Store
from engine.ledger.currency import SCALE
from engine.ledger.database import ledger_errors
from engine.ledger.volumes import Volumes
from engine.packets.proof import CLAIMS_MAX, Proof, from_ledger
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.records import Ack, ClaimRow, PacketState, Purpose, SplitKind, strongest
from engine.settings import Settings

SQL, CLAIMS = load("packets"), load("claims")
_UNDER_WAY = (PacketState.FUNDED, PacketState.OPEN)
"""States in which Redis may know more than the ledger. Of ended packets the ledger has everything."""
_HELD, _NOT_OPEN_YET = "held", ("loading",)
"""States that only Redis has: a transfer that has not arrived, and a packet whose shares are being loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Luckiest:
    """手气最佳: a lucky packet's largest share, once all are claimed. Among equals it is the earlier claim."""

    user_id: str
    amount_fen: int
    slot: int
    claimed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketView:
    """A packet as anyone with its number may see it. ``settled_at_ms``: when the ledger had emptied its custody.

    ``asset``: what its amounts are 10^-scale of. ``state``: by Redis's clock, so a packet has expired once its time is
    over, even before the sweeper closes it. ``ack``: the mode of its claims now, never weaker than the setting.
    ``arrives_at_ms``: a transfer cannot be claimed before this. ``claimed_fen``, ``remaining_fen``: None if the user
    sees no amounts (``Views.sees_amounts``).
    """

    packet_id: str
    sender: str
    purpose: Purpose
    label: str | None
    state: PacketState
    split: SplitKind
    asset: str
    scale: int
    total_fen: int
    count: int
    min_fen: int
    max_fen: int
    greeting: str
    recipients: tuple[str, ...]
    ack: Ack
    commitment: str
    created_at_ms: int
    arrives_at_ms: int | None
    expires_at_ms: int
    claimed_count: int
    claimed_fen: int | None
    remaining_count: int
    remaining_fen: int | None
    luckiest: Luckiest | None
    settled_at_ms: int | None

    def without_amounts(self) -> "PacketView":
        """The same without amounts. The total and the counts stay: they reveal no single share."""
        return replace(self, claimed_fen=None, remaining_fen=None, luckiest=None)

    def shows_amounts_to(self, user_id: str | None, *, has_share: bool) -> bool:
        """Whether a user sees the amounts: the sender and claimants do, and everyone once the packet has ended.

        The order of the shares is fixed. A user who could look first would claim only when the rest is worth more than
        the mean.
        """
        return has_share or self.state not in _UNDER_WAY or user_id == self.sender


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedClaim:
    """One claim in a list. ``amount_fen``: None if the user sees no amounts."""

    user_id: str
    amount_fen: int | None
    slot: int
    claimed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsPage:
    """Claims in slot order. ``next``: the next page's cursor, None on the last page."""

    claims: list[ListedClaim]
    next: str | None

    def without_amounts(self) -> "ClaimsPage":
        """The same without amounts."""
        return replace(self, claims=[replace(claim, amount_fen=None) for claim in self.claims])


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSummary:
    """One line of a user's records. ``amount_fen``: the total that was sent, or the share that was received."""

    packet_id: str
    role: str
    state: PacketState
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketsPage:
    """A user's records, newest first."""

    packets: list[PacketSummary]
    next: str | None


class Views:
    """Read-only use cases. Every method raises UnavailableError if a server that it needs does not answer."""

    def __init__(self, pool: asyncpg.Pool, store: Store, settings: Settings) -> None:
        self._pool, self._store = pool, store
        self._ack, self._currency = settings.ack, settings.currency
        self._volumes = Volumes(pool)

    async def packet(self, packet_id: str) -> PacketView:
        """A packet's terms and state. Raises UnknownPacketError, RecoveringError."""
        row, live = await self._look(packet_id)
        luckiest, has_luckiest = None, SplitKind(row["split"]) is SplitKind.LUCKY and row["count"] > 1
        if live is None:
            state = PacketState(row["state"])
            remaining_count, remaining_fen = row["remaining_count"], row["remaining_fen"]
            if state is PacketState.EXHAUSTED and has_luckiest:
                with ledger_errors():
                    luckiest = _luckiest(await self._pool.fetchrow(SQL["luckiest"], int(packet_id)))
            elif state is PacketState.FUNDED:
                remaining_count, remaining_fen = row["count"], row["total_fen"]
        else:
            state, remaining_count, remaining_fen = live.state, live.remaining_count, live.remaining_fen
            if state is PacketState.EXHAUSTED and has_luckiest:
                luckiest = _luckiest(live.luckiest)
        if state in _UNDER_WAY and await self._store.now_ms(lane_of(packet_id)) >= row["expires_at_ms"]:
            state = PacketState.EXPIRED
        return PacketView(
            packet_id=packet_id,
            sender=row["sender"],
            purpose=Purpose(row["purpose"]),
            label=row["label"],
            state=state,
            split=SplitKind(row["split"]),
            asset=row["asset"] or self._currency,
            scale=SCALE if row["asset"] is None else row["scale"],
            total_fen=row["total_fen"],
            count=row["count"],
            min_fen=row["min_fen"],
            max_fen=row["max_fen"],
            greeting=row["greeting"],
            recipients=tuple(row["recipients"]),
            ack=strongest(self._ack, None if row["ack"] is None else Ack(row["ack"])),
            commitment=row["commitment"].hex(),
            created_at_ms=row["created_at_ms"],
            arrives_at_ms=row["arrives_at_ms"],
            expires_at_ms=row["expires_at_ms"],
            claimed_count=row["count"] - remaining_count,
            claimed_fen=row["total_fen"] - remaining_fen,
            remaining_count=remaining_count,
            remaining_fen=remaining_fen,
            luckiest=luckiest,
            settled_at_ms=row["settled_at_ms"],
        )

    async def sees_amounts(self, view: PacketView, user_id: str | None) -> bool:
        """``PacketView.shows_amounts_to``. Call this after reading the amounts: they may be older than a share."""
        if view.shows_amounts_to(user_id, has_share=False):
            return True
        return user_id is not None and await self._store.claim_of(view.packet_id, user_id) is not None

    async def share_of(self, view: PacketView, user_id: str) -> int | None:
        """The amount of a user's share of a packet that was just read, as soon as it is given. None: they have none.

        It does not wait as a claim's answer does: until that answer, a share may be less safe than the packet's ack
        mode promises.
        """
        # First Redis, which keeps a packet until the ledger has settled it; what it has dropped, the ledger has.
        claim = await self._store.claim_of(view.packet_id, user_id)
        if claim is not None:
            return claim.amount_fen
        if view.state in _UNDER_WAY:
            return None
        with ledger_errors():
            (found,) = await self._pool.fetch(CLAIMS["claims_of"], [int(view.packet_id)], [user_id])
        amount_fen: int | None = found["amount_fen"]
        return amount_fen

    async def claims(self, packet_id: str, *, after: str | None, limit: int) -> ClaimsPage:
        """A packet's claims in slot order. Raises UnknownPacketError, InvalidFieldsError for an invalid cursor."""
        (last_slot,) = parse(after, parts=1, start=(-1,))
        row, live = await self._look(packet_id)
        if row["count"] <= READ_WHOLE_COUNT_MAX and live is not None:
            held = await self._store.claims(packet_id)
            rows = [_listed(claim) for claim in held if claim.slot > last_slot][: limit + 1]
        else:
            with ledger_errors():
                found = await self._pool.fetch(SQL["claims"], int(packet_id), last_slot, limit + 1)
            rows = [ListedClaim(**claim) for claim in found]
        return ClaimsPage(claims=rows[:limit], next=str(rows[limit - 1].slot) if len(rows) > limit else None)

    async def proof(self, packet_id: str) -> Proof:
        """The proof that a packet was split as committed. Raises UnknownPacketError, NotSettledError."""
        row = await self._row(packet_id)
        if row["settled_at_ms"] is None:
            raise NotSettledError("The proof is available once the packet has settled.")
        claims = None
        if row["count"] <= CLAIMS_MAX:
            with ledger_errors():
                claims = await self._pool.fetch(SQL["claims"], int(packet_id), -1, CLAIMS_MAX)
        return from_ledger(packet_id, row, claims)

    async def records(
        self, user_id: str, *, role: str, after: str | None, limit: int, asset: str | None = None
    ) -> PacketsPage:
        """The packets that a user has ``sent``, or ``received`` a share of, newest first, in the ledger's order.

        ``asset``: those of this asset (None: of the ledger's currency).
        Raises InvalidFieldsError for an invalid cursor.
        """
        (below,) = parse(after, parts=1, start=(NEWEST,))
        some = (user_id, below, limit + 1, asset)
        with ledger_errors():
            if role == "sent":
                rows = await self._pool.fetch(SQL["sent_by"], *some)  # all in the first volume
            else:
                rows = await self._volumes.newest(
                    below, limit + 1, lambda payers: self._pool.fetch(SQL["received_by"], *some, *payers)
                )
        states = await self._states_now(rows[:limit])
        packets = [
            PacketSummary(
                packet_id=str(row["packet_id"]),
                role=role,
                state=states[row["packet_id"]],
                amount_fen=row["amount_fen"],
                at_ms=row["at_ms"],
            )
            for row in rows[:limit]
        ]
        next_below = str(rows[limit - 1]["transfer_id"]) if len(rows) > limit else None
        return PacketsPage(packets=packets, next=next_below)

    async def _states_now(self, rows: Sequence[asyncpg.Record]) -> dict[int, PacketState]:
        """Each packet's state: Redis's if the ledger may be behind, otherwise (or without Redis) the ledger's."""
        states = {row["packet_id"]: PacketState(row["state"]) for row in rows}
        under_way = {str(row["packet_id"]): row for row in rows if states[row["packet_id"]] in _UNDER_WAY}
        asked = self._store.by_server(under_way)
        for live in await asyncio.gather(*map(self._live_states, asked)):
            for packet_id, (held, now_ms) in live.items():
                row = under_way[packet_id]
                if held is not None and held not in _NOT_OPEN_YET:
                    states[row["packet_id"]] = PacketState.OPEN if held == _HELD else PacketState(held)
                if states[row["packet_id"]] in _UNDER_WAY and now_ms >= row["expires_at_ms"]:
                    states[row["packet_id"]] = PacketState.EXPIRED
        return states

    async def _live_states(self, packet_ids: Sequence[str]) -> dict[str, tuple[str | None, int]]:
        """The states of one server's packets, each with the server's time. Empty if the server does not answer."""
        try:
            states = await self._store.states(packet_ids)
            now_ms = await self._store.now_ms(lane_of(packet_ids[0]))
        except UnavailableError:
            return {}
        return {packet_id: (state, now_ms) for packet_id, state in zip(packet_ids, states, strict=True)}

    async def _row(self, packet_id: str) -> asyncpg.Record:
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["packet"], int(packet_id))
        if row is None:
            raise UnknownPacketError("No packet has this number.")
        return row

    async def _look(self, packet_id: str) -> tuple[asyncpg.Record, LiveCounts | None]:
        """The ledger's row, and Redis's counts (None if the row is enough: the packet has ended or is not open)."""
        row = await self._row(packet_id)
        if row["state"] not in _UNDER_WAY:
            return row, None
        live = await self._store.counts(packet_id)
        if live is None and row["state"] == PacketState.OPEN:
            # The packet may have ended, settled and been dropped since the row was read.
            row = await self._row(packet_id)
            if row["state"] == PacketState.OPEN:
                raise RecoveringError("This packet is being recovered from the ledger: try again in a few seconds.")
        return row, live


def _listed(row: ClaimRow) -> ListedClaim:
    return ListedClaim(user_id=row.user_id, amount_fen=row.amount_fen, slot=row.slot, claimed_at_ms=row.claimed_at_ms)


def _luckiest(row: ClaimRow | asyncpg.Record | None) -> Luckiest | None:
    if row is None:
        return None
    if isinstance(row, ClaimRow):
        return Luckiest(user_id=row.user_id, amount_fen=row.amount_fen, slot=row.slot, claimed_at_ms=row.claimed_at_ms)
    return Luckiest(**row)
