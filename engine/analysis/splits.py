"""Whether the shares that were claimed are those that the split's law lets expect (docs/split.md), and who is lucky.

The audit checks each share by its packet's seed. Here is what all of them together look like.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.analysis.finding import Cell, Finding, Said, found, nothing
from engine.analysis.scope import SQL, Reader
from engine.analysis.sentences import days_en, days_zh, percent
from engine.packets.split import split
from engine.records import SplitKind

PLACES = 40
"""Tenths of a mean, up to four means. The last place has all above."""
_MEAN = 10_000
"""Of the simulated shares, above the minimum: large enough that whole fen do not show."""
_DRAWN, _DRAWN_MIN = 400_000, 4_000
_COUNT_MAX = 2_000
"""The law of larger packets is the same to the eye."""
_BAND = 1.36
"""Kolmogorov's 95 % bound, in units of one by the root of n."""


async def shares(reader: Reader) -> Finding:
    """Claimed shares against the law: how many of them are how many times their packet's mean."""
    name, columns = "shares", ("from_means", "to_means", "claims", "part", "part_by_law")
    groups = await reader.claims(SQL["shares"])
    counts: dict[int, float] = {}
    claims_of: dict[int, int] = {}
    seen = np.zeros(PLACES + 1, dtype=np.int64)
    for group in groups:
        size, claims = group["size"], group["claims"]
        seen[min(max(group["place"], 1), PLACES + 1) - 1] += claims
        claims_of[size] = claims_of.get(size, 0) + claims
        counts[size] = counts.get(size, 0.0) + group["mean_count"] * claims
    total = int(seen.sum())
    if not total:
        return nothing(
            name,
            columns,
            zh="这些天没有可以比较的拼手气红包。",
            en="There are no lucky packets in these days that can be compared with the law.",
        )
    by_count: dict[int, int] = {}
    for size, claims in claims_of.items():
        mean = round(counts[size] / claims)
        by_count[mean] = by_count.get(mean, 0) + claims
    law, drawn = await asyncio.to_thread(law_of, by_count)
    part = seen / total
    rows: list[tuple[Cell, ...]] = [
        (
            place / 10,
            None if place == PLACES else (place + 1) / 10,
            int(seen[place]),
            round(float(part[place]), 6),
            round(float(law[place]), 6),
        )
        for place in range(PLACES + 1)
    ]
    gap = float(np.abs(np.cumsum(part) - np.cumsum(law)).max())
    band = _BAND * math.sqrt(1 / total + 1 / drawn)
    is_within = gap <= band
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title="领到的金额符合拆分规则" if is_within else "领到的金额偏离了拆分规则：请核查",
            sentences=(
                f"{days_zh(reader.scope)}的 {total:,} 份拼手气红包，与按规则抽取的 {drawn:,} 份相比，分布最多相差 "
                f"{100 * gap:.2f} 个百分点"
                f"（95% 的界限：{100 * band:.2f}）。",
                "不计平均太小（整分看得见）和受单份上限限制的红包。",
            ),
        ),
        en=Said(
            title="Shares follow the split's law" if is_within else "Shares stray from the split's law: look into it",
            sentences=(
                f"{total:,} claimed shares of lucky packets {days_en(reader.scope)} against {drawn:,} drawn by the "
                "rule: the "
                f"distributions differ by {100 * gap:.2f} percentage points at most (95% bound: {100 * band:.2f}).",
                "Left out are packets with so small a mean that whole fen would show, and those that the largest "
                "share limits.",
            ),
        ),
        units={"claims": total, "drawn": drawn},
    )


def law_of(claims_of: Mapping[int, int]) -> tuple[NDArray[np.float64], int]:
    """What part of the shares is in each place by the rule, if ``claims_of`` of them are of packets of a size.

    Returns how many shares were drawn for it as well. The draws are the same every time.
    """
    total = sum(claims_of.values())
    law, drawn = np.zeros(PLACES + 1), 0
    for count, claims in sorted(claims_of.items()):
        places, number = _drawn(min(count, _COUNT_MAX), max(_DRAWN_MIN, _DRAWN * claims // total))
        law += claims / total * places
        drawn += number
    return law, drawn


@lru_cache(maxsize=64)
def _drawn(count: int, shares_min: int) -> tuple[NDArray[np.float64], int]:
    packets = max(1, -(-shares_min // count))
    drawn = np.concatenate(
        [
            split(SplitKind.LUCKY, count * (_MEAN + 1), count, 1, count * (_MEAN + 1), _seed(count, packet))
            for packet in range(packets)
        ]
    )
    places = np.minimum((drawn - 1) * 10 // _MEAN, PLACES)
    return np.bincount(places, minlength=PLACES + 1) / len(drawn), len(drawn)


def _seed(count: int, packet: int) -> bytes:
    return hashlib.sha256(f"the law of {count}: {packet}".encode()).digest()


async def luckiest(reader: Reader) -> Finding:
    """In which tenth of the queue the largest share was, with the band that chance alone would keep to."""
    name, columns = "luckiest", ("from_part", "to_part", "packets", "part", "expected_part", "low_95", "high_95")
    tenths = await reader.packets(SQL["luckiest"])
    if not tenths:
        return nothing(
            name,
            columns,
            zh="这些天没有 10 份以上、被抢光的拼手气红包。",
            en="No lucky packet of ten shares or more sold out in these days.",
        )
    packets = tenths[0]["of_packets"]
    rows: list[tuple[Cell, ...]] = []
    for tenth in tenths:
        expected, half = tenth["expected"] / packets, 1.96 * math.sqrt(tenth["variance"]) / packets
        rows.append(
            (
                *(tenth["tenth"] / 10, (tenth["tenth"] + 1) / 10, tenth["packets"]),
                *(round(tenth["packets"] / packets, 6), round(expected, 6)),
                *(round(max(0.0, expected - half), 6), round(min(1.0, expected + half), 6)),
            )
        )
    outside = sum(not float(str(row[5])) <= float(str(row[3])) <= float(str(row[6])) for row in rows)
    usual = outside <= 2
    first, last = percent(tenths[0]["packets"], packets), percent(tenths[-1]["packets"], packets)
    return found(
        name,
        columns,
        rows,
        zh=Said(
            title="手气最佳与先后无关" if usual else "手气最佳似乎与先后有关：请核查",
            sentences=(
                f"{days_zh(reader.scope)}发出、被抢光的 {packets:,} 个拼手气红包（10 份以上）：手气最佳有 {first} "
                "在最先的十分之一，"
                f"{last} 在最后的十分之一。十段中 {outside} 段在 95% 的范围之外；碰巧约半段。",
            ),
        ),
        en=Said(
            title="No place in the queue is luckier than another"
            if usual
            else "Some places in the queue look luckier than others: look into it",
            sentences=(
                f"Of {packets:,} lucky packets of ten shares or more that were sent {days_en(reader.scope)} and sold "
                "out, the "
                f"largest share went to the first tenth of the queue in {first} and to the last in {last}. {outside} "
                "of ten places "
                "are outside the band that chance keeps to in 95 of 100 cases; by chance it would be about half a "
                "place.",
            ),
        ),
        units={"packets": packets},
    )
