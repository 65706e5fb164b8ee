"""What an audit finds."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from engine.auditing.anchors import Head

PROBLEMS_MAX = 10
"""How many problems of one invariant are reported. The others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One invariant: its statement, how much was examined, and what breaks it (empty: it holds).

    ``heads``, only for ``chains_unbroken``: the ends of the chains, to be kept elsewhere (`audit --anchor`).
    """

    invariant: str
    statement: str
    examined: int
    problems: tuple[str, ...]
    more: int
    heads: tuple[Head, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the invariant holds."""
        return not self.problems

    def line(self) -> str:
        """The finding as a line for people."""
        return f"{'ok    ' if self.holds else 'FAILED'} {self.statement} ({self.examined:,} examined)"


def finding(name: str, statement: str, examined: int, problems: Iterable[str], heads: tuple[Head, ...] = ()) -> Finding:
    """A finding that reports the first problems and counts the others."""
    remaining = iter(problems)
    told = tuple(itertools.islice(remaining, PROBLEMS_MAX))
    more = sum(1 for _ in remaining)
    return Finding(invariant=name, statement=statement, examined=examined, problems=told, more=more, heads=heads)
