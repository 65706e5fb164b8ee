"""Operators: adding, disabling, set-up, sign-in, and proving once more that one is who one is.

Whoever knows a name can try passwords and codes, so tries are limited: a few wrong ones lock the operator for a while.
A try is counted in its own transaction. The operator's row is locked while the hash is computed, so each of several
simultaneous tries sees those before it.
"""

import re
import secrets
from dataclasses import dataclass, field, replace
from hashlib import sha256

import asyncpg

from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import now_ms
from engine.operators import codes
from engine.operators.passwords import Passwords, check_strength
from engine.operators.refusals import (
    LinkEndedError,
    NotVouchedError,
    OperatorExistsError,
    SignInLockedError,
    SignInRefusedError,
    UnknownOperatorError,
    WrongCodeError,
)
from engine.operators.roles import ROLES, permissions_of
from engine.queries import load

SQL = load("operators")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
NAME_RULE = "must be 1 to 64 letters, digits and . _ @ -, and begin with a letter or digit"
TRIES_MAX = 5
"""Wrong tries in a row that lock an operator."""
LOCK_MS = 900_000
LINK_MS = 600_000
"""How long a set-up link can be used."""
OPERATORS_MAX = 1_000
LANGUAGES = ("zh", "en")
_LINK_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator. ``language`` None: none was chosen.

    ``sign_in_mark``: of the password that the operator has now, if they are just signing in. Else empty.
    """

    operator_id: int
    name: str
    role: str
    language: str | None = None
    sign_in_mark: bytes = field(default=b"", repr=False, compare=False)

    @property
    def permissions(self) -> frozenset[str]:
        """What the operator may do."""
        return permissions_of(self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorView:
    """One operator in the list. ``seen_at_ms`` None: never signed in."""

    name: str
    role: str
    is_set_up: bool
    created_at_ms: int
    created_by: str
    disabled_at_ms: int | None
    locked_until_ms: int | None
    seen_at_ms: int | None
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """A set-up link that can be used: whose it is, and the secret for the authenticator."""

    operator: Operator
    totp_secret: str


class Operators:
    """Use cases of operators. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, passwords: Passwords) -> None:
        self._pool, self._passwords = pool, passwords

    async def add(self, name: str, role: str, *, by: str) -> str:
        """Add an operator. Returns the secret part of the set-up link.

        Raises InvalidFieldsError, OperatorExistsError.
        """
        problems = [] if NAME.fullmatch(name) else [FieldProblem("name", NAME_RULE)]
        problems += role_problems(role)
        if problems:
            raise InvalidFieldsError(problems)
        async with ledger_change(self._pool) as connection:
            if await connection.fetchval(SQL["count"]) >= OPERATORS_MAX:
                raise OperatorExistsError(f"There are {OPERATORS_MAX} operators, the most there can be.")
            operator_id = await connection.fetchval(SQL["add"], name, role, by)
            if operator_id is None:
                raise OperatorExistsError(f"There is an operator {name}, or was one: names are never given twice.")
            return await _new_link(connection, operator_id)

    async def reset(self, name: str) -> str:
        """Forget an operator's password and authenticator, end their sessions, and return a new link's secret part.

        Who is disabled stays so, and can use the link once they are enabled. Raises UnknownOperatorError.
        """
        async with ledger_change(self._pool) as connection:
            operator_id = await _known(connection, name)
            await connection.execute(SQL["forget_sign_in"], operator_id)
            await connection.execute(SQL["end_sessions"], operator_id)
            return await _new_link(connection, operator_id)

    async def disable(self, name: str) -> None:
        """Refuse an operator from now on, and end their sessions and their link. Raises UnknownOperatorError."""
        async with ledger_change(self._pool) as connection:
            operator_id = await _known(connection, name)
            await connection.execute(SQL["disable"], operator_id)
            await connection.execute(SQL["forget_link"], operator_id)
            await connection.execute(SQL["end_sessions"], operator_id)

    async def enable(self, name: str) -> None:
        """Let a disabled operator sign in again. Raises UnknownOperatorError."""
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["enable"], await _known(connection, name))

    async def put_role(self, name: str, role: str) -> None:
        """Give an operator another role. It holds from their next request on.

        Raises InvalidFieldsError, UnknownOperatorError.
        """
        if problems := role_problems(role):
            raise InvalidFieldsError(problems)
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["put_role"], await _known(connection, name), role)

    async def put_language(self, operator_id: int, language: str) -> None:
        """Keep an operator's choice."""
        with ledger_errors():
            await self._pool.execute(SQL["put_language"], operator_id, language)

    async def list(self) -> "list[OperatorView]":
        """All operators by name."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["all"], OPERATORS_MAX)
        return [OperatorView(**row) for row in rows]

    async def who_may(self, permission: str) -> tuple[str, ...]:
        """The names of those who have a right now and can sign in."""
        with ledger_errors():
            rows = await self._pool.fetch(SQL["who_may"], _roles_with(permission), None, OPERATORS_MAX)
        return tuple(row["name"] for row in rows)

    async def is_known(self, name: str) -> bool:
        """Whether an operator has this name."""
        if not NAME.fullmatch(name):  # Postgres could not even read some of them
            return False
        with ledger_errors():
            return await self._pool.fetchval(SQL["is_known"], name) is not None

    async def is_any_set_up(self) -> bool:
        """Whether anybody can sign in."""
        with ledger_errors():
            return bool(await self._pool.fetchval(SQL["is_any_set_up"]))

    async def set_up(self, link: str) -> SetUp:
        """What a link's page shows. Raises LinkEndedError."""
        with ledger_errors():
            row = await self._pool.fetchrow(SQL["link"], _hash(link))
        return _usable(row)

    async def finish_set_up(self, link: str, password: str, code: str) -> Operator:
        """Set the password and the authenticator of a link's operator. The link is used up, and sessions end.

        Raises LinkEndedError, WeakPasswordError, WrongCodeError (the link can still be used).
        """
        set_up = await self.set_up(link)
        check_strength(set_up.operator.name, password)
        hashed = await self._passwords.hash(password)
        async with ledger_change(self._pool) as connection:
            again = _usable(await connection.fetchrow(SQL["lock_link"], _hash(link)))
            step = codes.step_of(again.totp_secret, code, await now_ms(connection), 0)
            if step is None:
                raise WrongCodeError("The code is wrong or too old: enter the one that the app shows now.")
            await connection.execute(SQL["set_up"], again.operator.operator_id, hashed, again.totp_secret, step)
            await connection.execute(SQL["forget_link"], again.operator.operator_id)
            await connection.execute(SQL["end_sessions"], again.operator.operator_id)
        return replace(again.operator, sign_in_mark=_hash(hashed))

    async def sign_in(self, name: str, password: str, code: str) -> Operator:
        """The operator, if all three are right. Raises SignInRefusedError, SignInLockedError.

        Only who has all three right is told of a lock: others would learn which names there are.
        """
        found: Operator | None = None
        async with self._passwords.turn(), ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["lock_name"], name[:64])
            refusal = await self._try(connection, row, password, code)
            if refusal is None and row is not None:
                found = replace(_operator(row), sign_in_mark=_hash(row["password_hash"]))
        if isinstance(refusal, SignInLockedError) and not refusal.is_right:
            raise SignInRefusedError(is_locked=True)
        if refusal is not None or found is None:  # after the commit: the try counts
            raise refusal or SignInRefusedError
        return found

    async def vouched(self, name: str) -> Operator:
        """The operator of a name that somebody else vouches for.

        Raises NotVouchedError, SignInLockedError.
        """
        row = None
        if NAME.fullmatch(name):  # Postgres could not even read some of them
            with ledger_errors():
                row = await self._pool.fetchrow(SQL["vouched"], name)
        if row is None:
            raise NotVouchedError("no operator has this name")
        if row["disabled_at_ms"] is not None:
            raise NotVouchedError("the operator is disabled")
        if row["password_hash"] is None:
            raise NotVouchedError("the operator has not used the set-up link yet")
        if row["is_locked"]:
            raise SignInLockedError(row["locked_until_ms"])
        return replace(_operator(row), sign_in_mark=_hash(row["password_hash"]))

    async def prove(self, operator_id: int, code: str) -> None:
        """Return if it is the operator's code now. A wrong one counts. Raises WrongCodeError, SignInLockedError."""
        async with ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["lock"], operator_id)
            refusal = await self._try(connection, row, None, code)
        if isinstance(refusal, SignInRefusedError):
            raise WrongCodeError(
                "The code is wrong, too old, or was used before: enter the one that the app shows now."
            )
        if refusal is not None:
            raise refusal

    async def change_password(self, operator: Operator, current: str, new: str, code: str, *, session_id: int) -> None:
        """Set another password. The operator's link ends, and their sessions but this one.

        Raises WeakPasswordError, SignInRefusedError, SignInLockedError.
        """
        check_strength(operator.name, new)
        hashed = await self._passwords.hash(new)
        async with self._passwords.turn(), ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["lock"], operator.operator_id)
            refusal = await self._try(connection, row, current, code)
            if refusal is None:
                await connection.execute(SQL["put_password"], operator.operator_id, hashed)
                await connection.execute(SQL["forget_link"], operator.operator_id)
                await connection.execute(SQL["end_other_sessions"], operator.operator_id, session_id)
        if refusal is not None:
            raise refusal

    async def new_authenticator(self, operator: Operator, current: str, code: str) -> str:
        """A link with which the operator sets password and authenticator anew. The old ones hold until it is used.

        Raises SignInRefusedError, SignInLockedError.
        """
        async with self._passwords.turn(), ledger_change(self._pool) as connection:
            row = await connection.fetchrow(SQL["lock"], operator.operator_id)
            refusal = await self._try(connection, row, current, code)
            link = "" if refusal is not None else await _new_link(connection, operator.operator_id)
        if refusal is not None:
            raise refusal
        return link

    async def _try(
        self, connection: Connection, row: asyncpg.Record | None, password: str | None, code: str
    ) -> HongbaoError | None:
        """Count one try. Returns the error of a wrong one. ``password`` None: only the code is asked for.

        The password is always compared, also if it is known that the answer is no: the time must not tell why.
        """
        hashed = None if row is None or row["disabled_at_ms"] is not None else row["password_hash"]
        is_password = password is None or await self._passwords.matches(hashed, password)
        at_ms = await now_ms(connection)
        if row is None or hashed is None:
            return SignInRefusedError()
        step = codes.step_of(row["totp_secret"], code, at_ms, row["totp_step"])
        if row["locked_until_ms"] is not None and row["locked_until_ms"] > at_ms:
            return SignInLockedError(row["locked_until_ms"], is_right=is_password and step is not None)
        if is_password and step is not None:
            await connection.execute(SQL["count_right"], row["operator_id"], step)
            return None
        wrong_tries = row["wrong_tries"] + 1
        until_ms = at_ms + LOCK_MS if wrong_tries >= TRIES_MAX else None
        await connection.execute(SQL["count_wrong"], row["operator_id"], 0 if until_ms else wrong_tries, until_ms)
        if until_ms is not None:
            return SignInLockedError(until_ms)
        return SignInRefusedError()


