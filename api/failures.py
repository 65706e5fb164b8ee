"""Which errors each operation can answer with: what its row of the route table implies, and what the row adds.

The OpenAPI document and docs/api.md list them. The tests hold every problem that is answered to this list.
"""

from collections.abc import Iterable

from api.dispatch import ROW_NUMBERS, Operation
from api.limits import PROBES
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
"""Of an operation that pays for a packet or a transfer."""
CLAIMING: Errors = (
    errors.FrozenError,
    errors.LimitReachedError,
    errors.BusyError,
    errors.RecoveringError,
    errors.OpeningError,
    errors.UnconfirmedError,
    errors.UnavailableError,
)
"""Of an operation that the claim script decides."""
WITH_PASSWORD: Errors = (
    errors.NoPaymentPasswordError,
    errors.WrongPaymentPasswordError,
    errors.PaymentPasswordLockedError,
)
"""Of an operation that checks a payment password."""

ANY_REQUEST: Errors = (HongbaoError, MalformedError, HeadTooLargeError, errors.OverloadedError)
"""Of every operation: there may be too many connections, the request may be unreadable, and we may have a bug."""
NO_OPERATION: Errors = (UnknownRouteError, WrongMethodError)
"""Of requests for which there is no operation."""
WITH_TOKEN: Errors = (errors.InvalidTokenError, ForbiddenError, InvalidFieldsError)
WITH_BODY: Errors = (SlowBodyError, TooLargeError, UnsupportedMediaTypeError)
WITH_KEY: Errors = (
    IdempotencyKeyRequiredError,
    errors.IdempotencyInFlightError,
    errors.IdempotencyKeyReusedError,
)

ALL: Errors = (HongbaoError, *KINDS)
"""All that a client may ever be answered."""


def failures_of(row: Operation) -> Errors:
    """Every error that ``row`` can answer with, those that all operations share first."""
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
    """The codes of some errors, sorted, by their status, the lowest first."""
    codes: dict[int, list[str]] = {}
    for error in sorted(set(found), key=lambda error: (kind_of(error).status, error.code)):
        codes.setdefault(kind_of(error).status, []).append(error.code)
    return codes


def _of_path(path: str) -> Errors:
    if "{number}" in path:
        return (errors.UnknownTransactionError,)
    if "{packet_id}" in path or "{transfer_id}" in path:
        return (errors.UnknownPacketError,)
    # What cannot be a number of ours is no path of ours.
    return (UnknownRouteError,) if any(f"{{{name}}}" in path for name in ROW_NUMBERS) else ()
