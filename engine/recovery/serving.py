"""The rule by which a lane serves, and the reasons why it does not."""

from enum import Enum, auto

from engine.lanes.reader import LaneStatus
from engine.recovery.fencing import REBUILDING, moving_until_ms


class Paused(Enum):
    """Why a lane is paused: the first of these reasons that holds."""

    LOST = auto()  # Redis has nothing of it
    REBUILDING = auto()  # it is being rebuilt from the ledger
    MOVING = auto()  # it is being moved to another server of its cluster
    OTHER_EPOCH = auto()  # Redis and the ledger disagree about its epoch, for example while it is being fenced
    SET_BACK = auto()  # Redis is behind the ledger
    UNVERIFIED = auto()  # Redis was restarted, and its data is not compared with the ledger yet


def why_paused(epoch: str, position: int, status: LaneStatus | None) -> Paused | None:
    """Compare a lane in Redis with its ``epoch`` and ``position`` in the ledger. Returns None if it serves."""
    if status is None:
        return Paused.LOST
    if status.epoch.startswith(REBUILDING):
        return Paused.REBUILDING
    if moving_until_ms(status) is not None:
        return Paused.MOVING
    if status.epoch != epoch:
        return Paused.OTHER_EPOCH
    if status.position < position:
        return Paused.SET_BACK
    return None if status.is_verified else Paused.UNVERIFIED
