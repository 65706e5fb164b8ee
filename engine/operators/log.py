"""The operator log: what operators did, tried and looked at. A row never changes, and a hash chain covers them all.

An action has two rows: one before it ("asked") and one after it with the outcome. So an action whose process died has
a row without an outcome. A look and an export that was made have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, NamedTuple

import asyncpg
import orjson

from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.operators.chain import row_hash
from engine.paging import NEWEST, parse
from engine.queries import load

SQL = load("operator_log")
ASKED, OK, REFUSED, FAILED = "asked", "ok", "refused", "failed"
OUTCOMES = (ASKED, OK, REFUSED, FAILED)
PAGE_MAX = 200
_TEXT_LENGTH_MAX = 1_000
ARGUMENTS_LENGTH_MAX = 48_000
"""Characters of a row's arguments as JSON. No form of a page has more: 500 ids, or an escaped field of 20,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does something, and from where. ``session_id`` None: nobody is signed in, or it was the command line."""

    name: str
    role: str
    address: str
    session_id: int | None = None


COMMAND_LINE = Actor(name="command line", role="", address="")
"""Who works with `hongbao console` on the machine itself. It has a blank, which no operator's name has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the log. ``arguments``: JSON. ``about``: the number of the row with the question."""

    number: int
    at_ms: int
    operator: str
    role: str
    session_id: int | None
    address: str
    action: str
    subject_kind: str
    subject_id: str
    arguments: str
    reason: str
    outcome: str
    told: str
    approval_id: int | None
    about: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows. None: all. Times in milliseconds, from ``from_ms`` up to, and without, ``to_ms``."""

    operator: str | None = None
    action: str | None = None
    outcome: str | None = None
    subject_kind: str | None = None
    subject_id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, newest first. ``next``: the cursor of the page after it."""

    rows: list[Row]
    next: str | None


class OperatorLog:
    """The log. Every method raises UnavailableError if Postgres does not answer.

    ``reading``: where it is read, for a wide search must not hold a connection that writes need.
    """

    def __init__(self, pool: asyncpg.Pool, reading: asyncpg.Pool | None = None) -> None:
        self._pool, self._reading = pool, reading or pool

    async def write(
        self,
        actor: Actor,
        action: str,
        outcome: str,
        *,
        subject: tuple[str, str] = ("", ""),
        arguments: Mapping[str, Any] | None = None,
        reason: str = "",
        told: str = "",
        approval_id: int | None = None,
        about: int | None = None,
    ) -> int:
        """Write one row in its own transaction. Returns its number. ``arguments`` must hold no secrets."""
        async with ledger_change(self._pool) as connection:
            head = await _locked_head(connection)
            number = head.number + 1
            values = (
                number,
                await now_ms(connection),
                _text(actor.name),
                actor.role,
                actor.session_id,
                _text(actor.address),
                action,
                subject[0],
                _text(subject[1]),
                _json(arguments or {}),
                _text(reason),
                outcome,
                _text(told),
                approval_id,
                about,
            )
            hashed = row_hash(head.hash, values)
            await connection.execute(SQL["add"], *values, hashed)
            await connection.execute(SQL["put_head"], number, hashed)
        return number

    async def page(self, wanted: Filter, *, after: str | None = None, limit: int = 50) -> Page:
        """Rows, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        limit = min(limit, PAGE_MAX)
        values = [getattr(wanted, field.name) for field in fields(Filter)]
        with ledger_errors():
            rows = await self._reading.fetch(SQL["page"], below, limit + 1, *values)
        found = [Row(**row) for row in rows[:limit]]
        return Page(rows=found, next=str(found[-1].number) if len(rows) > limit else None)

    async def actions(self) -> list[str]:
        """The actions that the log knows, by name."""
        with ledger_errors():
            return [row["action"] for row in await self._reading.fetch(SQL["actions"])]


class _Head(NamedTuple):
    """The log's end."""

    number: int
    hash: bytes


async def _locked_head(connection: Connection) -> _Head:
    row = await connection.fetchrow(SQL["lock_head"])
    if row is None:
        raise AssertionError("the migration has made the head")
    return _Head(**row)


def is_kept_whole(arguments: Mapping[str, Any]) -> bool:
    """Whether a row would have all of these arguments. Who does something must not do it if not."""
    return len(_dumped(arguments)) <= ARGUMENTS_LENGTH_MAX


def _text(text: str) -> str:
    """What Postgres can keep, and not more than a person would read."""
    return _kept(text)[:_TEXT_LENGTH_MAX]


def _kept(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _json(arguments: Mapping[str, Any]) -> str:
    """All arguments or, if they are too long, the beginning of each and the SHA-256 of the whole."""
    whole = _dumped(arguments)
    if len(whole) <= ARGUMENTS_LENGTH_MAX:
        return whole
    told = {"sha256_of_the_whole": sha256(whole.encode()).hexdigest()}
    length = ARGUMENTS_LENGTH_MAX
    while length := length // 2:
        text = _dumped({name: _shortened(value, length) for name, value in arguments.items()} | told)
        if len(text) <= ARGUMENTS_LENGTH_MAX:
            return text
    return _dumped(told)  # the names alone are too long


def _shortened(value: Any, length: int) -> Any:  # noqa: ANN401  # whatever an argument is
    text = value if isinstance(value, str) else _dumped(value)
    return value if len(text) <= length else f"{text[:length]}..."


def _dumped(value: Any) -> str:  # noqa: ANN401  # whatever an argument is
    return orjson.dumps(_readable(value), option=orjson.OPT_SORT_KEYS).decode()


def _readable(value: Any) -> Any:  # noqa: ANN401  # whatever an argument is
    """The same with texts that Postgres can keep."""
    if isinstance(value, str):
        return _kept(value)
    if isinstance(value, Mapping):
        return {_kept(name): _readable(one) for name, one in value.items()}
    return [_readable(one) for one in value] if isinstance(value, list | tuple) else value
