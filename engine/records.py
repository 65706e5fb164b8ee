"""The records use cases take and give. Frozen; amounts in fen, times in milliseconds since the epoch."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec


class PacketState(StrEnum):
    """Where a packet is. ``funded -> open -> exhausted | expired | retracted``; the last three never change again."""

    FUNDED = "funded"  # paid for in Postgres, not yet (fully) in Redis
    OPEN = "open"  # its shares can be claimed
    EXHAUSTED = "exhausted"  # every share has been claimed
    EXPIRED = "expired"  # its time ran out with shares left; the rest goes back to the sender
    RETRACTED = "retracted"  # its sender took it back before anyone claimed


class Outcome(StrEnum):
    """What the claim script answers for one claim, in order of precedence. The values are the script's letters."""

    MISSING = "M"  # Redis has no such packet (unknown, still loading, or settled and dropped)
    ALREADY = "A"  # the user has a share of it; the answer carries it again
    RETRACTED = "R"
    EXPIRED = "X"
    NOT_INVITED = "N"
    HELD = "H"  # a transfer that has not arrived
    FROZEN = "F"  # the user's account may not claim
    EMPTY = "E"
    BUSY = "B"  # the lane's event backlog is at its bound
    CLAIMED = "C"

    # Enum's own hashes the name in Python; outcomes are looked up once a claim.
    __hash__ = str.__hash__


class Ack(StrEnum):
    """What must have happened before a claim is acknowledged, the weakest first."""

    MEMORY = "memory"  # Redis has decided
    FSYNC = "fsync"  # and its append-only file is on the disk
    REPLICA = "replica"  # and its replicas have it
    LEDGER = "ledger"  # and it is committed in the ledger

    # As for outcomes.
    __hash__ = str.__hash__

    def is_weaker_than(self, other: "Ack") -> bool:
        """Whether it promises less."""
        return _STRENGTHS[self] < _STRENGTHS[other]


_STRENGTHS = {ack: strength for strength, ack in enumerate(Ack)}


def strongest(setting: Ack, asked: Ack | None) -> Ack:
    """What holds for a packet: the server's setting, or what its sender asked for if that promises more."""
    return asked if asked is not None and setting.is_weaker_than(asked) else setting


class ClaimResult(msgspec.Struct, frozen=True, gc=False):
    """One claim's answer. ``amount_fen`` is 0 unless the outcome is CLAIMED or ALREADY.

    A Struct, because one is made for every claim and this is the record that is made fastest.
    """

    outcome: Outcome
    amount_fen: int


class ClaimReply(NamedTuple):
    """One call of the claim script: a result a claim, in the order asked.

    ``position``: how many changes the lane had emitted after the call, under which ``word``. ``acks``: for each packet
    the first letter of what its sender asked for, "-" for nothing; None when no packet of the call has anything.
    """

    results: list[ClaimResult]
    position: int
    word: str
    acks: str | None


class SplitKind(StrEnum):
    """How a total becomes shares."""

    LUCKY = "lucky"
    EQUAL = "equal"


