"""Errors as RFC 9457 problem details: one table from exception to status, used for everything that goes wrong.

A problem is ``{"type", "title", "status", "detail", "code"}``; ``code`` is stable and is what clients match on.
``errors`` names each bad field. A 500 tells nothing of its cause: that is in the log.
"""

from typing import NamedTuple

import structlog
from starlette.exceptions import HTTPException

from api.answers import PROBLEM, Answer, as_json
from engine import errors
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError

FIELDS_MAX = 1_000
"""Bad fields named in one answer: a body of many unknown ones must not become a far larger answer."""
_FIELDS_TOLD_MAX = 10

_log = structlog.get_logger(__name__)


class MalformedError(HongbaoError):
    """The body (or query) cannot be read at all."""

    code = "malformed"


class IdempotencyKeyRequiredError(HongbaoError):
    """A request that moves money came without an Idempotency-Key."""

    code = "idempotency_key_required"


class ForbiddenError(HongbaoError):
    """The token is genuine but does not allow this."""

    code = "forbidden"


class UnknownRouteError(HongbaoError):
    """Nothing lives at this path."""

    code = "not_found"


class WrongMethodError(HongbaoError):
    """The path exists, the method does not. ``allowed`` lists those that do."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed}.")
        self.allowed = allowed


class TooLargeError(HongbaoError):
    """The body is longer than this path takes."""

    code = "too_large"


class HeadTooLargeError(HongbaoError):
    """The request's line and headers are too long, or too many."""

    code = "head_too_large"


class SlowBodyError(HongbaoError):
    """The body did not arrive in time."""

    code = "slow_body"


class UnsupportedMediaTypeError(HongbaoError):
    """The body says it is not JSON."""

    code = "unsupported_media_type"


class RateLimitedError(HongbaoError):
    """The caller has spent its quota of ``policy``: ``quota`` in ``window_s``; ask again in ``retry_after_s``."""

    code = "rate_limited"

    def __init__(self, policy: str, quota: int, window_s: int, retry_after_s: int) -> None:
        super().__init__(f"The limit {policy} is {quota} in {window_s} s; this one was not looked at.")
        self.policy, self.quota, self.window_s, self.retry_after_s = policy, quota, window_s, retry_after_s


class NotReadyError(HongbaoError):
    """The process cannot serve now. ``reasons``: one sentence each."""

    code = "not_ready"

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = reasons


class Kind(NamedTuple):
    """How one class of errors is answered."""

    status: int
    title: str
    field: str | None = None
    """The field the error is always about, if there is one."""


KINDS: dict[type[HongbaoError], Kind] = {
    MalformedError: Kind(400, "The request cannot be read", "body"),
    IdempotencyKeyRequiredError: Kind(400, "An Idempotency-Key is required", "Idempotency-Key"),
    errors.InvalidTokenError: Kind(401, "A valid bearer token is required"),
    ForbiddenError: Kind(403, "The token does not allow this"),
    errors.NotInvitedError: Kind(403, "The packet is for others"),
    errors.NotArrivedError: Kind(409, "The transfer has not arrived"),
    errors.FrozenError: Kind(403, "The account is frozen"),
    errors.WrongPaymentPasswordError: Kind(403, "The payment password is wrong"),
    errors.NotSenderError: Kind(403, "Only its sender may do that"),
    errors.TransferEndedError: Kind(409, "The transfer has ended", "transfer_id"),
    errors.NotCancellableError: Kind(409, "The transfer cannot be cancelled any more", "transfer_id"),
    errors.NotRetractableError: Kind(409, "The packet cannot be taken back any more", "packet_id"),
    errors.ConsentRequiredError: Kind(409, "Who has seen the packet must consent", "packet_id"),
    errors.ConfirmationRequiredError: Kind(409, "A large packet is taken back by confirming it", "confirm"),
    errors.NotViewedError: Kind(409, "There is nothing to consent to", "packet_id"),
    errors.TooManyChangesError: Kind(409, "It was changed too often", "arrives_after_s"),
    errors.AddressNotAllowedError: Kind(403, "The account does not send from this address"),
    UnknownRouteError: Kind(404, "Nothing lives at this path"),
    errors.UnknownPacketError: Kind(404, "No such packet", "packet_id"),
    errors.UnknownTransactionError: Kind(404, "No such packet or transfer", "number"),
    errors.UnknownDisputeError: Kind(404, "No such dispute", "dispute_id"),
    errors.UnknownWithdrawalError: Kind(404, "No such withdrawal", "withdrawal_id"),
    WrongMethodError: Kind(405, "The path does not take this method"),
    SlowBodyError: Kind(408, "The body came too slowly", "body"),
    errors.InsufficientFundsError: Kind(409, "The wallet holds too little"),
    errors.NoPaymentPasswordError: Kind(409, "No payment password is set"),
    errors.LimitExceededError: Kind(409, "More than a limit lets through"),
    errors.NotSettledError: Kind(409, "The packet is not settled yet", "packet_id"),
    errors.BelowManualHandlingError: Kind(409, "Too little to be handled by hand"),
    errors.TooManyDisputesError: Kind(409, "Too many disputes this year"),
    errors.DisputeOpenError: Kind(409, "There is a dispute about the same"),
    errors.DisputeDecidedError: Kind(409, "The dispute was decided otherwise"),
    errors.NotInLedgerError: Kind(409, "The ledger does not have it"),
    errors.IdempotencyInFlightError: Kind(409, "The first request with this key is still at work", "Idempotency-Key"),
    TooLargeError: Kind(413, "The body is too large", "body"),
    UnsupportedMediaTypeError: Kind(415, "The body must be JSON", "Content-Type"),
    InvalidFieldsError: Kind(422, "Some fields are not valid"),
    errors.PaymentPasswordLockedError: Kind(423, "The payment password is locked"),
    errors.IdempotencyKeyReusedError: Kind(422, "The key was used with another body", "Idempotency-Key"),
    HeadTooLargeError: Kind(431, "The request's line and headers are too large"),
    RateLimitedError: Kind(429, "Too many requests"),
    NotReadyError: Kind(503, "Not ready"),
    errors.UnavailableError: Kind(503, "Not available now"),
    errors.OverloadedError: Kind(503, "Too much at once"),
    errors.BusyError: Kind(503, "The ledger must catch up first"),
    errors.RecoveringError: Kind(503, "The lane is being recovered"),
    errors.OpeningError: Kind(503, "The packet is still being opened"),
    errors.UnconfirmedError: Kind(503, "The claim is not confirmed yet"),
}
INTERNAL = Kind(500, "Something went wrong on our side")
_SAME_FOR_ALL: dict[type[Exception], str] = {
    # A packet for others looks like one that does not exist.
    errors.UnknownPacketError: "No packet that you may see has this number.",
    errors.UnknownTransactionError: "No packet or transfer that you may see has this number.",
    # The cause is a server's own message, which is no client's business (/readyz tells it).
    errors.UnavailableError: "A server this depends on does not answer; nothing was decided.",
    # Told by whichever bound is met first.
    errors.OverloadedError: "This process has as much to do as it can answer in time; nothing was decided.",
}
"""Details that do not depend on the case."""


