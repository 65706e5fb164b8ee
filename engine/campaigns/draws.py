"""What chance decides for a user in a wave: whether they may win at all, and which bucket they ask first.

Both follow from the campaign's seed. It is secret until the end, and the commitment binds it before the first wave. So
nobody can know it before, and everybody can check it afterwards (docs/campaigns.md has the formulas).
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence

MILLION = 1_000_000
MONEY = "-"
"""The commitment's word for the ledger's currency."""


def may_win(seed: bytes, campaign_id: str, wave: int, user_id: str, odds_millionths: int) -> bool:
    """Whether the odds let a user win in a wave. It is the same for every tap of the user in this wave."""
    if odds_millionths >= MILLION:
        return True
    drawn = _draw(seed, "odds", campaign_id, wave, user_id)
    return int.from_bytes(drawn[:8], "big") * MILLION >> 64 < odds_millionths


def order_of(seed: bytes, campaign_id: str, wave: int, user_id: str, counts: Sequence[int]) -> Iterator[int]:
    """The order in which a user asks a wave's buckets, one after another. All processes have the same.

    ``counts``: how many shares each bucket was paid for, at least one. A bucket is drawn as often as it has shares, so
    a prize comes first for as many users as it can serve. Whole numbers only: no two machines may differ.
    """
    left = list(range(len(counts)))
    key, rest = b"", sum(counts)
    for place in range(len(counts) - 1):
        key = key or _draw(seed, "order", campaign_id, wave, user_id)
        drawn = hashlib.blake2b(b"%d" % place, key=key, digest_size=8).digest()
        share = int.from_bytes(drawn, "big") * rest >> 64
        for bucket in left:
            share -= counts[bucket]
            if share < 0:
                break
        left.remove(bucket)
        rest -= counts[bucket]
        yield bucket
    yield from left


def commitment(
    campaign_id: str, odds_millionths: int, seed: bytes, buckets: Iterable[tuple[int, str, str, bytes]]
) -> bytes:
    """The 32 bytes that bind a campaign before its first wave: SHA-256 over lines of text.

    ``buckets``: of each the wave, the asset, the packet's number and the packet's own commitment, in order.
    """
    lines = ["hongbao campaign 1", campaign_id, str(odds_millionths), seed.hex()]
    lines += [f"{wave} {asset} {packet_id} {committed.hex()}" for wave, asset, packet_id, committed in buckets]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode("ascii")).digest()


def divided(total_fen: int, count: int, buckets: int) -> list[tuple[int, int]]:
    """A wave's total and shares per bucket, as evenly as whole numbers allow. There are at least as many shares.

    If ``total_fen`` is within ``count`` times some bounds, each bucket's total is within its shares times the same
    bounds: a bucket gets one more only if its exact part is not whole. A multiple of ``count`` stays one.
    """
    counts = [count // buckets + (bucket < count % buckets) for bucket in range(buckets)]
    totals = [total_fen * shares // count for shares in counts]
    rest = total_fen - sum(totals)
    for bucket in _uneven(total_fen, count, counts)[:rest]:
        totals[bucket] += 1
    return list(zip(totals, counts, strict=True))


def _uneven(total_fen: int, count: int, counts: Sequence[int]) -> list[int]:
    return [bucket for bucket, shares in enumerate(counts) if total_fen * shares % count]


def _draw(seed: bytes, what: str, campaign_id: str, wave: int, user_id: str) -> bytes:
    return hmac.digest(seed, f"{what} {campaign_id} {wave} {user_id}".encode(), "sha256")
