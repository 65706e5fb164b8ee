"""The form of codes, and codes that are computed from a batch's key, so that nothing is stored of them.

A derived code is 17 characters and a check character, of 32 that nobody mistakes for one another. They are 85 bits: 60
bits of an HMAC over the coupon's number and how often it was passed on, and the number, hidden by an HMAC over these 60
bits. So nobody without the key can guess a code or read a number, and whoever has it finds the number without a search.
Once a coupon is passed on, its former holder's code is void.
"""

import hmac
import re

from engine.coupons.keys import BatchKeys

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without I and 1, O and 0."""
COUNT_MAX = 10_000_000
CODE_LENGTH_MIN, CODE_LENGTH_MAX = 4, 64
CODE_RULE = f"must be {CODE_LENGTH_MIN} to {CODE_LENGTH_MAX} of A-Z a-z 0-9 . _ : / + = -"
_UPLOADED = re.compile(rf"[A-Za-z0-9._:/+=-]{{{CODE_LENGTH_MIN},{CODE_LENGTH_MAX}}}", re.ASCII)
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_BITS, _LENGTH = 5, 17
_MAC_BITS, _NUMBER_BITS = 60, 25
_GROUP = 6


def is_code(text: str) -> bool:
    """Whether a text can be uploaded as a code."""
    return _UPLOADED.fullmatch(text) is not None


def derived(keys: BatchKeys, number: int, moves: int) -> str:
    """The code of a coupon that was passed on ``moves`` times, in three groups."""
    mac = _mac(keys, number, moves)
    value = mac << _NUMBER_BITS | (number ^ _mask(keys, mac))
    text = "".join(ALPHABET[value >> shift & 31] for shift in range((_LENGTH - 1) * _BITS, -1, -_BITS))
    text += _check_character(text)
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def number_in(keys: BatchKeys, code: str) -> int | None:
    """The number in a derived code, or None if it has none. Only ``derived`` tells whether the code is right."""
    text = code.upper().replace("-", "").replace(" ", "")
    if len(text) != _LENGTH + 1 or not _VALUES.keys() >= set(text) or _check_character(text[:-1]) != text[-1]:
        return None
    value = 0
    for character in text[:-1]:
        value = value << _BITS | _VALUES[character]
    mac, hidden = value >> _NUMBER_BITS, value & ((1 << _NUMBER_BITS) - 1)
    number = hidden ^ _mask(keys, mac)
    return number if 1 <= number <= COUNT_MAX else None


def is_same(code: str, other: str) -> bool:
    """Whether two derived codes are the same, however they are written. Takes the same time for all of them."""
    plain = [text.upper().replace("-", "").replace(" ", "").encode() for text in (code, other)]
    return hmac.compare_digest(*plain)


def _mac(keys: BatchKeys, number: int, moves: int) -> int:
    digest = hmac.digest(keys.coding, b"number %d %d" % (number, moves), "sha256")
    return int.from_bytes(digest[:8], "big") >> (64 - _MAC_BITS)


def _mask(keys: BatchKeys, mac: int) -> int:
    digest = hmac.digest(keys.coding, b"mask %d" % mac, "sha256")
    return int.from_bytes(digest[:4], "big") >> (32 - _NUMBER_BITS)


def _check_character(text: str) -> str:
    """By Luhn's rule for 32 characters: a wrong character is noticed, and nearly always two that changed places."""
    total = 0
    for place, character in enumerate(reversed(text)):
        doubled = _VALUES[character] * (2 - place % 2)
        total += doubled // 32 + doubled % 32
    return ALPHABET[-total % 32]
