"""Builds the connections to the ledger's database from the settings' URL."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from engine.errors import OperatorError, ServerRefusesError, UndecidedError
from engine.ledger.failures import DATABASE_ERRORS, failure_of, sentence_of

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
"""A connection to the ledger, made for one purpose or lent by a pool."""
Pool = asyncpg.Pool

_CONNECT_S_MAX = 10.0
STATEMENT_S_MAX = 60.0
"""For each statement on a connection of its own."""


class _Connection(asyncpg.Connection):
    """Returns to the pool without a reset query: ours leave only open transactions behind, and asyncpg ends those.

    Only ``database_connection``'s use what asyncpg would reset (session locks, settings, listeners).
    """

    def get_reset_query(self) -> str:
        """No query. This saves a round trip per use of the pool."""
        return ""


class _Pool(asyncpg.Pool):
    """Waits for a connection, or its return, at most as long as for a statement. asyncpg's pool waits for ever."""

    wait_s_max: float = 10.0

    def acquire(self, *, timeout: float | None = None) -> Any:  # noqa: ANN401  # as asyncpg declares it
        """As in asyncpg, with the bound."""
        return super().acquire(timeout=self.wait_s_max if timeout is None else timeout)


async def database_pool(
    url: str, *, connections_max: int, timeout_s: float, settings: dict[str, str] | None = None
) -> asyncpg.Pool:
    """A pool on the ledger's database. ``timeout_s`` bounds each statement and the wait for a connection.

    ``settings``: Postgres's, for each connection.

    Raises OperatorError, with one sentence, if it cannot be reached.
    """
    with _database_errors(url):
        pool = _Pool(
            url,
            min_size=1,
            max_size=connections_max,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            loop=None,
            connection_class=_Connection,
            record_class=asyncpg.Record,
            timeout=min(timeout_s, _CONNECT_S_MAX),
            command_timeout=timeout_s,
            server_settings=settings,
        )
        pool.wait_s_max = timeout_s
        return await pool


async def database_connection(url: str, settings: dict[str, str] | None = None) -> asyncpg.Connection:
    """A separate connection (for a session lock or a short job) with these Postgres ``settings``.

    Raises OperatorError like the pool.
    """
    with _database_errors(url):
        return await asyncpg.connect(
            url, timeout=_CONNECT_S_MAX, command_timeout=STATEMENT_S_MAX, server_settings=settings
        )


@contextmanager
def _database_errors(url: str) -> Iterator[None]:
    if urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise OperatorError("HONGBAO_DATABASE_URL cannot be used: it must begin with postgresql://.")
    try:
        yield
    except (*DATABASE_ERRORS, ValueError) as error:
        raise OperatorError(sentence_of(error)) from None


@contextmanager
def ledger_errors(*, is_undone: bool = False) -> Iterator[None]:
    """Turn the driver's errors into UnavailableError. Broken constraints pass through: they are a caller's mistake.

    ``is_undone``: the caller has changed nothing so far, and the block changes nothing.
    """
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError:
        raise
    except DATABASE_ERRORS as error:
        raise failure_of(error, is_undone=is_undone) from error


@asynccontextmanager
async def ledger_change(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A transaction on one of the pool's connections. Its errors say whether it may have been committed.

    Raises UnavailableError with ``is_undone``, or UndecidedError if COMMIT was sent and got no answer. Broken
    constraints and the block's own errors pass through.
    """
    is_committing = False
    try:
        async with pool.acquire() as connection, connection.transaction():
            yield connection
            is_committing = True
    except asyncpg.IntegrityConstraintViolationError:
        raise
    except DATABASE_ERRORS as error:
        failure = failure_of(error, is_undone=True)
        if is_committing and not isinstance(failure, ServerRefusesError):  # a refused COMMIT is rolled back
            raise UndecidedError(str(failure)) from error
        raise failure from error
