"""What texts that people read may hold: greetings, notes, reasons, evidence."""

import unicodedata

TEXT_RULE = "must not have control characters or lone surrogates"
LINE_CHARACTERS = "\n\r\t"


def has_controls(text: str, *, allowed: str = "") -> bool:
    """Whether a character is a control character (Unicode's Cc) or a lone surrogate (Cs), except those allowed."""
    return any(unicodedata.category(character) in ("Cc", "Cs") and character not in allowed for character in text)
