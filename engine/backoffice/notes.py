"""Notes that operators write about a user or a packet. A note is never changed or removed."""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ledger.database import Connection, ledger_errors
from engine.paging import NEWEST, Page, page_of, parse
from engine.queries import load
from engine.text import LINE_CHARACTERS, TEXT_RULE, is_readable

SQL = load("notes")
NOTE_LENGTH_MAX = 2_000


class SubjectKind(StrEnum):
    """What a note is about."""

    USER = "user"
    PACKET = "packet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note."""

    note_id: str
    written_at_ms: int
    written_by: str
    note: str


class Notes:
    """Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(self, kind: SubjectKind, subject: str, *, after: str | None, limit: int) -> Page[Note]:
        """The notes about a user or a packet, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_subject"], kind, subject, below, limit + 1)
        found = [Note(**{**row, "note_id": str(row["note_id"])}) for row in rows]
        return page_of(found, limit, lambda note: note.note_id)


async def add_in(connection: Connection, kind: SubjectKind, subject: str, note: str, *, by: str) -> str:
    """Write a note inside the caller's transaction. Returns its number. Raises InvalidFieldsError."""
    if not 1 <= len(note) <= NOTE_LENGTH_MAX:
        raise InvalidFieldsError([FieldProblem("note", f"must have 1 to {NOTE_LENGTH_MAX} characters")])
    if not is_readable(note, allowed=LINE_CHARACTERS):
        raise InvalidFieldsError([FieldProblem("note", TEXT_RULE)])
    number: int = await connection.fetchval(SQL["add"], kind, subject, by, note)
    return str(number)
