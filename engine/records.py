"""Values that several rooms share. A value that one room uses is in that room.

They are frozen. Amounts are in fen, times in milliseconds since the epoch.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

FEN_MAX = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly. All accounts together never hold more (deposits)."""


class PacketState(StrEnum):
    """A packet's state: ``funded -> open -> exhausted | expired | retracted``. The last three are final."""

    FUNDED = "funded"  # paid for in Postgres, not yet (fully) in Redis
    OPEN = "open"  # its shares can be claimed
    EXHAUSTED = "exhausted"  # every share has been claimed
    EXPIRED = "expired"  # its time ran out with shares left; the rest goes back to the sender
    RETRACTED = "retracted"  # its sender took it back before anyone claimed


class Outcome(StrEnum):
    """The claim script's answers for one claim, in order of precedence. The values are the script's letters."""

    MISSING = "M"  # Redis has no such packet (unknown, still loading, or settled and dropped)
    ALREADY = "A"  # the user already has a share; the answer repeats it
    RETRACTED = "R"
    EXPIRED = "X"
    NOT_INVITED = "N"
    HELD = "H"  # a transfer that has not arrived
    FROZEN = "F"  # the user's account may not claim
    LIMITED = "L"  # the user has received as much as they may for now
    EMPTY = "E"
    BUSY = "B"  # the lane's event backlog is at its bound
    CLAIMED = "C"

    # Enum's own __hash__ hashes the name in Python, and outcomes are looked up once per claim.
    __hash__ = str.__hash__


CLAIMS_PER_CALL_MAX = 1_000
"""The claim script's bound on users: its arguments are unpacked on Lua's stack, which overflows near 8,000."""


class Ack(StrEnum):
    """What must have happened before a claim is acknowledged, the weakest first."""

    MEMORY = "memory"  # Redis has decided
    FSYNC = "fsync"  # and its append-only file is on the disk
    REPLICA = "replica"  # and its replicas have it
    LEDGER = "ledger"  # and it is committed in the ledger

    # For the same reason as in Outcome.
    __hash__ = str.__hash__

    def is_weaker_than(self, other: "Ack") -> bool:
        """Whether it promises less."""
        return _STRENGTHS[self] < _STRENGTHS[other]


_STRENGTHS = {ack: strength for strength, ack in enumerate(Ack)}


def strongest(setting: Ack, asked: Ack | None) -> Ack:
    """A packet's mode: the server's setting, or its sender's choice if that promises more."""
    return asked if asked is not None and setting.is_weaker_than(asked) else setting


class ClaimResult(msgspec.Struct, frozen=True, gc=False):
    """One claim's answer. ``amount_fen`` is 0 unless the outcome is CLAIMED or ALREADY.

    It is a Struct, because one is made per claim and no other record is made as fast.
    """

    outcome: Outcome
    amount_fen: int


class LimitedResult(ClaimResult, frozen=True, gc=False, kw_only=True):
    """The answer LIMITED: the user may claim again from ``until_ms`` on."""

    until_ms: int


class CouponState(StrEnum):
    """What has become of a coupon. The last three are final."""

    HELD = "held"  # somebody can redeem it
    REDEEMED = "redeemed"
    VOID = "void"  # its issuer has declared it void
    EXPIRED = "expired"  # its time is over


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponFace:
    """What a coupon is worth. ``amount_off``: ``off_fen``. ``threshold``: the same, on a sum of ``from_fen`` or more.

    ``percent_off``: ``percent`` off. ``text``: what ``text`` says.
    """

    kind: Literal["amount_off", "percent_off", "threshold", "text"]
    off_fen: int | None = None
    from_fen: int | None = None
    percent: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A coupon that somebody was given. ``code``: None for all but its holder. ``ended_at_ms`` None: it is held."""

    coupon_id: str
    batch_id: str
    name: str
    face: CouponFace
    state: CouponState
    holder: str
    code: str | None
    is_transferable: bool
    valid_from_ms: int
    valid_until_ms: int
    given_at_ms: int
    ended_at_ms: int | None


class CouponResult(ClaimResult, frozen=True, gc=False, kw_only=True):
    """The answer CLAIMED or ALREADY of a share that is a coupon."""

    coupon: Coupon


class ClaimReply(NamedTuple):
    """One call of the claim script: one result per claim, in the order asked.

    ``position``: how many changes the lane had emitted after the call, under ``lane_token``. ``acks``: per packet the
    first letter of the mode that its sender chose, or "-". None if no sender in the call has chosen one.
    """

    results: list[ClaimResult]
    position: int
    lane_token: str
    acks: str | None


class SplitKind(StrEnum):
    """How a total becomes shares."""

    LUCKY = "lucky"
    EQUAL = "equal"


class Purpose(StrEnum):
    """The purpose of money in custody."""

    PACKET = "packet"
    TRANSFER = "transfer"  # one share for one recipient
    CAMPAIGN = "campaign"  # a part of a campaign's pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A sender's terms, checked against the product's limits. ``recipients`` empty: anyone may claim.

    ``asset`` None: it is of the ledger's currency. ``ack`` None: claims are acknowledged as the server's setting says.
    ``label``: the group it is sent to. ``arrives_after_s``: a transfer cannot be claimed before this, and its ``ttl_s``
    begins then.
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
    asset: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """One user's share."""

    user_id: str
    amount_fen: int
    slot: int
    claimed_at_ms: int


class FreezeScope(StrEnum):
    """What a frozen user may not do."""

    ACCOUNT = "account"  # send, claim, transfer, withdraw
    SENDING = "sending"  # packets and transfers
    RECEIVING = "receiving"  # claims