class Purpose(StrEnum):
    """What money in custody is sent for."""

    PACKET = "packet"
    TRANSFER = "transfer"  # one share for one recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a sender asks for, checked against the product's limits. ``recipients`` empty: anyone may claim.

    ``ack`` None: claims are acknowledged as the server's setting says. ``label``: the group it is sent to.
    ``arrives_after_s``: of a transfer, before that it cannot be claimed; its ``ttl_s`` begins then.
    """

    total_fen: int
    count: int
    split: SplitKind
    min_fen: int
    max_fen: int
    ttl_s: int
    greeting: str
    recipients: tuple[str, ...]
    ack: Ack | None = None
    label: str | None = None
    purpose: Purpose = Purpose.PACKET
    arrives_after_s: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Luckiest:
    """手气最佳: the largest share once all are gone; of equals, the earlier claim."""

    user_id: str
    amount_fen: int
    slot: int
    claimed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketView:
    """A packet as anyone with its number may see it. ``settled_at_ms``: when the ledger had emptied its custody.

    ``ack``: what holds for its claims now, which is never less than the server's setting. ``arrives_at_ms``: of a
    transfer that cannot be claimed before.
    """

    packet_id: str
    sender: str
    purpose: Purpose
    label: str | None
    state: PacketState
    split: SplitKind
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
    claimed_fen: int
    remaining_count: int
    remaining_fen: int
    luckiest: Luckiest | None
    settled_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """One share somebody has."""

    user_id: str
    amount_fen: int
    slot: int
    claimed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsPage:
    """Claims in slot order. ``next``: the cursor of the following page, None on the last."""

    claims: list[ClaimRow]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSummary:
    """One line of a user's records. ``amount_fen``: what was sent, or the share that was received."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What a user holds, in fen. A user nobody has paid yet holds 0."""

    user_id: str
    balance_fen: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTransfer:
    """One movement as its wallet sees it: ``amount_fen`` is positive when money came in, negative when it left."""

    transfer_id: str
    kind: str
    amount_fen: int
    at_ms: int
    packet_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersPage:
    """A wallet's movements, newest first."""

    transfers: list[WalletTransfer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """The answer to a deposit."""

    transfer_id: str
    user_id: str
    amount_fen: int
    balance_fen: int
    replayed: bool


class TransferState(StrEnum):
    """Where a transfer is. The last three never change again."""

    DELAYED = "delayed"  # it arrives by itself; until then its sender can cancel it
    WAITING = "waiting"  # for its recipient
    CONFIRMED = "confirmed"  # its recipient has it
    RETURNED = "returned"  # not confirmed in time: its sender has it again
    CANCELLED = "cancelled"  # its sender called it off


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer between two people. ``arrives_at_ms`` None: it waits to be confirmed from the beginning."""

    transfer_id: str
    sender: str
    to: str
    amount_fen: int
    note: str
    state: TransferState
    created_at_ms: int
    arrives_at_ms: int | None
    expires_at_ms: int


class FreezeScope(StrEnum):
    """What a frozen user may not do."""

    ACCOUNT = "account"  # send, claim, transfer, withdraw
    SENDING = "sending"  # packets and transfers
    RECEIVING = "receiving"  # claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Who froze what, when and why. ``until_ms`` None: until it is lifted; ``lifted_*`` None: it was not."""

    freeze_id: int
    scope: FreezeScope
    reason: str
    frozen_by: str
    frozen_at_ms: int
    until_ms: int | None
    lifted_at_ms: int | None
    lifted_by: str | None
    lifted_reason: str | None


class AccountKind(StrEnum):
    """Whose account it is."""

    PERSON = "person"
    MERCHANT = "merchant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most an account may move, in fen: at once, and sent or received in a day of China's. 0: no limit."""

    transaction_fen_max: int
    day_sent_fen_max: int
    day_received_fen_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is known of a user. Limits that are None are the settings'; ``limits``: what holds.

    ``addresses``: the networks it sends from, any when there is none. ``changed_*`` None: nobody has said anything yet.
    """

    user_id: str
    kind: AccountKind
    addresses: list[str]
    transaction_fen_max: int | None
    day_sent_fen_max: int | None
    day_received_fen_max: int | None
    limits: Limits
    changed_by: str | None
    changed_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLimit:
    """A group's limit. ``day_sent_fen_max`` None: the setting's; ``limit_fen``: what holds, 0: no limit."""

    label: str
    day_sent_fen_max: int | None
    limit_fen: int
    changed_by: str
    changed_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """What somebody owes by a dispute's decision that their wallet could not pay."""

    debt_id: int
    dispute_id: int
    creditor: str
    amount_fen: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that is known of an account. ``frozen``: what is in force; ``freezes``, ``debts``: the last, newest first."""

    profile: Profile
    frozen: list[FreezeScope]
    freezes: list[Freeze]
    debts: list[Debt]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something to look at. ``delivered_at_ms`` None: not delivered by webhook, or not yet; ``tries``: how often."""

    alert_id: str
    kind: str
    user_id: str | None
    at_ms: int
    details: dict[str, object]
    tries: int
    delivered_at_ms: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsPage:
    """Alerts, newest first."""

    alerts: list[Alert]
    next: str | None
