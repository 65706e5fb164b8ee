"""All questions, in the order in which a report shows them."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import asyncpg

from engine.analysis import concentration, endings, funnel, hours, splits, storms
from engine.analysis.finding import Finding
from engine.analysis.scope import STATEMENT_S, Reader, Scope, reading
from engine.errors import OperatorError

Question = Callable[[Reader], Awaitable[Finding]]
STUDIES: dict[str, Question] = {
    "storm": storms.storm,
    "sold_out": endings.sold_out,
    "shares": splits.shares,
    "luckiest": splits.luckiest,
    "activity": hours.activity,
    "concentration": concentration.concentration,
    "unclaimed": endings.unclaimed,
    "refunds": hours.refunds,
    "campaigns": funnel.campaigns,
    "settlement": endings.settlement,
}


@dataclass(frozen=True, slots=True)
class Study:
    """What was asked, and the answers."""

    scope: Scope
    findings: Sequence[Finding]


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The questions of these names; none: all. Raises OperatorError naming one that there is not."""
    asked = tuple(names) or tuple(STUDIES)
    if unknown := [name for name in asked if name not in STUDIES]:
        raise OperatorError(f"There is no picture {unknown[0]}. There are {', '.join(STUDIES)}.")
    return asked


async def study(
    pool: asyncpg.Pool,
    first: date,
    last: date,
    *,
    asset: str | None = None,
    names: Sequence[str] = (),
    statement_s: float = STATEMENT_S,
    told: Callable[[int, int], None] = lambda _done, _of: None,
) -> Study:
    """Ask the questions of these ``names`` (none: all) about days in China. ``told``: how many are answered, of all.

    Raises as ``scope.reading`` and ``check_names`` do.
    """
    asked = check_names(names)
    async with reading(pool, first, last, asset=asset, statement_s=statement_s) as reader:
        findings = []
        for done, name in enumerate(asked):
            told(done, len(asked))
            findings.append(await STUDIES[name](reader))
        told(len(asked), len(asked))
        return Study(reader.scope, findings)
