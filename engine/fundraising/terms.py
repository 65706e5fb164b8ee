"""The terms of a fundraiser, checked together, so that the answer names every bad field."""

from dataclasses import dataclass
from enum import StrEnum

from engine.errors import FieldProblem, InvalidFieldsError
from engine.settings import AMOUNT_FEN_MAX
from engine.text import LINE_CHARACTERS, TEXT_RULE, is_readable

TITLE_LENGTH_MAX = 60
STORY_LENGTH_MAX = 5_000
SECONDS_MIN = 60
"""The shortest time that a fundraiser can be open."""
DAYS_MAX = 90
_DAY_MS = 86_400_000


class Mode(StrEnum):
    """What becomes of the gifts if the goal is missed."""

    ALL_OR_NOTHING = "all_or_nothing"  # all of them go back
    KEEP_WHAT_COMES = "keep_what_comes"  # they are paid to the beneficiary


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraiserTerms:
    """Checked terms."""

    title: str
    story: str
    goal_fen: int
    ends_at_ms: int
    beneficiary: str
    mode: Mode


def check(terms: FundraiserTerms, now_ms: int) -> None:
    """Raise InvalidFieldsError naming every bad field. ``now_ms``: the ledger's clock."""
    problems = []
    if not 1 <= len(terms.title) <= TITLE_LENGTH_MAX:
        problems.append(FieldProblem("title", f"must have 1 to {TITLE_LENGTH_MAX} characters"))
    elif not is_readable(terms.title):
        problems.append(FieldProblem("title", TEXT_RULE))
    if len(terms.story) > STORY_LENGTH_MAX:
        problems.append(FieldProblem("story", f"must have at most {STORY_LENGTH_MAX} characters"))
    elif not is_readable(terms.story, allowed=LINE_CHARACTERS):
        problems.append(FieldProblem("story", TEXT_RULE))
    problems += amount_problems("goal_fen", terms.goal_fen)
    if not now_ms + SECONDS_MIN * 1000 <= terms.ends_at_ms <= now_ms + DAYS_MAX * _DAY_MS:
        problems.append(FieldProblem("ends_at_ms", f"must be {SECONDS_MIN} s to {DAYS_MAX} days from now"))
    if problems:
        raise InvalidFieldsError(problems)


def amount_problems(field: str, amount_fen: int, most_fen: int = AMOUNT_FEN_MAX) -> list[FieldProblem]:
    """What is wrong with an amount."""
    return [] if 1 <= amount_fen <= most_fen else [FieldProblem(field, f"must be from 1 to {most_fen}")]


def message_problems(message: str, length_max: int) -> list[FieldProblem]:
    """What is wrong with a gift's message."""
    if len(message) > length_max:
        return [FieldProblem("message", f"must have at most {length_max} characters")]
    return [] if is_readable(message) else [FieldProblem("message", TEXT_RULE)]


def matched(amount_fen: int, percent: int, left_fen: int) -> int:
    """What a match adds to a gift: its percent of it, rounded down, and no more than is left of its budget."""
    return min(amount_fen * percent // 100, left_fen)
