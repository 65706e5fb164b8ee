"""Texts that people read."""

import unicodedata

import pytest

from engine.text import LINE_CHARACTERS, has_controls


@pytest.mark.parametrize("character", ["\x00", "\x1f", "\x7f", "\x80", "\x9f", "\ud800"])
def test_controls_of_both_ranges_and_lone_surrogates_are_found_wherever_they_stand(character: str) -> None:
    assert has_controls(character)
    assert has_controls(f"红包{character}雨")
    assert unicodedata.category(character) in ("Cc", "Cs")


def test_text_has_none_and_line_breaks_only_where_they_are_allowed() -> None:
    assert not has_controls("恭喜发财 🧧 é")
    assert has_controls("two\nlines")
    assert not has_controls("two\r\nlines\tand", allowed=LINE_CHARACTERS)
    assert has_controls("a bell\a", allowed=LINE_CHARACTERS)
