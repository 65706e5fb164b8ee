"""Festivals, by the calendar; the dates of Qixi are those that almanacs print."""

from datetime import date, timedelta

import pytest

from engine.calendar.festivals import festivals_in, is_festival, qixi
from engine.errors import OperatorError
from engine.settings import Settings

ALMANAC = {
    2024: "08-10",
    2025: "08-29",
    2026: "08-19",
    2027: "08-08",
    2028: "08-26",
    2029: "08-16",
    2030: "08-05",
    2031: "08-24",
    2032: "08-12",
    2033: "08-01",
    2034: "08-20",
    2035: "08-10",
    2036: "08-28",
    2037: "08-17",
    2038: "08-07",
    2039: "08-26",
    2040: "08-14",
    2041: "08-03",
    2042: "08-22",
    2043: "08-11",
    2044: "07-31",
}


def test_qixi_is_when_almanacs_say() -> None:
    assert {year: f"{qixi(year):%m-%d}" for year in ALMANAC} == ALMANAC


def test_beyond_the_tables_there_is_no_qixi() -> None:
    assert qixi(2200) is None
    assert not is_festival(date(2200, 8, 10), ("qixi",))


def test_a_year_has_as_many_festivals_as_are_named() -> None:
    names = festivals_in(" 02-14, 05-20 ,qixi,")
    assert names == ("02-14", "05-20", "qixi")
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    assert [f"{day:%m-%d}" for day in days if is_festival(day, names)] == ["02-14", "05-20", "08-19"]
    assert not any(is_festival(day, ()) for day in days)


@pytest.mark.parametrize("text", ["2-14", "02-30", "13-01", "valentine", "02-14;05-20", "0214"])
def test_what_is_no_festival_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_FESTIVALS", text)
    with pytest.raises(OperatorError, match=r"HONGBAO_FESTIVALS cannot be used: .*neither a day"):
        Settings.load()


def test_the_last_of_february_may_be_a_festival() -> None:
    assert is_festival(date(2028, 2, 29), festivals_in("02-29"))