async def may_in(connection: Connection, name: str, permission: str) -> bool:
    """Whether an operator has a right now and can sign in, inside the caller's transaction."""
    if not NAME.fullmatch(name):
        return False
    return await connection.fetchval(SQL["who_may"], _roles_with(permission), name, 1) is not None


def _roles_with(permission: str) -> tuple[str, ...]:
    return tuple(role for role, permissions in ROLES.items() if permission in permissions)


def role_problems(role: str) -> list[FieldProblem]:
    """What is wrong with the name of a role."""
    return [] if role in ROLES else [FieldProblem("role", f"must be one of {', '.join(ROLES)}")]


async def _known(connection: Connection, name: str) -> int:
    operator_id: int | None = None
    if NAME.fullmatch(name):  # Postgres could not even read some of them
        operator_id = await connection.fetchval(SQL["id_of"], name)
    if operator_id is None:
        raise UnknownOperatorError(f"There is no operator {name[:64]}.")
    return operator_id


async def _new_link(connection: Connection, operator_id: int) -> str:
    link = secrets.token_urlsafe(_LINK_BYTES)
    expires_at_ms = await now_ms(connection) + LINK_MS
    await connection.execute(SQL["put_link"], operator_id, _hash(link), codes.new_secret(), expires_at_ms)
    return link


def _usable(row: asyncpg.Record | None) -> SetUp:
    if row is None:
        raise LinkEndedError("This link was used, was replaced, or is too old: ask for a new one.")
    return SetUp(operator=_operator(row), totp_secret=row["link_secret"])


def _operator(row: asyncpg.Record) -> Operator:
    return Operator(operator_id=row["operator_id"], name=row["name"], role=row["role"], language=row["language"])


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
