"""What it means that Postgres has not done what it was asked: it is silent, or it refuses, and what to do then."""

import asyncpg
from asyncpg import exceptions

from engine.errors import ServerRefusesError, UnavailableError
from engine.observability import server_failures
from engine.observability.server_failures import SILENT

DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises, an InternalClientError also when the server hangs up between two steps of one statement."""

_AWAY = (
    exceptions.PostgresConnectionError,
    exceptions.OperatorInterventionError,  # it is stopping, starting, or was told to end the statement
    exceptions.TransactionRollbackError,  # a deadlock: the next try may do
)
"""Errors of a server that cannot answer now; every other is a refusal."""
SESSION_LOST = (
    exceptions.InvalidSQLStatementNameError,
    exceptions.DuplicatePreparedStatementError,
    exceptions.ProtocolViolationError,
)
"""What a statement meets that was prepared in one session and is run in another, or a setting that is not passed on."""
WHY_SHARED = (
    "HONGBAO_DATABASE_URL leads through a pooler that lends one session to many (PgBouncer in transaction or statement "
    "mode) or refuses a session's settings, so leases and notifications would get lost: name Postgres itself."
)
_REMEDIES: dict[type[Exception], str] = {
    exceptions.InsufficientPrivilegeError: "Grant its user what the ledger's owner has: SELECT, INSERT, UPDATE, DELETE "
    "on all tables, and USAGE on all sequences.",
    exceptions.ReadOnlySQLTransactionError: "It takes no writes: let HONGBAO_DATABASE_URL name the primary, and set "
    "default_transaction_read_only off.",
    exceptions.InsufficientResourcesError: "Give it what it lacks: disk, memory or connections.",
    exceptions.InvalidAuthorizationSpecificationError: "Put the right user and password into HONGBAO_DATABASE_URL.",
    exceptions.InvalidCatalogNameError: "Create the database, or correct HONGBAO_DATABASE_URL.",
    exceptions.UndefinedTableError: "Run `hongbao migrate`, and see whether search_path finds the ledger's tables.",
    **dict.fromkeys(SESSION_LOST, WHY_SHARED),
    exceptions.DataError: "It is a value that the ledger has no place for: report it.",
}

OPERATORS_ERRORS = (
    *(OSError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    *(exceptions.PostgresConnectionError, exceptions.OperatorInterventionError),
    *(exceptions.InsufficientPrivilegeError, exceptions.ReadOnlySQLTransactionError),
    exceptions.InsufficientResourcesError,
    *SESSION_LOST,
)
"""What a server fails a statement with that is sound."""


def code_of(error: Exception) -> str:
    """The SQLSTATE of a server's error, or SILENT where the server has said nothing, or cannot answer now."""
    is_away = isinstance(error, _AWAY) and not isinstance(error, SESSION_LOST)
    if isinstance(error, asyncpg.PostgresError) and not is_away:
        return error.sqlstate or "unknown"
    return SILENT


def sentence_of(error: Exception) -> str:
    """What happened, and what to do where the server refuses."""
    said = str(error) or "it was silent for too long"
    if code_of(error) == SILENT:
        return f"Postgres does not answer: {said}"
    remedy = next((text for kind, text in _REMEDIES.items() if isinstance(error, kind)), "See its log.")
    return f"Postgres refuses: {said.rstrip('.')}. {remedy}"


def failure_of(error: Exception, *, is_undone: bool = False) -> UnavailableError:
    """The same as one of the engine's errors, after it was counted. ``is_undone``: it has changed nothing."""
    code, sentence = code_of(error), sentence_of(error)
    server_failures.note("postgres", code, sentence)
    return (UnavailableError if code == SILENT else ServerRefusesError)(sentence, is_undone=is_undone)
