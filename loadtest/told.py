"""Compares all answers to claims: two answers that cannot both be true end a load test."""

from collections import OrderedDict
from typing import Any

OUTCOMES = frozenset(("claimed", "already_claimed", "sold_out", "expired", "retracted"))
"""All of them are normal: losing a claim is not a failure."""
HELD = ("claimed", "already_claimed")
"""The outcomes with an amount."""


def is_plausible(outcome: Any, amount_fen: Any) -> bool:  # noqa: ANN401  # whatever a server wrote
    """Whether this can be the answer to a claim: an amount with a share, none without."""
    return outcome in OUTCOMES and type(amount_fen) is int and (amount_fen > 0) is (outcome in HELD)


class ContradictionError(Exception):
    """Two answers that cannot both be true, or an impossible one: the run ends as failed."""


class Told:
    """The earlier answers about packets, for comparison with the next ones.

    ``remembered_max``: beyond this, the oldest are forgotten. None remembers all. ``in_order``: each user's answers
    come one by one, so a known share cannot be claimed again.
    """

    def __init__(self, *, remembered_max: int | None, in_order: bool) -> None:
        self.amounts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._remembered_max, self._in_order = remembered_max, in_order

    def claim(self, packet_id: str, user_id: str, answer: dict[str, Any]) -> None:
        """Record the answer to a claim. Raises ContradictionError if an earlier one makes it impossible."""
        outcome: Any = answer.get("outcome")
        amount_fen: Any = answer.get("amount_fen")
        about = f"{user_id} and packet {packet_id}"
        if not is_plausible(outcome, amount_fen):
            raise ContradictionError(f"A claim of {about} was answered with {answer!r}.")
        if (answer.get("packet_id"), answer.get("user_id")) != (packet_id, user_id):
            raise ContradictionError(f"A claim of {about} got the answer to another: {answer!r}.")
        known_fen = self.amounts.get((packet_id, user_id))
        if known_fen is not None and not self._goes_with(known_fen, outcome, amount_fen):
            raise ContradictionError(
                f"{user_id} got {known_fen} fen of packet {packet_id} in an answer, "
                f"and then {outcome} with {amount_fen}."
            )
        if outcome in HELD:
            self._remember(packet_id, user_id, amount_fen)

    def listed(self, packet_id: str, user_id: str, answer: dict[str, Any]) -> None:
        """Compare a packet's list of claims with the answers. Raises ContradictionError."""
        rows = [row for row in answer["claims"] if row["user_id"] == user_id]
        known_fen = self.amounts.get((packet_id, user_id))
        if len(rows) > 1 or (rows and known_fen is not None and rows[0]["amount_fen"] != known_fen):
            raise ContradictionError(
                f"{user_id} got {known_fen} fen of packet {packet_id} in an answer; its list has {rows!r}."
            )

    def _goes_with(self, known_fen: int, outcome: str, amount_fen: int) -> bool:
        outcomes = ("already_claimed",) if self._in_order else HELD
        return outcome in outcomes and amount_fen == known_fen

    def _remember(self, packet_id: str, user_id: str, amount_fen: int) -> None:
        self.amounts[packet_id, user_id] = amount_fen
        if self._remembered_max is not None and len(self.amounts) > self._remembered_max:
            self.amounts.popitem(last=False)