def kind_of(error: type[Exception]) -> Kind:
    """How an error is answered: by its class or the nearest it derives from."""
    return next((KINDS[parent] for parent in error.__mro__ if parent in KINDS), INTERNAL)


def detail_of(error: Exception) -> str:
    """The sentence a client may read."""
    if isinstance(error, InvalidFieldsError) and len(error.problems) > _FIELDS_TOLD_MAX:
        return f"{len(error.problems)} fields are not valid."
    return _SAME_FOR_ALL.get(type(error), str(error) or kind_of(type(error)).title)


def answer_to(error: Exception) -> Answer:
    """The response to any exception. What is not in the table is logged and told as ``internal``."""
    if isinstance(error, HTTPException):  # the router's only one: every path answers for all its methods
        error = UnknownRouteError("Nothing lives at this path.")
    kind = kind_of(type(error))
    if kind is INTERNAL or not isinstance(error, HongbaoError):
        _log.error("request failed", exc_info=error)
        return _problem(INTERNAL, HongbaoError.code, "The request could not be answered; nothing more is known.")
    problem = _problem(kind, error.code, detail_of(error), _fields(error, kind), _extra(error))
    return problem._replace(headers=(*problem.headers, *_headers(error)))


def _problem(
    kind: Kind, code: str, detail: str, fields: list[FieldProblem] | None = None, extra: dict[str, object] | None = None
) -> Answer:
    body: dict[str, object] = {
        "type": f"urn:hongbao:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
    if fields:
        body["errors"] = fields[:FIELDS_MAX]
    return as_json(body | (extra or {}), kind.status)._replace(headers=PROBLEM)


def _fields(error: HongbaoError, kind: Kind) -> list[FieldProblem]:
    if isinstance(error, InvalidFieldsError):
        return error.problems
    field = error.field if isinstance(error, errors.InsufficientFundsError) else kind.field
    return [FieldProblem(field, detail_of(error))] if field else []


def _extra(error: HongbaoError) -> dict[str, object]:
    match error:
        case NotReadyError():
            return {"reasons": error.reasons}
        case errors.LimitExceededError():
            return {"limit": error.limit, "limit_fen": error.limit_fen, "left_fen": error.left_fen}
        case errors.WrongPaymentPasswordError():
            return {"tries_left": error.tries_left}
        case errors.PaymentPasswordLockedError():
            return {"locked_until_ms": error.locked_until_ms}
    return {}


def _headers(error: HongbaoError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, errors.InvalidTokenError):
        return [(b"www-authenticate", b'Bearer realm="hongbao"')]
    if isinstance(error, ForbiddenError):
        return [(b"www-authenticate", b'Bearer realm="hongbao", error="insufficient_scope"')]
    if isinstance(error, WrongMethodError):
        return [(b"allow", error.allowed.encode())]
    if isinstance(error, RateLimitedError):
        # draft-ietf-httpapi-ratelimit-headers
        return [
            (b"retry-after", b"%d" % error.retry_after_s),
            (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (error.policy.encode(), error.quota, error.window_s)),
            (b"ratelimit", b'"%b";r=0;t=%d' % (error.policy.encode(), error.retry_after_s)),
        ]
    if isinstance(error, errors.UnavailableError | errors.PaymentPasswordLockedError | NotReadyError):
        return [(b"retry-after", str(getattr(error, "retry_after_s", 1)).encode())]
    return []
