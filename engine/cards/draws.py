"""What chance decides in a set of cards: which card a grant is, the completers' order, and their shares of the pool.

All of it follows from the set's seed, which is secret until the draw. The commitment binds it when the set is made. So
nobody can know it before, and everybody can check it afterwards (docs/cards.md has the formulas).
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from engine.packets.split import split
from engine.records import SplitKind

PART = 10_000
"""How many completers are drawn, and paid, in one transaction. Shares are split part by part, so it never changes."""
KEY_BYTES = 16


def commitment(
    set_id: str, seed: bytes, terms: Iterable[object], cards: Iterable[tuple[int, int, int, bool, str]]
) -> bytes:
    """The 32 bytes that bind a set before anybody has a card: SHA-256 over lines of text.

    ``terms``: those of ``committed_terms``. ``cards``: number, count, how many of them are for grants, whether it is
    the wild card, and the name of each, in order.
    """
    lines = ["hongbao card set 1", set_id, seed.hex(), *map(str, terms)]
    lines += [
        f"{card} {count} {granted} {'wild' if wild else 'card'} {name}" for card, count, granted, wild, name in cards
    ]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).digest()


def granted_card(seed: bytes, set_id: str, number: int, remaining: Sequence[int]) -> int:
    """The place of the card that grant ``number`` is, in ``remaining``: how many are left of each, not all 0.

    The chance of a card is its part of what is left.
    """
    drawn = int.from_bytes(_draw(seed, f"grant {set_id} {number}")[:8], "big") * sum(remaining) >> 64
    for place, count in enumerate(remaining):
        if drawn < count:
            return place
        drawn -= count
    raise ValueError("nothing is left to be drawn")


def draw_key(seed: bytes, set_id: str, user_id: str) -> bytes:
    """A completer's place in the order: the smallest key is first."""
    return _draw(seed, f"order {set_id} {user_id}")[:KEY_BYTES]


def shares(  # noqa: PLR0917 - the terms in their usual order
    split_as: SplitKind, pool_fen: int, completers: int, min_fen: int, seed: bytes, set_id: str, first: int
) -> list[int]:
    """The shares of the completers in the order from ``first`` on: those of one part, or of what is left of the pool.

    ``first`` is a multiple of PART. All shares sum to the pool, and each is at least ``min_fen`` if it has as much.
    """
    end = min(completers, first + PART)
    if split_as is SplitKind.EQUAL:  # rounded up and down by turns, so that nothing is left over
        return [
            _up_to(pool_fen, number + 1, completers) - _up_to(pool_fen, number, completers)
            for number in range(first, end)
        ]
    total_fen = _up_to(pool_fen, end, completers) - _up_to(pool_fen, first, completers)
    found: list[int] = split(
        SplitKind.LUCKY, total_fen, end - first, min_fen, total_fen, _draw(seed, f"split {set_id} {first // PART}")
    ).tolist()
    return found


def _up_to(pool_fen: int, number: int, completers: int) -> int:
    """What the completers before ``number`` have together, if each has as much as every other."""
    return pool_fen * number // completers


def most_completers(counts: Sequence[int], wild: int) -> int:
    """How many users can ever complete a set with these numbers of cards, and ``wild`` that stand for any."""
    least, most = 0, max(counts) + wild
    while least < most:
        tried = (least + most + 1) // 2
        if sum(max(0, tried - count) for count in counts) <= wild:
            least = tried
        else:
            most = tried - 1
    return least


def _draw(seed: bytes, what: str) -> bytes:
    return hmac.digest(seed, what.encode(), "sha256")
