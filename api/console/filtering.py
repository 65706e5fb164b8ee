"""Reads filters from a query: days, amounts, numbers, choices, ids. What is wrong is refused with the field's name."""

import re
from datetime import date, timedelta
from enum import StrEnum
from typing import TypeVar

from api.console.forms import Fields
from engine.calendar.china_time import begin_ms
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_packet_number, is_user_id
from engine.search import TEXT_LENGTH_MAX
from engine.text import is_readable
from engine.wallets.assets import Assets, Known

PAGE = 50
"""How many rows a page shows."""
LABEL_LENGTH_MAX = 64
Choice = TypeVar("Choice", bound=StrEnum)
_AMOUNT = re.compile(r"\d{1,13}(\.\d{1,2})?", re.ASCII)
_TYPED = re.compile(r"¥?([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.([0-9]+))?")
_TYPED_DIGITS_MAX = 16
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)


def refuse(field: str, rule: str) -> InvalidFieldsError:
    """The error about one field."""
    return InvalidFieldsError([FieldProblem(field, rule)])


def day(fields: Fields, name: str) -> date | None:
    """A day as 2026-11-28, if there is one. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or text != found.isoformat() or not 2000 <= found.year < 2100:
        raise refuse(name, "must be a day as 2026-11-28")
    return found


def from_ms(fields: Fields, name: str = "from") -> int | None:
    """When a day begins in China."""
    found = day(fields, name)
    return None if found is None else begin_ms(found)


def before_ms(fields: Fields, name: str = "to") -> int | None:
    """When a day ends in China: the first moment after it."""
    found = day(fields, name)
    return None if found is None else begin_ms(found + timedelta(days=1))


def fen(fields: Fields, name: str) -> int | None:
    """An amount in yuan as fen. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if not _AMOUNT.fullmatch(text):
        raise refuse(name, "must be an amount in yuan as 12.34")
    yuan, _, rest = text.partition(".")
    return int(yuan) * 100 + int(f"{rest:0<2}")


def amount_of(text: str, scale: int) -> int | None:
    """An amount as a person types it (12, 12.3, 1,234.50) in 10^-scale. None if it is none.

    A comma is one between thousands. Where it is in another place, it may be a decimal comma: 12,34 is no amount.
    """
    found = _TYPED.fullmatch(text.strip())
    if found is None:
        return None
    digits, decimals = found[1].replace(",", ""), found[2] or ""
    if len(digits) > _TYPED_DIGITS_MAX or len(decimals) > scale:
        return None
    return int(digits + decimals.ljust(scale, "0"))


async def asset(assets: Assets, fields: Fields, name: str) -> Known:
    """The asset of this code; left out, the ledger's currency. Raises InvalidFieldsError, UnavailableError."""
    try:
        return await assets.named(fields.text(name) or None)
    except InvalidFieldsError:
        raise refuse(name, "must be the code of an asset of this ledger") from None


def whole(fields: Fields, name: str, *, least: int = 0, most: int = 2**63 - 1) -> int | None:
    """A whole number. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise refuse(name, f"must be a whole number from {least} to {most}")
    return int(text)


def number_in(text: str, name: str) -> int:
    """The number of a row in a path or a form. Raises InvalidFieldsError."""
    if not _WHOLE.fullmatch(text):
        raise refuse(name, "must be a row's number")
    return int(text)


def choice(fields: Fields, name: str, of: type[Choice]) -> Choice | None:
    """One of some words. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if text not in {word.value for word in of}:
        raise refuse(name, f"must be one of {', '.join(word.value for word in of)}")
    return of(text)


def yes_or_no(fields: Fields, name: str) -> bool | None:
    """``yes``, ``no``, or neither. Raises InvalidFieldsError."""
    text = fields.text(name)
    if text not in ("", "yes", "no"):
        raise refuse(name, "must be yes or no")
    return None if not text else text == "yes"


def user_id(fields: Fields, name: str) -> str | None:
    """A user's id. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if not is_user_id(text):
        raise refuse(name, "must be a user id")
    return text


def packet_id(fields: Fields, name: str) -> str | None:
    """A packet's number. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if not is_packet_number(text):
        raise refuse(name, "must be a packet's number of 19 digits")
    return text


def label(fields: Fields, name: str) -> str | None:
    """A label, or how one begins. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if len(text) > LABEL_LENGTH_MAX or not is_readable(text):
        raise refuse(name, f"must be at most {LABEL_LENGTH_MAX} readable characters")
    return text


def beginning(fields: Fields, name: str) -> str | None:
    """How a name begins. Raises InvalidFieldsError."""
    text = fields.text(name)
    if not text:
        return None
    if len(text) > TEXT_LENGTH_MAX or not is_readable(text):
        raise refuse(name, f"must be at most {TEXT_LENGTH_MAX} readable characters")
    return text


def check_typed(fields: Fields, wanted: str) -> None:
    """What cannot be undone must be typed, also by whoever sends the form by hand. Raises InvalidFieldsError."""
    if fields.text("typed") != wanted:
        raise refuse("typed", f"must be {wanted}, as the page asks for it")
