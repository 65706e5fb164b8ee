"""What a failure of Postgres means: it does not answer, or it refuses. Each refusal comes with a remedy."""

import asyncpg
from asyncpg import exceptions

from engine.errors import ServerRefusesError, UnavailableError
from engine.observability import server_failures
from engine.observability.server_failures import SILENT

DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""asyncpg's errors. It raises InternalClientError if the server hangs up between two steps of a statement."""

_AWAY = (
    exceptions.PostgresConnectionError,
    exceptions.OperatorInterventionError,  # it is stopping, starting, or was asked to end the statement
    exceptions.TransactionRollbackError,  # a deadlock: the next try may succeed
)
"""Errors of a server that cannot answer now. Every other error is a refusal."""
SESSION_LOST = (
    exceptions.InvalidSQLStatementNameError,
    exceptions.DuplicatePreparedStatementError,
    exceptions.ProtocolViolationError,
)
"""A statement was prepared in one session and run in another, or a setting was not passed on."""
WHY_SHARED = (
    "HONGBAO_DATABASE_URL leads through a pooler that lends one session to many (PgBouncer in transaction or statement "
    "mode) or refuses a session's settings, so leases and notifications would get lost: name Postgres itself."
)
_REMEDIES: dict[type[Exception], str] = {
    exceptions.InsufficientPrivilegeError: "Grant its user what the ledger's owner has: SELECT, INSERT, UPDATE, DELETE "
    "on all tables, and USAGE on all sequences.",
    exceptions.ReadOnlySQLTransactionError: "It takes no writes: let HONGBAO_DATABASE_URL name the primary, and set "
    "default_transaction_read_only off.",
    exceptions.InsufficientResourcesError: "It lacks disk, memory or connections: give it more.",
    exceptions.InvalidAuthorizationSpecificationError: "Put the right user and password into HONGBAO_DATABASE_URL.",
    exceptions.InvalidCatalogNameError: "Create the database, or correct HONGBAO_DATABASE_URL.",
    exceptions.UndefinedTableError: "Run `hongbao migrate`, and see whether search_path finds the ledger's tables.",
    **dict.fromkeys(SESSION_LOST, WHY_SHARED),
    exceptions.DataError: "The ledger cannot store this value: report it.",
}

OPERATORS_ERRORS = (
    *(OSError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    *(exceptions.PostgresConnectionError, exceptions.OperatorInterventionError),
    *(exceptions.InsufficientPrivilegeError, exceptions.ReadOnlySQLTransactionError),
    exceptions.InsufficientResourcesError,
    *SESSION_LOST,
)
"""Errors that a sound statement can meet."""


def code_of(error: Exception) -> str:
    """The SQLSTATE of a server's error, or SILENT if the server did not answer or cannot answer now."""
    is_away = isinstance(error, _AWAY) and not isinstance(error, SESSION_LOST)
    if isinstance(error, asyncpg.PostgresError) and not is_away:
        return error.sqlstate or "unknown"
    return SILENT


def sentence_of(error: Exception) -> str:
    """What happened and, if the server refuses, what to do."""
    said = str(error) or "the time for its answer is over"
    if code_of(error) == SILENT:
        return f"Postgres does not answer: {said}"
    remedy = next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), "See its log.")
    return f"Postgres refuses: {said.rstrip('.')}. {remedy}"


def failure_of(error: Exception, *, is_undone: bool = False) -> UnavailableError:
    """Count a failure and return the engine's error for it. ``is_undone``: nothing was changed."""
    code, sentence = code_of(error), sentence_of(error)
    server_failures.note("postgres", code, sentence)
    return (UnavailableError if code == SILENT else ServerRefusesError)(sentence, is_undone=is_undone)
