"""The errors that each operation can answer with: those that its row in the route table implies, and those it adds.

The OpenAPI document and docs/api.md list them. Tests check that every answered problem is in this list.
"""

from collections.abc import Iterable

from api.dispatch import Operation
from api.limits import PROBES
from api.paths import PATH_NAMES, names_in
from api.problems import (
    KINDS,
    ForbiddenError,
    HeadTooLargeError,
    IdempotencyKeyRequiredError,
    MalformedError,
    RateLimitedError,
    SlowBodyError,
    TooLargeError,
    UnknownRouteError,
    UnsupportedMediaTypeError,
    WrongMethodError,
    kind_of,
)
from engine import errors
from engine.errors import HongbaoError, InvalidFieldsError

Errors = tuple[type[HongbaoError], ...]

SENDING: Errors = (
    errors.FrozenError,
    errors.LimitReachedError,
    errors.AddressNotAllowedError,
    errors.InsufficientFundsError,
    errors.LimitExceededError,
    errors.UnavailableError,
)
"""The errors of an operation that pays for a packet or a transfer."""
CLAIMING: Errors = (
    errors.FrozenError,
    errors.LimitReachedError,
    errors.BusyError,
    errors.RecoveringError,
    errors.OpeningError,
    errors.UnconfirmedError,
    errors.UnavailableError,
)
"""The errors of an operation that the claim script decides."""
WITH_PASSWORD: Errors = (
    errors.NoPaymentPasswordError,
    errors.WrongPaymentPasswordError,
    errors.PaymentPasswordLockedError,
)
"""The errors of an operation that checks a payment password."""

ANY_REQUEST: Errors = (HongbaoError, MalformedError, HeadTooLargeError, errors.OverloadedError)
"""Errors of every operation: too many connections, an unreadable request, a bug of ours."""
NO_OPERATION: Errors = (UnknownRouteError, WrongMethodError)
"""The errors of requests without an operation."""
WITH_TOKEN: Errors = (errors.InvalidTokenError, ForbiddenError, InvalidFieldsError)
WITH_BODY: Errors = (SlowBodyError, TooLargeError, UnsupportedMediaTypeError)
WITH_KEY: Errors = (
    IdempotencyKeyRequiredError,
    errors.IdempotencyInFlightError,
    errors.IdempotencyKeyReusedError,
)

ALL: Errors = (HongbaoError, *KINDS)
"""All errors that a client may ever get."""


def failures_of(row: Operation) -> Errors:
    """Every error that ``row`` can answer with. Those of all operations come first."""
    found = list(ANY_REQUEST)
    if row.path.encode() not in PROBES:
        found.append(RateLimitedError)
    if row.access is not None:
        found += WITH_TOKEN
    if row.body is not None:
        found += WITH_BODY
    if row.moves_money:
        found += WITH_KEY
    found += _of_path(row.path)
    if errors.UnavailableError in row.problems:
        found.append(errors.ServerRefusesError)
        if row.method != "GET":
            found.append(errors.UndecidedError)
    return tuple(dict.fromkeys((*found, *row.problems)))


def codes_by_status(found: Iterable[type[HongbaoError]]) -> dict[int, list[str]]:
    """The sorted codes of some errors per status, the lowest status first."""
    codes: dict[int, list[str]] = {}
    for error in sorted(set(found), key=lambda error: (kind_of(error).status, error.code)):
        codes.setdefault(kind_of(error).status, []).append(error.code)
    return codes


def _of_path(path: str) -> Errors:
    kinds = [PATH_NAMES[name] for name in names_in(path)]
    return tuple(kind.unknown for kind in kinds if kind.unknown is not None)
