"""Suggests packets: amounts, a split and a greeting that fit a day, a sender and a group, each with its reasons.

These are rules that can be read, from the customs to the limits: the same situation always leads to the same
suggestions. docs/suggestions.md has them for people.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from engine.calendar.occasions import occasions_of
from engine.packets.customs import CUSTOMS, LUCK, MEANINGS, ORDINARY, Custom, is_unlucky, lucky_amounts
from engine.packets.split import TOTAL_FEN_MAX
from engine.records import SplitKind
from engine.text import yuan

SUGGESTIONS_MAX = 5
_GROUP_COUNT = 8
"""How many shares a packet for a group has if nothing else is known: 8 is lucky."""
_SMALLEST_OF_MEAN = 10
"""The smallest share of a lucky packet is at most this part of the mean, so that there is still luck in it."""


class ReasonCode(StrEnum):
    """What a reason is about."""

    FESTIVAL = "festival"  # the day
    ORDINARY_DAY = "ordinary_day"
    SENT_BEFORE = "sent_before"  # what the user sent before
    GROUP_SENT_BEFORE = "group_sent_before"
    LUCKY_NUMBER = "lucky_number"
    SHARE_COUNT = "share_count"
    SMALLEST_SHARE = "smallest_share"
    WITHIN_LIMITS = "within_limits"
    AFFORDABLE = "affordable"
    NOT_AFFORDABLE = "not_affordable"
    CANNOT_SEND = "cannot_send"  # why there are no suggestions
    NOTHING_FITS = "nothing_fits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something was suggested. ``text`` is one plain sentence in English."""

    code: ReasonCode
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A packet that can be sent as it stands. ``min_fen`` None: the smallest share is the setting's.

    ``affordable``: the wallet holds the total now.
    """

    total_fen: int
    count: int
    split: SplitKind
    min_fen: int | None
    greeting: str
    affordable: bool
    reasons: list[Reason]


@dataclass(frozen=True, slots=True)
class Habit:
    """What was usual in some packets: the median share, the median number of shares, and the most frequent split."""

    share_fen: int
    count: int
    split: SplitKind


class Bounds(NamedTuple):
    """What the sender may send on the day. ``most_fen``: the largest total, None if nothing limits it."""

    share_fen_min: int
    share_fen_max: int
    count_max: int
    greeting_length_max: int
    most_fen: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that suggestions depend on. ``people``: how many are in the group, if the request says so.

    ``own``, ``group``: None if there is nothing to go by.
    """

    day: date
    people: int | None
    has_label: bool
    own: Habit | None
    group: Habit | None
    balance_fen: int
    bounds: Bounds


class _Wish(NamedTuple):
    """A share that would be nice, in fen. The nearest lucky amount that is allowed becomes a suggestion."""

    custom: Custom
    split: SplitKind
    share_fen: int
    numbers: tuple[int, ...]
    why: Reason | None = None


class _Found(NamedTuple):
    total_fen: int
    number: int
    lucky_fen: int


def suggest(situation: Situation) -> list[Suggestion]:
    """The suggestions for a situation, the most fitting first: at most ``SUGGESTIONS_MAX``, and no two alike.

    Empty if no lucky amount is within the bounds.
    """
    chosen = _Chosen(situation)
    for wish in _wishes(situation, chosen.count):
        if len(chosen.found) == SUGGESTIONS_MAX:
            break
        chosen.add(wish, situation.bounds)
    chosen.have_one_affordable()
    return list(chosen.found.values())


def reasons_of(day: date) -> list[Reason]:
    """What the day is, in words."""
    occasions = occasions_of(day)
    if not occasions:
        return [_reason(ReasonCode.ORDINARY_DAY, "Today is no festival.")]
    return [_festival(CUSTOMS[occasion]) for occasion in occasions]


def _festival(custom: Custom) -> Reason:
    return _reason(ReasonCode.FESTIVAL, f"Today is {custom.name}.")


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


def _custom_of(day: date) -> Custom:
    """The custom of the day's first festival, or that of all days."""
    occasions = occasions_of(day)
    return CUSTOMS[occasions[0]] if occasions else ORDINARY


