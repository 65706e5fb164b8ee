"""The engine as a hundred lines of plain Python would have it: packets, wallets, and what each claim is told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.ids import lane_of
from engine.records import ClaimResult, Outcome, PacketState

EMPTY, BUSY = ClaimResult(Outcome.EMPTY, 0), ClaimResult(Outcome.BUSY, 0)
REFUSED = ClaimResult(Outcome.NOT_INVITED, 0)
MISSING = ClaimResult(Outcome.MISSING, 0)
FROZEN, LIMITED = ClaimResult(Outcome.FROZEN, 0), ClaimResult(Outcome.LIMITED, 0)
_ENDED = {
    PacketState.EXPIRED: ClaimResult(Outcome.EXPIRED, 0),
    PacketState.RETRACTED: ClaimResult(Outcome.RETRACTED, 0),
}


@dataclass
class Packet:
    """One packet. ``amounts``: its shares in the order in which they are given."""

    sender: str
    amounts: Sequence[int]
    recipients: frozenset[str]
    is_over: bool = False
    is_rebuilt: bool = False  # nobody knows any more who had seen it
    is_part: bool = False  # of a campaign: nobody claims it past that
    state: PacketState = PacketState.OPEN
    claims: dict[str, int] = field(default_factory=dict)  # user -> amount

    @property
    def rest_fen(self) -> int:
        """What nobody has."""
        return sum(self.amounts) - sum(self.claims.values())


@dataclass
class Model:
    """All packets and wallets. ``positions``: how many changes each lane has had."""

    packets: dict[str, Packet] = field(default_factory=dict)
    wallets: Counter[str] = field(default_factory=Counter)
    positions: Counter[int] = field(default_factory=Counter)
    frozen: set[str] = field(default_factory=set)
    limited: set[str] = field(default_factory=set)

    def deposit(self, user: str, amount_fen: int) -> None:
        """Money from outside."""
        self.wallets[user] += amount_fen

    def can_send(self, sender: str, total_fen: int) -> bool:
        """Whether the wallet holds it. The ledger may hold less at this moment: what was won is on its way."""
        return self.wallets[sender] >= total_fen

    def send(self, packet_id: str, packet: Packet) -> None:
        """Pay, and open."""
        self.wallets[packet.sender] -= sum(packet.amounts)
        self.packets[packet_id] = packet
        self.positions[lane_of(packet_id)] += 1

    def claim(self, packet_id: str, user: str, *, had_shares: bool) -> ClaimResult:
        """What a claim is told, see ``ask``."""
        packet = self.packets.get(packet_id)
        return REFUSED if packet is not None and packet.is_part else self.ask(packet_id, user, had_shares=had_shares)

    def ask(self, packet_id: str, user: str, *, had_shares: bool) -> ClaimResult:  # noqa: PLR0911 - one an outcome
        """What the script says of a claim if the ledger is not too far behind; a winner's is given by ``give``.

        ``had_shares``: whether the packet had any left when the call began that the claim is part of.
        """
        packet = self.packets.get(packet_id)
        if packet is None:
            return MISSING
        if user in packet.claims:
            return ClaimResult(Outcome.ALREADY, packet.claims[user])
        if packet.state in _ENDED:
            return _ENDED[packet.state]
        if packet.state is PacketState.OPEN and packet.is_over:
            return _ENDED[PacketState.EXPIRED]
        if packet.recipients and user not in packet.recipients:
            return REFUSED
        if had_shares and user in self.frozen | self.limited:
            return FROZEN if user in self.frozen else LIMITED
        if len(packet.claims) == len(packet.amounts):
            return EMPTY
        return ClaimResult(Outcome.CLAIMED, packet.amounts[len(packet.claims)])

    def walk(self, buckets: Iterable[str], user: str) -> tuple[list[str], str, ClaimResult]:
        """What a tap is told: the ended buckets that it passes, the one that answers, and the answer."""
        passed: list[str] = []
        for packet_id in buckets:
            packet = self.packets[packet_id]
            due = self.ask(packet_id, user, had_shares=len(packet.claims) < len(packet.amounts))
            if due != EMPTY and due not in _ENDED.values():
                return passed, packet_id, due
            passed.append(packet_id)
        return passed, "", EMPTY

    def give(self, packet_id: str, user: str) -> None:
        """The next share is the user's."""
        packet = self.packets[packet_id]
        amount_fen = packet.amounts[len(packet.claims)]
        packet.claims[user] = amount_fen
        self.wallets[user] += amount_fen
        self.positions[lane_of(packet_id)] += 1
        if len(packet.claims) == len(packet.amounts):
            packet.state = PacketState.EXHAUSTED

    def close(self, packet_id: str, reason: PacketState) -> int | None:
        """End a packet; how much goes back to its sender, None if it is not to be closed."""
        packet = self.packets[packet_id]
        is_untouched = not packet.claims and not packet.is_rebuilt
        is_due = packet.is_over if reason is PacketState.EXPIRED else is_untouched
        if packet.state is not PacketState.OPEN or not is_due:
            return None
        packet.state = reason
        self.wallets[packet.sender] += packet.rest_fen
        self.positions[lane_of(packet_id)] += 1
        return packet.rest_fen
