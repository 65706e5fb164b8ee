"""How a load test judges an answer: as a success, as a refusal to obey, or as a failure."""

from dataclasses import dataclass
from typing import Any

import orjson

from loadtest.told import ContradictionError

REFUSED_NAME = "refused: busy"
"""The name under which a 503 with Retry-After is counted: separately, and not as a failure."""
_REASON_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Refused:
    """The request may be repeated after ``after_s`` seconds, not before."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Neither an answer nor a refusal. ``reason``: for the report, short and the same for the same cause."""

    reason: str


def judge(
    status: int, retry_after: str | None, body: bytes | None, *, expected: int
) -> dict[str, Any] | Refused | Failed:
    """The answer's JSON object if its status is ``expected``. ``status`` 0: the connection failed."""
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


def check_packet(total_fen: int, count: int, view: dict[str, Any]) -> None:
    """Compare a packet as shown with the terms it was sent with. Raises ContradictionError."""
    shares, fen = view["claimed_count"] + view["remaining_count"], view["claimed_fen"] + view["remaining_fen"]
    least = min(view["claimed_count"], view["remaining_count"], view["claimed_fen"], view["remaining_fen"])
    if (view["total_fen"], view["count"], shares, fen) != (total_fen, count, count, total_fen) or least < 0:
        raise ContradictionError(
            f"Packet {view['packet_id']} was sent with {total_fen} fen in {count}; it shows {view!r}."
        )