def _count(situation: Situation) -> tuple[int, Reason]:
    """How many shares, and why."""
    most = situation.bounds.count_max
    if situation.people is not None:
        count, why = situation.people, f"One share for each of the {situation.people} people."
        if count == 1:
            why = "One share, for one person."
        if count > most:
            why = f"There are {count} people, and you can send at most {most} shares: the first to claim get them."
        return min(count, most), _reason(ReasonCode.SHARE_COUNT, why)
    if situation.has_label and situation.group is not None:
        count, why = situation.group.count, "As many shares as people usually send to this group."
    elif situation.own is not None:
        count, why = situation.own.count, "As many shares as you usually send."
    elif situation.has_label:
        count, why = (
            _GROUP_COUNT,
            f"You did not say how many people are in the group: {_GROUP_COUNT} is a lucky number.",
        )
    else:
        count, why = 1, "You named no group, so this is for one person."
    return min(count, most), _reason(ReasonCode.SHARE_COUNT, why)


def _wishes(situation: Situation, count: int) -> Iterator[_Wish]:
    """What would be nice, the most fitting first: the day, what was sent before, and then what is always nice."""
    customs = [CUSTOMS[occasion] for occasion in occasions_of(situation.day)]
    of_days = [list(_customary(custom, count, _festival(custom))) for custom in customs]
    for wishes in of_days:
        yield wishes[0]
    custom = _custom_of(situation.day)
    if situation.own is not None:
        why = _reason(ReasonCode.SENT_BEFORE, "Close to the share that you usually send.")
        yield _Wish(custom, situation.own.split, situation.own.share_fen, LUCK, why)
    if situation.group is not None:
        why = Reason(
            code=ReasonCode.GROUP_SENT_BEFORE, text="Close to the share that people usually send to this group."
        )
        yield _Wish(custom, situation.group.split, situation.group.share_fen, LUCK, why)
    for wishes in of_days:
        yield from wishes[1:]
    for wish in _customary(ORDINARY, count, None):
        yield wish._replace(custom=custom)


def _customary(custom: Custom, count: int, why: Reason | None) -> Iterator[_Wish]:
    """A custom's wishes. For several people they are by turns lucky and equal."""
    for place, share_fen in enumerate(custom.alone if count == 1 else custom.each):
        split = SplitKind.EQUAL if place % 2 else SplitKind.LUCKY
        yield _Wish(custom, split, share_fen, custom.numbers, why)


