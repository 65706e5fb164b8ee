"""What a check has found, and the words for it."""

from dataclasses import dataclass, field

from loadtest.chaos.history import Asked, Claim, Look

PROBLEMS_MAX = 50
REFUSED = (0, 429, 503)
"""No answer, too many, not now: asking again is right, and nobody was told anything."""


@dataclass(slots=True)
class Findings:
    """What is wrong, the first of it in words; and what the mode's promise covers though it is lost."""

    problems: list[str] = field(default_factory=list)
    more: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """One more is wrong."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)
        else:
            self.more += 1


def check_status(findings: Findings, asked: Asked, good: int, what: str) -> None:
    """An answer is good, or a refusal that is meant."""
    in_flight = (asked.status, asked.code) == (409, "idempotency_in_flight")
    if asked.status != good and asked.status not in REFUSED and not in_flight:
        findings.add(f"{what}: the answer was {shown(asked)}")


def shown(asked: Asked) -> str:
    """An answer in words."""
    match asked:
        case Claim(status=200):
            return f"{asked.outcome or 'nothing'} with {asked.amount_fen} fen"
        case Look(status=200):
            return (
                f"{asked.claimed_count} claimed with {asked.claimed_fen} fen, "
                f"{asked.remaining_count} left with {asked.remaining_fen} fen"
            )
    return f"{asked.status} {asked.code}".strip()
