"""Which days and which asset are looked at, and the questions to the ledger about them.

All questions see the same moment, in one read-only transaction. Each has a time limit. A question names the numbers
that packets of these days can have, so that Postgres leaves out the volumes that have none of them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import asyncpg

from engine.calendar.china_time import begin_ms, today
from engine.errors import FieldProblem, InvalidFieldsError, OperatorError
from engine.ledger.currency import SCALE, currency_of
from engine.ledger.database import Connection, ledger_errors
from engine.queries import load
from engine.text import decimal

SQL = load("analysis")
DAYS_MAX = 400
FIRST_DAY = date(2000, 1, 1)
STATEMENT_S = 60.0
_ANSWER_S = 5.0
"""How long after Postgres should have stopped a question it may be silent."""
_ROWS_MAX = 20_000
"""More than any question can return: 400 days with 24 hours each are the most."""
_DAY_MS = 86_400_000
_SLACK_MS = _DAY_MS
"""How far clocks may differ: a packet has Redis's time, and a volume Postgres's."""
_LIFE_MS = 100 * _DAY_MS
"""How long after its sending a packet may still have entries: a campaign is paid up to 90 days ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Days in China, both included, and an asset. ``asset`` None: the ledger's currency, which is ``currency``.

    ``scale``: amounts are whole numbers of 10^-scale.
    """

    first: date
    last: date
    asset: str | None
    currency: str
    scale: int

    @property
    def from_ms(self) -> int:
        """The first day's first moment."""
        return begin_ms(self.first)

    @property
    def until_ms(self) -> int:
        """The first moment after the last day."""
        return begin_ms(self.last + timedelta(days=1))

    @property
    def days(self) -> int:
        """How many days these are."""
        return (self.last - self.first).days + 1

    @property
    def unit(self) -> str:
        """The asset's name for people."""
        return self.asset or self.currency

    def amount(self, smallest: int) -> str:
        """An amount for people: ¥12.34, or 12 POINTS."""
        text = decimal(smallest, self.scale)
        whole, _, part = text.partition(".")
        grouped = f"{int(whole):,}" + (f".{part}" if part else "")
        return f"¥{grouped}" if self.unit == "CNY" else f"{grouped} {self.unit}"

    def in_units(self, smallest: int) -> float:
        """An amount on an axis."""
        return float(smallest) / float(10**self.scale)


class StudyError(OperatorError):
    """A study cannot be made. ``option``: what an option of the command can do about it besides."""

    def __init__(self, sentence: str, *, option: str) -> None:
        super().__init__(sentence)
        self.option = option


def check_days(first: date, last: date) -> None:
    """Raise InvalidFieldsError, about ``from`` or ``to``, unless these are days that can be looked at."""
    if last < first:
        raise InvalidFieldsError([FieldProblem("to", "must not be before the first day")])
    if (days := (last - first).days + 1) > DAYS_MAX:
        raise InvalidFieldsError([FieldProblem("to", f"must leave at most {DAYS_MAX} days; these are {days}")])
    if first < FIRST_DAY:
        raise InvalidFieldsError([FieldProblem("from", f"must be {FIRST_DAY} or later")])
    if first > today():
        raise InvalidFieldsError([FieldProblem("from", "must be a day that has begun in China")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Asks the ledger about a scope. Packets' numbers are from ``first_number`` up to, and without, ``end_number``.

    ``sent_from``: the smallest number of a packet that was sent in these days; older ones may have claims in them.
    """

    connection: Connection
    scope: Scope
    statement_s: float
    first_number: int
    sent_from: int
    end_number: int

    async def claims(self, block: str, *more: object) -> list[asyncpg.Record]:
        """Rows of a question about entries of these days: $1 to $5 are the scope."""
        return await self._rows(block, self.first_number, more)

    async def packets(self, block: str, *more: object) -> list[asyncpg.Record]:
        """Rows of a question about packets that were sent in these days."""
        return await self._rows(block, self.sent_from, more)

    async def _rows(self, block: str, first: int, more: tuple[object, ...]) -> list[asyncpg.Record]:
        scope = self.scope
        values = (scope.from_ms, scope.until_ms, scope.asset, first, self.end_number)
        try:
            rows: list[asyncpg.Record] = await self.connection.fetch(
                block, *values, *more, timeout=self.statement_s + _ANSWER_S
            )
        except (asyncpg.QueryCanceledError, TimeoutError):
            raise StudyError(
                f"Postgres took longer than {self.statement_s:g} s for one question: ask for fewer days.",
                option="allow more time (--statement-s)",
            ) from None
        if len(rows) > _ROWS_MAX:
            raise AssertionError("a question returns sums, and there are never so many")
        return rows


@asynccontextmanager
async def reading(
    pool: asyncpg.Pool, first: date, last: date, *, asset: str | None = None, statement_s: float = STATEMENT_S
) -> AsyncIterator[Reader]:
    """A reader of one moment of the ledger. ``asset`` None: its currency. ``statement_s`` bounds each question.

    Raises InvalidFieldsError for days that cannot be looked at, OperatorError for an asset that there is not and for a
    question that took too long, UnavailableError if Postgres does not answer.
    """
    check_days(first, last)
    with ledger_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(SQL["bound"], f"{statement_s * 1_000:.0f}ms")
            scope = await _scope(connection, first, last, asset)
            (bounds,) = await connection.fetch(
                SQL["numbers"], scope.from_ms - _SLACK_MS, scope.from_ms - _LIFE_MS, scope.until_ms + _SLACK_MS
            )
            yield Reader(connection=connection, scope=scope, statement_s=statement_s, **bounds)


async def _scope(connection: Connection, first: date, last: date, asset: str | None) -> Scope:
    currency = await currency_of(connection)
    if asset is None or asset == currency:
        return Scope(first=first, last=last, asset=None, currency=currency, scale=SCALE)
    scale = await connection.fetchval(SQL["scale"], asset)
    if scale is None:
        raise OperatorError(f"The ledger has no asset {asset}; its currency is {currency}.")
    return Scope(first=first, last=last, asset=asset, currency=currency, scale=scale)
