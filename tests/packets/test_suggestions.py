"""Suggestions: always sendable, never with a 4, few, different, explained, and by the festival and the habits."""

import re
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from engine.calendar.occasions import Occasion
from engine.packets.customs import CUSTOMS, LOVE, LUCK, MEANINGS, ORDINARY, is_unlucky
from engine.packets.suggestions import (
    SUGGESTIONS_MAX,
    Bounds,
    Habit,
    ReasonCode,
    Situation,
    Suggestion,
    reasons_of,
    suggest,
)
from engine.packets.terms import share_fen_max_on, terms_from
from engine.records import FEN_MAX, Ack, SplitKind
from engine.settings import AMOUNT_FEN_MAX, Settings
from engine.text import is_readable, yuan
from tests.support.repository import ROOT

DEFAULTS = Settings.model_construct(ack=Ack.MEMORY)
ORDINARY_DAY, MAY_20, SPRING, QIXI = date(2026, 3, 11), date(2026, 5, 20), date(2026, 2, 17), date(2026, 8, 19)
FESTIVE = [SPRING, MAY_20, QIXI, date(2026, 2, 14), date(2010, 2, 14), date(2020, 10, 1), date(2026, 6, 19)]


def bounds_of(settings: Settings, day: date, *, is_merchant: bool = False, most_fen: int | None = None) -> Bounds:
    count_max = settings.merchant_count_max if is_merchant else settings.count_max
    return Bounds(
        settings.share_fen_min, share_fen_max_on(day, settings), count_max, settings.greeting_length_max, most_fen
    )


def situation(day: date = ORDINARY_DAY, people: int | None = None, **changes: object) -> Situation:
    usual = Situation(
        day=day,
        people=people,
        has_label=False,
        own=None,
        group=None,
        balance_fen=1_000_000,
        bounds=bounds_of(DEFAULTS, day),
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def amounts(found: list[Suggestion]) -> list[int]:
    return [suggestion.total_fen for suggestion in found]


def codes(suggestion: Suggestion) -> set[ReasonCode]:
    return {reason.code for reason in suggestion.reasons}


fens = st.integers(1, 100_000) | st.integers(1, AMOUNT_FEN_MAX)
counts = st.integers(1, 12) | st.integers(1, 10_000_000)
habits = st.none() | st.builds(Habit, fens, counts, st.sampled_from(SplitKind))


@st.composite
def products(draw: st.DrawFn) -> Settings:
    """Settings of the product that do not contradict each other."""
    least, most = sorted((draw(fens), draw(fens)))
    for_person, for_merchant = sorted((draw(counts), draw(counts)))
    drawn = DEFAULTS.model_copy(
        update={
            "share_fen_min": least,
            "share_fen_max": most,
            "festival_share_fen_max": draw(fens),
            "count_max": for_person,
            "merchant_count_max": for_merchant,
            "greeting_length_max": draw(st.integers(0, 20)),
            "festivals": draw(st.sampled_from(["", "02-14,05-20,qixi", "01-01"])),
        }
    )
    return draw(st.sampled_from([DEFAULTS, drawn]))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Settings, Situation]:
    """Any day, limits, habits, number of people and balance."""
    settings, day = draw(products()), draw(st.sampled_from(FESTIVE) | st.dates())
    most_fen = draw(st.none() | st.just(0) | fens)
    now = Situation(
        day=day,
        people=draw(st.none() | counts),
        has_label=draw(st.booleans()),
        own=draw(habits),
        group=draw(habits),
        balance_fen=draw(st.just(0) | fens | st.integers(0, FEN_MAX)),
        bounds=bounds_of(settings, day, is_merchant=draw(st.booleans()), most_fen=most_fen),
    )
    return settings, now


