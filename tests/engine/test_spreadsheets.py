"""Texts in spreadsheets: none is run, and none becomes a number, a time or another text."""

import pytest

from engine.spreadsheets import Plain, kept

RUN = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@x",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    "\u3000=1",
]
CHANGED = [
    *(
        "00123",
        "-007",
        "1234567890123456",
        "1e5",
        "1E+05",
        "1.50",
        ".5",
        "5.",
        "1,234",
        "12%",
        "¥5",
        "$1,000.50",
        "1 2/3",
    ),
    *("2026-11-28", "2026-11-28 07:03", "3/4", "1-2", "1.2.2003", "12:30", "1:2:3", "5 pm", "1a", "11月28日", "12点"),
    *("mar1", "MARCH 1", "1-mar", "Dec 5 2026", "sept2", "true", "FALSE", " 00123", "\uff11\uff12", "\uff10\uff11"),
]
SAME = [
    *("", " ", "alice", "bob-1", "a00123", "1abc", "1_2", "maria1", "may", "user@example.com", "3 rows", "红包雨"),
    *("0", "12", "-12", "123456789012345", "10.0.0.1", "2001:db8::1", "v1.2", "%", "...", "1–10", "> 1,000"),
]


@pytest.mark.parametrize("text", RUN)
def test_what_would_be_run_has_an_apostrophe(text: str) -> None:
    assert kept(text) == f"'{text}"


@pytest.mark.parametrize("text", CHANGED)
def test_what_would_be_changed_is_a_text(text: str) -> None:
    assert kept(text) in (f"\t{text}", f"'{text}")


@pytest.mark.parametrize("text", SAME)
def test_what_stays_as_it_is_has_nothing_before_it(text: str) -> None:
    assert kept(text) == text


@pytest.mark.parametrize("text", ["-12.34", "1.50", "2026-11-28", "2026-11-28T07:03:00+08:00"])
def test_an_amount_and_a_time_are_read_as_what_they_are(text: str) -> None:
    assert kept(Plain(text)) == text
