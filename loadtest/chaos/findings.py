"""The findings of a check, as sentences."""

from collections import Counter
from dataclasses import dataclass, field

from loadtest.chaos.history import Asked, Claim, Look

PROBLEMS_MAX = 50
REFUSED = (0, 429, 503)
"""No answer, too many requests, not now: the client may repeat, and no claim was acknowledged."""


@dataclass(slots=True)
class Findings:
    """The problems (the first ones as sentences), and the losses that the mode's promise allows, also by the fault."""

    problems: list[str] = field(default_factory=list)
    more: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    lost_by: Counter[str] = field(default_factory=Counter)

    def add(self, problem: str) -> None:
        """Add a problem."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.more += 1


def check_status(findings: Findings, asked: Asked, good: int, what: str) -> None:
    """Check that an answer is good or a proper refusal."""
    in_flight = (asked.status, asked.code) == (409, "idempotency_in_flight")
    if asked.status != good and asked.status not in REFUSED and not in_flight:
        findings.add(f"{what}: the answer was {shown(asked)}")


def shown(asked: Asked) -> str:
    """An answer as text."""
    match asked:
        case Claim(status=200):
            return f"{asked.outcome or 'nothing'} with {asked.amount_fen} fen"
        case Look(status=200):
            return (
                f"{asked.claimed_count} claimed with {asked.claimed_fen} fen, "
                f"{asked.remaining_count} left with {asked.remaining_fen} fen"
            )
    return f"{asked.status} {asked.code}".strip()
