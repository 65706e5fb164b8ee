"""How a total becomes shares: deterministic from a secret seed, with a commitment when the packet is sent.

docs/split.md has the exact rules, so that anyone can redo a split and its commitment.
"""

import hashlib
import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number
from engine.packets import doubling
from engine.records import SplitKind

SEED_BYTES = 32

TOTAL_FEN_MAX = 10**15
"""The largest total. Twice this total is still far below 64 bits."""

_COMMITMENT_DOMAIN = "hongbao commitment 1"


def new_seed() -> bytes:
    """32 secret bytes from the operating system. Anyone who knows them before the last claim knows every share."""
    return secrets.token_bytes(SEED_BYTES)


def check(split: SplitKind, total_fen: int, count: int, min_fen: int, max_fen: int) -> None:
    """Raise InvalidFieldsError, naming every bad field, unless ``total_fen`` fits ``count`` shares within bounds."""
    problems: list[FieldProblem] = []
    if count < 1:
        problems.append(FieldProblem("count", "must be at least 1"))
    if min_fen < 1:
        problems.append(FieldProblem("min_fen", "must be at least 1"))
    if min_fen > max_fen:
        problems.append(FieldProblem("max_fen", f"must be at least min_fen, {min_fen}"))
        problems.append(FieldProblem("min_fen", f"must be at most max_fen, {max_fen}"))
    if total_fen > TOTAL_FEN_MAX:
        problems.append(FieldProblem("total_fen", f"must be at most {TOTAL_FEN_MAX}"))
    elif not problems:
        problems = _total_problems(split, total_fen, count, min_fen, max_fen)
    if problems:
        raise InvalidFieldsError(problems)


def split(  # noqa: PLR0917 - the terms in their usual order, as in check
    split: SplitKind, total_fen: int, count: int, min_fen: int, max_fen: int, seed: bytes
) -> NDArray[np.int64]:
    """Exactly ``count`` shares in fen, in the order of giving: index 0 goes to the first claim.

    They sum to ``total_fen``, and each is within ``min_fen`` and ``max_fen``. The same arguments always return the same
    shares. A million shares take 0.1 to 0.2 s: use a thread. Raises InvalidFieldsError as ``check`` does.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    check(split, total_fen, count, min_fen, max_fen)
    if split is SplitKind.EQUAL:
        return np.full(count, total_fen // count, dtype=np.int64)
    return doubling.lucky(total_fen, count, min_fen, max_fen, seed)


def luckiest_slot(amounts_fen: NDArray[np.int64] | Sequence[int]) -> int:
    """手气最佳: the index of the largest share. Among equals it is the first, which is the earlier claim."""
    return int(np.argmax(amounts_fen))


def commitment(  # noqa: PLR0917 - the terms in their usual order, as in check
    packet_id: str, split: SplitKind, total_fen: int, count: int, min_fen: int, max_fen: int, seed: bytes
) -> bytes:
    """The 32 bytes that bind a packet to its split before anyone claims: SHA-256 over eight lines of text."""
    if len(seed) != SEED_BYTES or not is_packet_number(packet_id):
        raise ValueError("a commitment needs a packet number and a seed of 32 bytes")
    lines = (_COMMITMENT_DOMAIN, packet_id, split.value, total_fen, count, min_fen, max_fen, seed.hex())
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("ascii")).digest()


def _total_problems(split: SplitKind, total_fen: int, count: int, min_fen: int, max_fen: int) -> list[FieldProblem]:
    if total_fen < count * min_fen:
        return [FieldProblem("total_fen", f"must be at least {count * min_fen}: {count} shares of {min_fen} or more")]
    if total_fen > count * max_fen:
        return [FieldProblem("total_fen", f"must be at most {count * max_fen}: {count} shares of {max_fen} or less")]
    if split is SplitKind.EQUAL and total_fen % count:
        below = total_fen - total_fen % count  # both neighbours are in bounds, because total_fen is between them
        fitting = f"{below} or {below + count}" if below + count <= TOTAL_FEN_MAX else f"{below}"
        return [FieldProblem("total_fen", f"must be a multiple of count, {count}: {fitting} would do")]
    return []
