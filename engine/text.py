"""Rules for texts that people read (greetings, notes, reasons, evidence), amounts in them, and JSON files."""

import json
import unicodedata
from typing import Any

TEXT_RULE = "must be readable: no control, invisible or direction-changing characters, and not only blanks"
LINE_CHARACTERS = "\n\r\t"
_REFUSED_CATEGORIES = frozenset(("Cc", "Cs", "Cf", "Zl", "Zp"))
"""Controls, lone surrogates, formats (zero-width, direction-changing, tags), line and paragraph separators."""
_JOINERS = "\u200c\u200d"
"""Formats that emoji, Persian and Indian scripts need between their characters."""
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
"""Letters, marks and a symbol by Unicode's categories, but invisible."""
_FILLERS_SET = frozenset(_FILLERS)
_UNSEEN_ALONE = frozenset(("Zs", "Cf", "Cc", "Mn", "Me"))


def is_readable(text: str, *, allowed: str = "") -> bool:
    """Whether all of ``text`` is readable, and not only blanks unless it is empty. ``allowed``: more characters."""
    # Most texts are known to be so without a look at each category: this is done for every field of some calls.
    if text.isprintable() and _FILLERS_SET.isdisjoint(text) and text[:1].isalnum():
        return True
    categories = [unicodedata.category(character) for character in text]
    for character, category in zip(text, categories, strict=True):
        is_refused = category in _REFUSED_CATEGORIES or character in _FILLERS
        if is_refused and character not in _JOINERS and character not in allowed:
            return False
    return not text or not _UNSEEN_ALONE.issuperset(categories)


def decimal(amount: int, scale: int) -> str:
    """An amount of 10^-scale with its decimals: 1234 with the scale 2 is 12.34, and with the scale 0 it is 1234."""
    whole, rest = divmod(abs(amount), 10**scale)
    return f"{'-' if amount < 0 else ''}{whole}{f'.{rest:0{scale}d}' if scale else ''}"


def yuan(amount_fen: int) -> str:
    """An amount with two decimals, as bills print it: 1234 fen are 12.34."""
    return decimal(amount_fen, 2)


def read_json(text: bytes) -> Any:  # noqa: ANN401  # whatever JSON holds
    """JSON in any Unicode encoding, with or without a byte order mark. Raises ValueError, RecursionError.

    An object's names must differ: of two equal names, one reader would use the first and another the second.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice")
    return value
