"""What a campaign would be like, before anybody has paid for it: how shares would fall, and who would win."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.campaigns.draws import MILLION
from engine.campaigns.terms import CampaignTerms, PrizeTerms
from engine.packets import split as splitting

SAMPLE_COUNT_MAX = 100_000
"""A sample of a larger prize has so many shares, of the same mean."""
SHOWN_MAX = 12
CROWDS = (100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One split of a prize as it might fall, in amounts of its asset. ``first_fen``: the first shares to be given."""

    least_fen: int
    median_fen: int
    mean_fen: int
    most_fen: int
    first_fen: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A wave with so many users who tap. ``may_win``: whom the odds let win, on average. ``winners``: who get a share.

    ``chance``: a user's, from 0 to 1.
    """

    users: int
    may_win: int
    winners: int
    chance: float


def sample(prize: PrizeTerms) -> Sample:
    """Split a prize whose terms were checked, with a seed that nobody will use."""
    count = min(prize.count, SAMPLE_COUNT_MAX)
    least, most = prize.min_fen or 1, prize.max_fen or prize.total_fen
    total_fen = prize.total_fen * count // prize.count
    amounts = splitting.split(prize.split, total_fen - total_fen % count, count, least, most, splitting.new_seed())
    return Sample(
        least_fen=int(amounts.min()),
        median_fen=int(np.median(amounts)),
        mean_fen=prize.total_fen // prize.count,
        most_fen=int(amounts.max()),
        first_fen=[int(amount) for amount in amounts[:SHOWN_MAX]],
    )


def crowds(terms: CampaignTerms, shares: int) -> list[Crowd]:
    """How a wave with so many shares goes if each user taps and wins at most as often as the terms say."""
    found = []
    for users in CROWDS:
        may_win = users * terms.odds_millionths // MILLION
        winners = min(may_win, shares)  # whoever wins twice leaves less for others: this is the most
        found.append(Crowd(users=users, may_win=may_win, winners=winners, chance=winners / users))
    return found
