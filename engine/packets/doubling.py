"""The lucky split's draws and shuffle. docs/split.md states the rule; this module makes it fast.

Two paths return the same shares: plain Python for small counts and for the last shares of large ones, numpy otherwise.
"""

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCKS = 64
"""The mean is recomputed once per ``max(1, remaining // BLOCKS)`` shares: up to 127 shares, after each one."""

STREAM_BLOCK_BYTES = 2**20
"""hashlib holds the interpreter lock for a whole digest. Blocks limit each hold to about 2 ms."""

_STREAM_DOMAIN = b"hongbao split 1\n"
_PLAIN_COUNT_MAX = 1_000  # below this, numpy's cost per call outweighs its speed per element
_WORD_BYTES = 8
_LOW_HALF = 2**32 - 1


def lucky(total_fen: int, count: int, min_fen: int, max_fen: int, seed: bytes) -> NDArray[np.int64]:
    """The shares in fen, in the order of giving. The terms must have passed ``split.check``."""
    shares, keys = draw(total_fen, count, min_fen, max_fen, seed)
    if isinstance(shares, list):
        order = sorted(range(count), key=keys.__getitem__)
        return np.array([shares[index] for index in order], dtype=np.int64)
    return shares[_stable_order(np.asarray(keys))]


def draw(
    total_fen: int, count: int, min_fen: int, max_fen: int, seed: bytes
) -> tuple[list[int] | NDArray[np.int64], Sequence[int] | NDArray[np.uint64]]:
    """The shares before the shuffle, and the shuffle's sort keys: lists for small counts, otherwise arrays."""
    surplus_fen, cap_fen = total_fen - count * min_fen, max_fen - min_fen
    stream = _stream(seed, 3 * count * _WORD_BYTES)
    if count <= _PLAIN_COUNT_MAX:
        words = struct.unpack(f"<{3 * count}Q", stream)
        parts = _draw_plain(surplus_fen, count, cap_fen, words[:count], words[count : 2 * count])
        return [min_fen + part for part in parts], words[2 * count :]
    roundings, picks, keys = np.frombuffer(stream, dtype="<u8").reshape(3, count)
    shares = _draw_vectorised(surplus_fen, count, cap_fen, roundings, picks)
    shares += min_fen
    return shares, keys


def _stream(seed: bytes, length: int) -> bytes:
    """The first ``length`` bytes of the seed's stream. The last block is cut short."""
    prefix = _STREAM_DOMAIN + seed
    if length <= STREAM_BLOCK_BYTES:
        return hashlib.shake_256(prefix + bytes(8)).digest(length)
    return b"".join(
        hashlib.shake_256(prefix + number.to_bytes(8, "little")).digest(min(STREAM_BLOCK_BYTES, length - start))
        for number, start in enumerate(range(0, length, STREAM_BLOCK_BYTES))
    )


def _draw_plain(
    surplus_fen: int, count: int, cap_fen: int, roundings: Sequence[int], picks: Sequence[int]
) -> list[int]:
    """Draw all ``count`` parts (what each share has above the minimum), one word pair at a time."""
    parts: list[int] = []
    while count > 1:
        block = max(1, count // BLOCKS)
        mirrored = 2 * surplus_fen > count * cap_fen
        pool = count * cap_fen - surplus_fen if mirrored else surplus_fen
        left = pool
        for position in range(len(parts), len(parts) + block):
            high = (2 * pool + (roundings[position] * count >> 64)) // count
            part = min(left, picks[position] * (high + 1) >> 64)  # left matters only in blocks of several shares
            left -= part
            parts.append(cap_fen - part if mirrored else part)
        count -= block
        surplus_fen = count * cap_fen - left if mirrored else left
    parts.append(surplus_fen)
    return parts


def _draw_vectorised(
    surplus_fen: int, count: int, cap_fen: int, roundings: NDArray[np.uint64], picks: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Draw the same parts as ``_draw_plain``, block by block. ``_draw_plain`` draws the small blocks at the end."""
    parts = np.empty(count, dtype=np.int64)
    start = 0
    while count > _PLAIN_COUNT_MAX:
        stop = start + count // BLOCKS
        mirrored = 2 * surplus_fen > count * cap_fen
        pool = count * cap_fen - surplus_fen if mirrored else surplus_fen
        drawn = _draw_block(pool, count, roundings[start:stop], picks[start:stop])
        left = pool - int(drawn.sum())
        if left < 0:
            drawn = np.diff(np.minimum(drawn.cumsum(), pool), prepend=0)
            left = 0
        parts[start:stop] = cap_fen - drawn if mirrored else drawn
        count -= stop - start
        surplus_fen = count * cap_fen - left if mirrored else left
        start = stop
    parts[start:] = _draw_plain(surplus_fen, count, cap_fen, roundings[start:].tolist(), picks[start:].tolist())
    return parts


def _draw_block(pool: int, count: int, roundings: NDArray[np.uint64], picks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One block's draws before the pool limits them. The pool is below 2**50 because of ``split.TOTAL_FEN_MAX``."""
    quotient, remainder = divmod(2 * pool, count)
    if remainder == 0:
        return _multiply_high(picks, np.uint64(quotient + 1)).view(np.int64)
    # (2 * pool + (rounding * count >> 64)) // count is quotient; from this rounding on, it is one more.
    threshold = -(-((count - remainder) << 64) // count)
    return _multiply_high(picks, (roundings >= threshold) + np.uint64(quotient + 1)).view(np.int64)


def _multiply_high(words: NDArray[np.uint64], bounds: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """``words * bounds >> 64``, exact for bounds below 2**63. It uses 64-bit arithmetic on 32-bit halves."""
    words_high, words_low = words >> 32, words & _LOW_HALF
    bounds_high, bounds_low = bounds >> np.uint64(32), bounds & np.uint64(_LOW_HALF)
    middle = words_high * bounds_low + (words_low * bounds_low >> 32)
    carry = (middle & _LOW_HALF) + words_low * bounds_high >> 32
    high: NDArray[np.uint64] = words_high * bounds_high + (middle >> 32) + carry
    return high


def _stable_order(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """``argsort(keys, kind="stable")`` as a radix sort. numpy has one for 16-bit words only; a key has four."""
    digits = np.ascontiguousarray(keys, dtype="<u8").view("<u2").reshape(-1, 4)
    order: NDArray[np.intp] = np.argsort(digits[:, 0], kind="stable")
    for place in range(1, 4):
        order = order[np.argsort(digits[:, place][order], kind="stable")]
    return order
