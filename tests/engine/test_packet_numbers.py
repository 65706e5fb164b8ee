import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ids import (
    FIRST_VOLUME,
    LAST_VOLUME,
    NUMBER_PATTERN,
    are_packet_numbers,
    is_packet_number,
    lane_of,
    may_be_in_campaign,
    may_be_of_coupons,
    may_be_special,
    new_packet_number,
)
from engine.lanes import keys
from engine.settings import LANES_MAX


@given(st.integers(0, LANES_MAX - 1), st.integers(FIRST_VOLUME, LAST_VOLUME))
def test_a_number_names_its_volume_and_lane_and_fits_a_bigint(lane: int, volume: int) -> None:
    number = new_packet_number(lane, volume)
    assert is_packet_number(number)
    assert re.fullmatch(NUMBER_PATTERN, number)
    assert len(number) == 19
    assert number.startswith(str(volume))
    assert lane_of(number) == lane
    assert int(number) < 2**63


def test_numbers_are_not_guessable_from_one_another() -> None:
    numbers = [new_packet_number(7) for _ in range(2_000)]
    assert len(set(numbers)) == 2_000
    for place in range(5, 19):
        assert {number[place] for number in numbers} == set("0123456789"), f"digit {place} is not random"


def test_numbers_of_campaigns_and_of_coupons_are_told_from_others() -> None:
    for _ in range(200):
        plain, rain = new_packet_number(7), new_packet_number(7, in_campaign=True)
        drop = new_packet_number(7, of_coupons=True)
        both = new_packet_number(7, in_campaign=True, of_coupons=True)
        assert [*map(may_be_special, (plain, rain, drop, both))] == [False, True, True, True]
        assert [*map(may_be_in_campaign, (plain, rain, drop, both))] == [False, True, False, True]
        assert [may_be_of_coupons(int(number)) for number in (plain, rain, drop, both)] == [False, True, True, True]
        assert all(len(number) == 19 and lane_of(number) == 7 for number in (plain, rain, drop, both))


def test_of_many_numbers_each_is_told_as_by_itself() -> None:
    numbers = [new_packet_number(7, of_coupons=number % 3 == 0, in_campaign=number % 2 == 0) for number in range(50)]
    packets = [*map(int, numbers)]
    assert may_be_of_coupons(np.array(packets)).tolist() == [*map(may_be_of_coupons, packets)]


@given(st.lists(st.one_of(st.text("0129 ٣-", min_size=18, max_size=20), st.from_regex(NUMBER_PATTERN)), min_size=1))
def test_are_packet_numbers_asks_of_each_what_is_packet_number_asks(texts: list[str]) -> None:
    assert are_packet_numbers(texts) == all(map(is_packet_number, texts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "100070000000000000",  # 18 digits
        "10007000000000000000",  # 20 digits
        "0900700000000000000",
        "9200700000000000000",
        "9900700000000000000",
        "1000700000000000000\n",
        " 000700000000000000",
        "10007000000000000x0",
        "10007000000000000.0",
        "-000700000000000000",
        "１０００７００００００００００００００",
        "10٠٠٧00000000000000",
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert not is_packet_number(text)
    assert not are_packet_numbers([text])
    assert not are_packet_numbers([new_packet_number(7), text])
    assert not re.fullmatch(NUMBER_PATTERN, text, re.ASCII)


@given(st.integers(0, LANES_MAX - 1))
def test_all_keys_of_a_lane_have_its_tag_and_no_other_braces(lane: int) -> None:
    number = new_packet_number(lane)
    of_packet = [kind(number) for kind in (keys.packet, keys.shares, keys.claims, keys.recipients)]
    names = [keys.lane(lane), keys.events(lane), keys.due(lane), *of_packet]
    assert len(set(names)) == 7
    for name in names:
        assert name.startswith(keys.tag(lane))
        assert name.count("{") == name.count("}") == 1
    assert keys.tag(lane) != keys.tag((lane + 1) % LANES_MAX)
