"""What an answer means to a load test: it is what was asked for, a refusal to be honoured, or a failure."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

REFUSED_NAME = "refused: busy"
"""Where a 503 with Retry-After is counted: apart, and not as a failure."""
OUTCOMES = frozenset(("claimed", "already_claimed", "sold_out", "expired", "retracted"))
"""All of them are normal: losing a grab is not a failure."""
_HELD = ("claimed", "already_claimed")
_REASON_LENGTH_MAX = 200
_REMEMBERED_MAX = 64


class ContradictionError(Exception):
    """Two answers that cannot both be true: the run ends and has failed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Asking again is right ``after_s`` seconds from now, and not before."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Neither an answer nor a refusal; ``reason`` is for the report, short and the same for the same cause."""

    reason: str


def judge(
    status: int, retry_after: str | None, body: bytes | None, *, expected: int
) -> dict[str, Any] | Refused | Failed:
    """The answer's JSON object when its status is ``expected``. ``status`` 0: the connection failed."""
    if status == 0:
        return Failed("no answer")
    if status == 503 and retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        return Refused(float(retry_after))
    try:
        answer = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return Failed(f"{status} with a body that is not JSON")
    if not isinstance(answer, dict):
        return Failed(f"{status} with JSON that is not an object")
    if status != expected:
        return Failed(f"{status} {answer.get('code', 'without a code')}"[:_REASON_LENGTH_MAX])
    return answer


class Told:
    """The last answers one user was given about packets, to hold the next ones against. Old ones are forgotten."""

    def __init__(self) -> None:
        self._amounts: OrderedDict[str, int] = OrderedDict()

    def claim(self, packet_id: str, user_id: str, answer: dict[str, Any]) -> None:
        """Note the answer to a claim. Raises ContradictionError when it and an earlier one cannot both be true."""
        outcome, amount_fen = answer.get("outcome"), answer.get("amount_fen")
        about = f"{user_id} and packet {packet_id}"
        if outcome not in OUTCOMES or type(amount_fen) is not int:
            raise ContradictionError(f"A claim of {about} was answered with {answer!r}.")
        if (answer.get("packet_id"), answer.get("user_id")) != (packet_id, user_id):
            raise ContradictionError(f"A claim of {about} was given the answer to another: {answer!r}.")
        if (amount_fen > 0) != (outcome in _HELD):
            raise ContradictionError(f"A claim of {about} was answered {outcome} with {amount_fen} fen.")
        known_fen = self._amounts.get(packet_id)
        if known_fen is not None and (outcome, amount_fen) != ("already_claimed", known_fen):
            raise ContradictionError(
                f"{user_id} was told {known_fen} fen of packet {packet_id}, and then {outcome} with {amount_fen}."
            )
        if outcome in _HELD:
            self._remember(packet_id, amount_fen)

    def listed(self, packet_id: str, user_id: str, answer: dict[str, Any]) -> None:
        """Hold a packet's list of claims against what was told. Raises ContradictionError."""
        rows = [row for row in answer["claims"] if row["user_id"] == user_id]
        known_fen = self._amounts.get(packet_id)
        if len(rows) > 1 or (rows and known_fen is not None and rows[0]["amount_fen"] != known_fen):
            raise ContradictionError(
                f"{user_id} was told {known_fen} fen of packet {packet_id}; its list has {rows!r}."
            )

    def _remember(self, packet_id: str, amount_fen: int) -> None:
        self._amounts[packet_id] = amount_fen
        if len(self._amounts) > _REMEMBERED_MAX:
            self._amounts.popitem(last=False)


def check_packet(total_fen: int, count: int, view: dict[str, Any]) -> None:
    """Hold a packet as it is shown against the terms it was sent with. Raises ContradictionError."""
    shares, fen = view["claimed_count"] + view["remaining_count"], view["claimed_fen"] + view["remaining_fen"]
    least = min(view["claimed_count"], view["remaining_count"], view["claimed_fen"], view["remaining_fen"])
    if (view["total_fen"], view["count"], shares, fen) != (total_fen, count, count, total_fen) or least < 0:
        raise ContradictionError(
            f"Packet {view['packet_id']} was sent with {total_fen} fen in {count}; it shows {view!r}."
        )