class _Chosen:
    """Collects suggestions. ``found``: by total and split, so that no two are alike."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self.count, self._why_count = _count(situation)
        self.found: dict[tuple[int, SplitKind], Suggestion] = {}

    def add(self, wish: _Wish, bounds: Bounds) -> bool:
        """Add the suggestion that is nearest to a wish and not there yet. Returns whether there is one."""
        # One share is what it is, without luck. Equal shares of some counts (68) always add up to an amount with a 4.
        for split in (SplitKind.EQUAL,) if self.count == 1 else dict.fromkeys((wish.split, SplitKind.LUCKY)):
            taken = {total_fen for total_fen, kind in self.found if kind is split}
            nearest = _nearest(wish._replace(split=split), self.count, bounds, taken)
            if nearest is not None:
                self._keep(wish, split, nearest, bounds)
                return True
        return False

    def _keep(self, wish: _Wish, split: SplitKind, nearest: _Found, bounds: Bounds) -> None:
        total_fen, balance_fen = nearest.total_fen, self._situation.balance_fen
        is_lucky = split is SplitKind.LUCKY
        smallest_fen = _smallest_share(total_fen, self.count, bounds) if is_lucky else None
        what = "The total" if is_lucky or self.count == 1 else "Each share"
        reasons = [
            *([] if wish.why is None else [wish.why]),
            _reason(ReasonCode.LUCKY_NUMBER, f"{what} is {yuan(nearest.lucky_fen)}: {MEANINGS[nearest.number]}."),
            self._why_count,
        ]
        if smallest_fen is not None:
            text = f"Nobody gets less than {yuan(smallest_fen)}; the rest is luck."
            reasons.append(_reason(ReasonCode.SMALLEST_SHARE, text))
        reasons += [_within(self._situation.bounds), _money(total_fen, balance_fen)]
        self.found[total_fen, split] = Suggestion(
            total_fen=total_fen,
            count=self.count,
            split=split,
            min_fen=smallest_fen,
            greeting=_greeting(wish.custom.greetings_for(self.count), len(self.found), bounds.greeting_length_max),
            affordable=total_fen <= balance_fen,
            reasons=reasons,
        )

    def have_one_affordable(self) -> None:
        """If the wallet can pay none, have the last be the largest lucky amount that it can pay, if there is any."""
        if not self.found or any(suggestion.affordable for suggestion in self.found.values()):
            return
        bounds, held_fen = self._situation.bounds, self._situation.balance_fen
        most_fen = held_fen if bounds.most_fen is None else min(held_fen, bounds.most_fen)
        wish = _Wish(_custom_of(self._situation.day), SplitKind.LUCKY, max(1, most_fen // self.count), LUCK)
        last = self.found.popitem() if len(self.found) == SUGGESTIONS_MAX else None
        if not self.add(wish, bounds._replace(most_fen=most_fen)) and last is not None:
            self.found[last[0]] = last[1]


def _nearest(wish: _Wish, count: int, bounds: Bounds, taken: set[int]) -> _Found | None:
    """The lucky amount that is nearest to a wish by ratio; of two that are as near, the smaller.

    Of equal shares each is lucky, and of a lucky packet the total.
    """
    per = count if wish.split is SplitKind.EQUAL else 1
    wished_fen = wish.share_fen * count // per
    least_fen, most_fen = bounds.share_fen_min * count // per, bounds.share_fen_max * count // per
    if bounds.most_fen is not None:
        most_fen = min(most_fen, bounds.most_fen // per)
    best: tuple[Fraction, _Found] | None = None
    for lucky_fen, number in lucky_amounts(wish.numbers, least_fen, most_fen):
        total_fen = lucky_fen * per
        if total_fen > TOTAL_FEN_MAX or total_fen in taken or is_unlucky(total_fen):
            continue
        key = (_distance(lucky_fen, wished_fen), _Found(total_fen, number, lucky_fen))
        if best is None or key < best:
            best = key
    return None if best is None else best[1]


def _distance(one_fen: int, other_fen: int) -> Fraction:
    return Fraction(max(one_fen, other_fen), min(one_fen, other_fen))


def _smallest_share(total_fen: int, count: int, bounds: Bounds) -> int | None:
    """The smallest share to ask for in a lucky packet: the largest lucky amount that leaves enough to luck."""
    most_fen = total_fen // (count * _SMALLEST_OF_MEAN)
    return max((fen for fen, _ in lucky_amounts(LUCK, bounds.share_fen_min, most_fen)), default=None)


def _greeting(greetings: tuple[str, ...], place: int, length_max: int) -> str:
    """A greeting of several. ``place``: which one; if it is too long, the next that is not. Empty if all are."""
    first = place % len(greetings)
    return next((text for text in (*greetings[first:], *greetings[:first]) if len(text) <= length_max), "")


def _within(bounds: Bounds) -> Reason:
    text = f"Within your limits today: shares from {yuan(bounds.share_fen_min)} to {yuan(bounds.share_fen_max)}"
    text += f", at most {bounds.count_max} shares"
    if bounds.most_fen is not None:
        # Not how much: what is left for a group would show what its members send, one after another.
        text += ", and no more in all than may still be sent"
    return _reason(ReasonCode.WITHIN_LIMITS, f"{text}.")


def _money(total_fen: int, balance_fen: int) -> Reason:
    if total_fen <= balance_fen:
        text = f"The wallet holds {yuan(balance_fen)}, which is enough."
        return _reason(ReasonCode.AFFORDABLE, text)
    text = f"The wallet holds {yuan(balance_fen)}: {yuan(total_fen - balance_fen)} more are needed."
    return _reason(ReasonCode.NOT_AFFORDABLE, text)