@pytest.mark.long
@with_settings(max_examples=400)
@given(situations())
def test_whatever_the_situation_each_can_be_sent_as_it_stands(drawn: tuple[Settings, Situation]) -> None:
    settings, now = drawn
    bounds, found = now.bounds, suggest(now)
    assert suggest(now) == found
    assert len(found) <= SUGGESTIONS_MAX
    assert len({(one.total_fen, one.count, one.split) for one in found}) == len(found)
    for one in found:
        terms_from(
            settings=settings,
            total_fen=one.total_fen,
            count=one.count,
            split=one.split,
            min_fen=one.min_fen,
            greeting=one.greeting,
            day=now.day,
        )
        assert one.count <= bounds.count_max
        assert now.people is None or one.count == min(now.people, bounds.count_max)
        assert bounds.most_fen is None or one.total_fen <= bounds.most_fen
        assert one.affordable == (one.total_fen <= now.balance_fen)
        shares = [one.total_fen // one.count] if one.split is SplitKind.EQUAL else []
        for fen in (one.total_fen, *shares):
            assert "4" not in yuan(fen)
            assert not is_unlucky(fen)
        assert "4" not in yuan(one.min_fen or 0)
        assert is_readable(one.greeting)
        assert ReasonCode.LUCKY_NUMBER in codes(one)
        assert (ReasonCode.AFFORDABLE if one.affordable else ReasonCode.NOT_AFFORDABLE) in codes(one)
        assert all(is_readable(reason.text) and len(reason.text) < 200 for reason in one.reasons)


@pytest.mark.parametrize("day", [ORDINARY_DAY, *FESTIVE], ids=str)
def test_by_the_usual_limits_there_are_five_for_every_number_of_people(day: date) -> None:
    for people in (None, *range(1, 101), 500, 10_000_000):
        found = suggest(situation(day, people))
        assert len(found) == SUGGESTIONS_MAX
        assert all(one.count == min(people or 1, DEFAULTS.count_max) for one in found)


def test_on_days_of_couples_it_is_520() -> None:
    for day in (MAY_20, QIXI, date(2026, 2, 14)):
        assert amounts(suggest(situation(day, 1)))[:2] == [52_000, 5_200]
    (first, *_) = suggest(situation(MAY_20, 1))
    assert (first.count, first.split, first.greeting) == (1, SplitKind.EQUAL, "我爱你")
    assert {ReasonCode.FESTIVAL, ReasonCode.LUCKY_NUMBER} <= codes(first)
    assert any("I love you" in reason.text for reason in first.reasons)


def test_nobody_tells_a_whole_group_of_love() -> None:
    greetings = {one.greeting for one in suggest(situation(MAY_20, 30))}
    assert greetings == {"五二零快乐", "有你们真好"}


def test_520_is_only_for_couples_days() -> None:
    assert not any(str(total_fen).startswith("52") for total_fen in amounts(suggest(situation(people=1))))


def test_if_the_days_maximum_is_lower_the_amount_is() -> None:
    bounds = bounds_of(DEFAULTS.model_copy(update={"festivals": ""}), MAY_20)
    found = suggest(situation(MAY_20, 1, bounds=bounds))
    assert amounts(found)[:2] == [9_990, 5_200]
    assert max(amounts(found)) <= 20_000


def test_a_group_gets_lucky_totals_and_equal_shares() -> None:
    lucky, equal, *_ = suggest(situation(SPRING, 10))
    assert (lucky.split, lucky.total_fen, lucky.min_fen) == (SplitKind.LUCKY, 8_880, 88)
    assert (equal.split, equal.total_fen, equal.min_fen) == (SplitKind.EQUAL, 6_660, None)
    assert lucky.greeting == "恭喜发财，大吉大利"


def test_health_not_joy_is_wished_at_the_dragon_boat_festival() -> None:
    greetings = {one.greeting for one in suggest(situation(date(2026, 6, 19)))}
    assert all("安康" in greeting for greeting in greetings)


def test_of_two_festivals_on_a_day_both_are_thought_of() -> None:
    first, second, *_ = suggest(situation(date(2010, 2, 14), 1))
    assert (first.total_fen, second.total_fen) == (8_800, 52_000)
    assert (first.greeting, second.greeting) == ("恭喜发财，大吉大利", "爱你每一天")


def test_what_was_sent_before_comes_first_on_an_ordinary_day() -> None:
    own, group = Habit(1_700, 6, SplitKind.EQUAL), Habit(600, 12, SplitKind.LUCKY)
    first, second, *_ = suggest(situation(own=own, group=group, has_label=True))
    assert (first.count, first.split, first.total_fen) == (12, SplitKind.EQUAL, 12 * 1_680)
    assert ReasonCode.SENT_BEFORE in codes(first)
    assert (second.count, second.split, second.total_fen) == (12, SplitKind.LUCKY, 6_660)
    assert ReasonCode.GROUP_SENT_BEFORE in codes(second)


def test_on_a_festival_the_day_comes_first() -> None:
    first, second, *_ = suggest(situation(SPRING, 10, own=Habit(200, 5, SplitKind.EQUAL)))
    assert ReasonCode.FESTIVAL in codes(first)
    assert ReasonCode.SENT_BEFORE in codes(second)
    assert second.total_fen == 10 * 188


def test_how_many_shares_is_what_is_known() -> None:
    own, group = Habit(100, 5, SplitKind.LUCKY), Habit(100, 7, SplitKind.LUCKY)
    for found, count in (
        (situation(people=3, own=own, group=group, has_label=True), 3),
        (situation(own=own, group=group, has_label=True), 7),
        (situation(own=own, has_label=True), 5),
        (situation(own=own), 5),
        (situation(has_label=True), 8),
        (situation(), 1),
        (situation(people=500), 100),
    ):
        assert {one.count for one in suggest(found)} == {count}


def test_a_group_of_four_is_a_group_of_four() -> None:
    found = suggest(situation(SPRING, 4))
    assert {one.count for one in found} == {4}
    assert not any("4" in yuan(one.total_fen) for one in found)


def test_what_the_wallet_cannot_pay_is_shown_and_one_that_it_can() -> None:
    found = suggest(situation(SPRING, 1, balance_fen=700))
    assert len(found) == SUGGESTIONS_MAX
    assert [one.affordable for one in found] == [False, False, False, False, True]
    assert found[-1].total_fen == 666
    assert not any(one.affordable for one in suggest(situation(SPRING, 1, balance_fen=0)))


def test_without_a_lucky_amount_within_the_limits_there_are_none() -> None:
    bounds = Bounds(7, 7, 100, 200)
    assert suggest(situation(bounds=bounds)) == []
    assert suggest(situation(bounds=bounds_of(DEFAULTS, ORDINARY_DAY, most_fen=0))) == []


def test_a_short_greeting_is_found_or_none() -> None:
    for length_max, greeting in ((200, "恭喜发财，大吉大利"), (8, "平安喜乐"), (4, "平安喜乐"), (3, "")):
        bounds = bounds_of(DEFAULTS.model_copy(update={"greeting_length_max": length_max}), ORDINARY_DAY)
        assert suggest(situation(bounds=bounds))[0].greeting == greeting


def test_the_day_is_told() -> None:
    assert [reason.code for reason in reasons_of(ORDINARY_DAY)] == [ReasonCode.ORDINARY_DAY]
    assert [reason.text for reason in reasons_of(QIXI)] == ["Today is Qixi (七夕)."]
    assert len(reasons_of(date(2020, 10, 1))) == 2


def test_every_custom_is_complete() -> None:
    assert set(CUSTOMS) == set(Occasion)
    assert set(MEANINGS) == {*LUCK, *LOVE}
    assert not any(is_unlucky(number) for number in MEANINGS)
    for custom in (ORDINARY, *CUSTOMS.values()):
        assert len(set(custom.greetings)) == len(custom.greetings) >= 3
        for greeting in (*custom.greetings, *custom.to_many):
            assert is_readable(greeting)
            assert len(greeting) <= 20
        assert min(len(custom.alone), len(custom.each)) >= 3


@pytest.mark.parametrize(("fen", "unlucky"), [(4, True), (1_400, True), (25_000, True), (250, True), (888, False)])
def test_what_is_unlucky(fen: int, unlucky: bool) -> None:
    assert is_unlucky(fen) == unlucky


def test_the_page_has_the_same_customs() -> None:
    lines = (ROOT / "docs" / "suggestions.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    by_name = {cells[0].split()[0].strip("`"): cells for cells in rows if len(cells) == 5}
    customs = [("none", ORDINARY), *((occasion.value, custom) for occasion, custom in CUSTOMS.items())]
    for name, custom in customs:
        _, _, alone, each, greeting = by_name[name]
        assert alone == ", ".join(yuan(fen).removesuffix(".00") for fen in custom.alone)
        assert each == ", ".join(yuan(fen).removesuffix(".00") for fen in dict.fromkeys(custom.each))
        assert greeting.split(" (")[0] == custom.greetings[0]
    numbers = {int(number) for cells in rows if len(cells) == 2 for number in re.findall(r"\d+", cells[0])}
    assert numbers == set(MEANINGS)
