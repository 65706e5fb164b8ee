"""Which part of history an audit walks: all of it, what came after an anchor, or what is between two anchors.

Entries get their numbers before their transactions end. So a number is an end of history only if every transaction that
was open when it was read has ended since. Then each entry up to it is there for good, or never will be. Lanes have an
end of their own, because their batches come one after another: the checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ID_MIN, ID_MAX = -(2**63), 2**63 - 1
"""Every entry's number is between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEnd:
    """A lane's checkpoint, the hash of its last batch, and how many packets its batches had opened and closed."""

    position: int
    hash: bytes | None
    opened: int
    closed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where an audit ended. Later entries have larger numbers than ``transfer_id``, and most than ``last_transfer_id``.

    The audit also read entries between the two, but some of those between them may have come later.
    """

    transfer_id: int
    last_transfer_id: int
    lanes: Mapping[int, LaneEnd]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of history. ``after`` None: from the first entry on. ``up_to`` None: to the last."""

    after: Cut | None = None
    up_to: Cut | None = None

    @property
    def after_id(self) -> int:
        """Entries of this part have larger numbers."""
        return ID_MIN if self.after is None else self.after.transfer_id

    @property
    def seen_id(self) -> int:
        """No entry with a larger number was there when the part before this one was audited."""
        return ID_MIN if self.after is None else self.after.last_transfer_id

    @property
    def up_to_id(self) -> int:
        """Entries that no batch wrote have no larger numbers in this part."""
        return ID_MAX if self.up_to is None else self.up_to.transfer_id

    @property
    def batched_up_to_id(self) -> int:
        """Entries of this part's batches have no larger numbers, except for those that were retried later."""
        return ID_MAX if self.up_to is None else self.up_to.last_transfer_id


ALL = Span()
