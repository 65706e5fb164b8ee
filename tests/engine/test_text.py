"""Texts that people read, and JSON that they hand on."""

import json
import unicodedata

import pytest

from engine.text import LINE_CHARACTERS, is_readable, read_json

UNREADABLE = {
    "controls": "\x00\x1b\x1f\x7f\x80\x85\x9f",
    "lone surrogates": "\ud800\udfff",
    "zero width": "\u200b\u2060\ufeff\u180e\u00ad",
    "directions": "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "separators": "\u2028\u2029",
    "fillers": "\u115f\u1160\u3164\uffa0\u2800\u034f",
    "tags": "\U000e0001\U000e0041",
}
INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_nobody_can_read_is_found_wherever_it_stands(kind: str) -> None:
    for character in UNREADABLE[kind]:
        for text in (character, f"红包{character}雨", f"{character}雨", f"红包{character}"):
            assert not is_readable(text), ascii(text)


@pytest.mark.parametrize("text", [" ", "\u3000\u3000", "\u00a0", "\u200d", "\u0301", "\ufe0f", " \u200c "])
def test_blanks_alone_are_no_text(text: str) -> None:
    assert not is_readable(text)
    assert is_readable(f"{text}恭喜发财")


@pytest.mark.parametrize(
    "text",
    ["", "恭喜发财 🧧 é", "👨‍👩‍👧 ❤️", "می‌خواهم", "क्‍ष", "e\u0301", "新年快乐！", "🏳️‍🌈", "𠮷野家", "한글", "שלום", "."],
)
def test_what_people_write_is_text(text: str) -> None:
    assert is_readable(text)


def test_the_short_look_says_what_the_long_one_does() -> None:
    """Of every character there is, after a letter: what follows a letter is looked at shortly if it can be printed."""
    readable: dict[bool, list[str]] = {True: [], False: []}  # by whether they can be printed: those together go one way
    for character in map(chr, range(0x110000)):
        is_refused = unicodedata.category(character) in {"Cc", "Cs", "Cf", "Zl", "Zp"} or character in INVISIBLE
        if not is_refused or character in "\u200c\u200d":
            readable[character.isprintable()].append(character)
        else:
            assert not is_readable(f"a{character}"), hex(ord(character))
    for characters in readable.values():
        assert len(characters) > 100_000
        assert is_readable(f"a{''.join(characters)}")


def test_line_breaks_are_readable_only_where_they_are_allowed() -> None:
    assert not is_readable("two\nlines")
    assert is_readable("two\r\nlines\tand", allowed=LINE_CHARACTERS)
    assert not is_readable("\r\n\t ", allowed=LINE_CHARACTERS)
    assert not is_readable("a bell\a", allowed=LINE_CHARACTERS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_read_in_whatever_encoding_a_program_saved_it(encoding: str) -> None:
    value = {"greeting": "恭喜发财", "count": 3}
    assert read_json(json.dumps(value, ensure_ascii=False).encode(encoding)) == value


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b'{"b":{"a":1,"a":1}}', b'[{"a":1,"\\u0061":2}]'])
def test_json_that_names_a_thing_twice_is_not_read(text: bytes) -> None:
    with pytest.raises(ValueError, match="given twice"):
        read_json(text)
