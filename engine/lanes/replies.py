"""What the scripts reply, and what they are asked for, in words. A test holds each to its script's header."""

from enum import StrEnum


class Opened(StrEnum):
    """The open script's replies."""

    FENCED = "FENCED"
    LATE = "LATE"
    EXISTS = "EXISTS"
    OFFSET = "OFFSET"
    MALFORMED = "MALFORMED"
    LOADED = "LOADED"
    OPENED = "OPENED"


class Closed(StrEnum):
    """The close script's replies."""

    FENCED = "FENCED"
    MALFORMED = "MALFORMED"
    MISSING = "MISSING"
    ENDED = "ENDED"
    NOT_DUE = "NOT_DUE"
    ARRIVED = "ARRIVED"
    CLAIMED = "CLAIMED"
    LATE = "LATE"
    VIEWED = "VIEWED"
    CLOSED = "CLOSED"


class CloseReason(StrEnum):
    """Why a packet is to end."""

    EXPIRED = "expired"
    RETRACTED = "retracted"
    RETURNED = "returned"


class Noted(StrEnum):
    """The view script's replies."""

    FENCED = "FENCED"
    MALFORMED = "MALFORMED"
    MISSING = "MISSING"
    ENDED = "ENDED"
    CLAIMED = "CLAIMED"
    LATE = "LATE"
    NOT_VIEWED = "NOT_VIEWED"
    NOTED = "NOTED"


class Followed(StrEnum):
    """The replies of the freeze script and of the limit script."""

    FENCED = "FENCED"
    MALFORMED = "MALFORMED"
    MOVED = "MOVED"
    FOLLOWED = "FOLLOWED"


class Claimed(StrEnum):
    """The claim script's replies for the whole call; the letters of single claims are ``records.Outcome``."""

    FENCED = "FENCED"
    MALFORMED = "MALFORMED"
    OK = "OK"


class Extended(StrEnum):
    """The extend script's replies."""

    FENCED = "FENCED"
    MALFORMED = "MALFORMED"
    MISSING = "MISSING"
    ENDED = "ENDED"
    EXTENDED = "EXTENDED"


class Fenced(StrEnum):
    """fence.lua's replies, in order of precedence."""

    CHANGED = "CHANGED"
    FENCED = "FENCED"


class Forgotten(StrEnum):
    """forget.lua's replies, in order of precedence."""

    MALFORMED = "MALFORMED"
    FORGOTTEN = "FORGOTTEN"
