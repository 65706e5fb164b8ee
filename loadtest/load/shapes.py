"""The festival's eve as a curve of users over time. It is pure arithmetic, so that tests need no locust."""

from dataclasses import dataclass
from enum import StrEnum

PEAK_OVER_CALM = 10
"""Midnight has ten times as many users as the calm evening."""
_RAMP_OVER_CALM = 3
_TAIL_STARTS_AT = 0.5  # of the peak: half of them put the phone away at once
_TAIL_HALVINGS = 4  # the other half in ever smaller numbers


class Phase(StrEnum):
    """A part of the evening, in order."""

    CALM = "calm"
    RAMP = "ramp"
    MIDNIGHT = "midnight"
    TAIL = "tail"


PHASE_ENDS = {Phase.CALM: 0.20, Phase.RAMP: 0.40, Phase.MIDNIGHT: 0.55, Phase.TAIL: 1.0}
"""The end of each phase, as a fraction of the whole."""


@dataclass(frozen=True, slots=True)
class Eve:
    """``duration_s``: from the first user to the last. ``users_max``: users at midnight (at least ten)."""

    duration_s: float
    users_max: int

    def __post_init__(self) -> None:
        """Raise ValueError, with one sentence, if the evening is too small or too short."""
        if self.users_max < PEAK_OVER_CALM:
            raise ValueError(f"The evening needs at least {PEAK_OVER_CALM} users, not {self.users_max}.")
        if self.duration_s <= 0:
            raise ValueError("The evening must last longer than 0 seconds.")

    def phase_at(self, elapsed_s: float) -> Phase | None:
        """The phase at ``elapsed_s`` after the start. None once the evening is over."""
        passed = elapsed_s / self.duration_s
        return next((phase for phase, end in PHASE_ENDS.items() if passed < end), None)

    def users_at(self, elapsed_s: float) -> int | None:
        """The number of users at ``elapsed_s`` after the start, at least one. None once it is over."""
        calm = self.users_max // PEAK_OVER_CALM
        match self.phase_at(elapsed_s):
            case Phase.CALM:
                return calm
            case Phase.RAMP:
                through = self._through(Phase.RAMP, elapsed_s)
                return round(calm * (1 + (_RAMP_OVER_CALM - 1) * through))
            case Phase.MIDNIGHT:
                return self.users_max
            case Phase.TAIL:
                through = self._through(Phase.TAIL, elapsed_s)
                left: float = self.users_max * _TAIL_STARTS_AT * 0.5 ** (_TAIL_HALVINGS * through)
                return max(calm, round(left))
            case _:
                return None

    def _through(self, phase: Phase, elapsed_s: float) -> float:
        """How far through a phase, from 0 to 1."""
        ends = list(PHASE_ENDS.values())
        number = list(PHASE_ENDS).index(phase)
        begin, end = (ends[number - 1] if number else 0.0), ends[number]
        return (elapsed_s / self.duration_s - begin) / (end - begin)
