"""Sessions of the console. They are kept in Postgres, so they can be listed and ended, and only as hashes of tokens."""

import secrets
from dataclasses import dataclass
from hashlib import sha256

import asyncpg

from engine.ledger.database import ledger_change, ledger_errors
from engine.operators.accounts import NAME, Operator
from engine.operators.refusals import SignInRefusedError
from engine.queries import load

SQL = load("operator_sessions")
IDLE_MS = 1_800_000
"""A session that is not used for this long has ended."""
ABSOLUTE_MS = 43_200_000
"""No session lasts longer."""
PROVED_MS = 600_000
"""For this long after a code, an action with money needs no other."""
OPEN_MAX = 10
"""Sessions an operator has at a time. One more ends the oldest."""
_TOKEN_BYTES = 32
_AGENT_LENGTH_MAX = 300
_ADDRESS_LENGTH_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that holds. ``is_proved``: its operator has given a code a short while ago."""

    session_id: int
    operator: Operator
    is_proved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One session in a list."""

    session_id: int
    address: str
    agent: str
    begun_at_ms: int
    seen_at_ms: int


class Sessions:
    """Use cases of sessions. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def begin(self, operator: Operator, *, address: str, agent: str, is_proved: bool = True) -> tuple[str, int]:
        """Begin a session of an operator who has just signed in. Returns its token and its number.

        ``is_proved``: they have just given a code of ours. Raises SignInRefusedError if they have been disabled or
        reset meanwhile, or the password is another one.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        values = (
            _hash(token),
            operator.operator_id,
            address[:_ADDRESS_LENGTH_MAX],
            agent[:_AGENT_LENGTH_MAX],
            is_proved,
        )
        async with ledger_change(self._pool) as connection:
            if await connection.fetchval(SQL["may_begin"], operator.operator_id, operator.sign_in_mark) is None:
                raise SignInRefusedError("The sign-in was changed while it was checked.")
            session_id: int = await connection.fetchval(SQL["begin"], *values)
            await connection.execute(SQL["end_oldest"], operator.operator_id, OPEN_MAX)
        return token, session_id

    async def of(self, token: str, *, is_use: bool = True) -> Session | None:
        """The session of a token, if it holds. ``is_use``: it counts as used now (not if a page asks by itself)."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["of"], _hash(token), IDLE_MS, ABSOLUTE_MS, PROVED_MS)
            if row is None:
                return None
            if is_use:
                await self._pool.execute(SQL["note_use"], row["session_id"])
        operator = Operator(
            operator_id=row["operator_id"], name=row["name"], role=row["role"], language=row["language"]
        )
        return Session(session_id=row["session_id"], operator=operator, is_proved=row["is_proved"])

    async def note_proof(self, session_id: int) -> None:
        """The session's operator has given a code."""
        with ledger_errors():
            await self._pool.execute(SQL["note_proof"], session_id)

    async def end(self, session_id: int) -> None:
        """End one."""
        with ledger_errors():
            await self._pool.execute(SQL["end"], session_id)

    async def end_of(self, name: str, session_id: int) -> bool:
        """End one of an operator's. Returns whether it is theirs and was open."""
        if not NAME.fullmatch(name):  # Postgres could not even read some of them
            return False
        with ledger_errors():
            return await self._pool.fetchval(SQL["end_of"], name, session_id) is not None

    async def open_of(self, name: str) -> list[SessionView]:
        """An operator's sessions that hold, newest first."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["open_of"], name, IDLE_MS, ABSOLUTE_MS, OPEN_MAX)
        return [SessionView(**row) for row in rows]


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
