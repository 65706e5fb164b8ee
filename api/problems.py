"""Errors as RFC 9457 problem details. One table maps every exception to a status.

A problem is ``{"type", "title", "status", "detail", "code"}``. ``code`` is stable, and clients match on it.
``errors`` names each bad field. A 500 does not reveal its cause: the log has it.
"""

from typing import NamedTuple

import structlog
from starlette.exceptions import HTTPException

from api.answers import PROBLEM, Answer, as_json
from engine import errors
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError

FIELDS_MAX = 1_000
"""How many bad fields an answer names. A body with many unknown fields must not cause a far larger answer."""
_FIELDS_TOLD_MAX = 10

_log = structlog.get_logger(__name__)


class MalformedError(HongbaoError):
    """``field`` cannot be read at all: the body, the query, the target, a header, or the request as a whole."""

    code = "malformed"

    def __init__(self, sentence: str, *, field: str = "body") -> None:
        super().__init__(sentence)
        self.field = field


class IdempotencyKeyRequiredError(HongbaoError):
    """A request that moves money came without an Idempotency-Key."""

    code = "idempotency_key_required"


class ForbiddenError(HongbaoError):
    """The token is valid but does not allow this."""

    code = "forbidden"


class UnknownRouteError(HongbaoError):
    """No resource has this path."""

    code = "not_found"


class WrongMethodError(HongbaoError):
    """The path does not allow this method. ``allowed`` lists the methods that it allows."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path allows {allowed}.")
        self.allowed = allowed


class TooLargeError(HongbaoError):
    """The body is longer than this path allows."""

    code = "too_large"


class HeadTooLargeError(HongbaoError):
    """The request's line and headers are too long, or there are too many headers."""

    code = "head_too_large"


class SlowBodyError(HongbaoError):
    """The body did not arrive in time."""

    code = "slow_body"


class UnsupportedMediaTypeError(HongbaoError):
    """The Content-Type is not JSON."""

    code = "unsupported_media_type"


class RateLimitedError(HongbaoError):
    """The caller has used up ``policy`` (``quota`` per ``window_s``). Try again in ``retry_after_s``."""

    code = "rate_limited"

    def __init__(self, policy: str, quota: int, window_s: int, retry_after_s: int) -> None:
        super().__init__(f"The limit {policy} is {quota} per {window_s} s: wait {retry_after_s} s. Nothing was done.")
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
    """The field that the error is always about, if there is one."""


KINDS: dict[type[HongbaoError], Kind] = {
    MalformedError: Kind(400, "The request is malformed", "body"),
    IdempotencyKeyRequiredError: Kind(400, "Idempotency-Key required", "Idempotency-Key"),
    errors.InvalidTokenError: Kind(401, "A valid bearer token is required"),
    ForbiddenError: Kind(403, "The token does not allow this"),
    errors.NotInvitedError: Kind(403, "The packet is for other users"),
    errors.NotArrivedError: Kind(409, "The transfer has not arrived yet"),
    errors.FrozenError: Kind(403, "The account is frozen"),
    errors.LimitReachedError: Kind(409, "Limit reached"),
    errors.WrongPaymentPasswordError: Kind(403, "The payment password is wrong"),
    errors.NotSenderError: Kind(403, "Only the sender can do this"),
    errors.TransferEndedError: Kind(409, "The transfer has ended", "transfer_id"),
    errors.NotCancellableError: Kind(409, "The transfer can no longer be cancelled", "transfer_id"),
    errors.NotRetractableError: Kind(409, "The packet can no longer be retracted", "packet_id"),
    errors.ConsentRequiredError: Kind(409, "The viewers' consent is required", "packet_id"),
    errors.ConfirmationRequiredError: Kind(409, "Confirmation required", "confirm"),
    errors.NotViewedError: Kind(409, "Consent not needed", "packet_id"),
    errors.TooManyChangesError: Kind(409, "Changed too often this month", "arrives_after_s"),
    errors.AddressNotAllowedError: Kind(403, "The account may not send from this address"),
    UnknownRouteError: Kind(404, "Not found"),
    errors.UnknownPacketError: Kind(404, "No such packet or transfer", "packet_id"),
    errors.UnknownTransactionError: Kind(404, "No such packet or transfer", "number"),
    errors.UnknownDisputeError: Kind(404, "No such dispute", "dispute_id"),
    errors.UnknownWithdrawalError: Kind(404, "No such withdrawal", "withdrawal_id"),
    errors.UnknownClaimError: Kind(404, "No such share", "user_id"),
    errors.UnknownCampaignError: Kind(404, "No such campaign", "campaign_id"),
    errors.CampaignEndedError: Kind(409, "The campaign has ended", "campaign_id"),
    errors.UnknownFundraiserError: Kind(404, "No such fundraiser", "fundraiser_id"),
    errors.FundraiserEndedError: Kind(409, "The fundraiser has ended", "fundraiser_id"),
    errors.TooManyFundraisersError: Kind(409, "Too many open fundraisers"),
    errors.UnknownGiftError: Kind(404, "No such gift", "gift_id"),
    errors.ShareGivenError: Kind(409, "The share was given before", "packet_id"),
    errors.TooManyMatchesError: Kind(409, "Too many matches", "fundraiser_id"),
    errors.NotMerchantError: Kind(403, "Only a merchant can do this"),
    errors.UnknownCouponBatchError: Kind(404, "No such batch of coupons", "batch_id"),
    errors.UnknownCouponError: Kind(404, "No such coupon", "coupon_id"),
    errors.CouponEndedError: Kind(409, "The coupon has ended", "coupon_id"),
    errors.CouponNotValidYetError: Kind(409, "The coupon's time has not begun", "coupon_id"),
    errors.NotTransferableError: Kind(409, "The coupon cannot be passed on", "coupon_id"),
    errors.CodePartDiffersError: Kind(409, "The part was uploaded with other codes", "part"),
    errors.NoCouponKeyError: Kind(409, "The key of coupons' codes is missing"),
    errors.UnknownCardSetError: Kind(404, "No such set of cards", "set_id"),
    errors.CardSetEndedError: Kind(409, "The set of cards has ended", "set_id"),
    errors.NotDrawnError: Kind(409, "The pool has not been drawn yet", "set_id"),
    errors.CardLackingError: Kind(409, "A card is lacking"),
    errors.AlreadyCompletedError: Kind(409, "The set was completed before", "set_id"),
    errors.TooManyGrantsError: Kind(409, "No more grants for this user", "user_id"),
    errors.ReserveEmptyError: Kind(409, "No cards are left to grant", "set_id"),
    errors.NoPrizeError: Kind(409, "No share of the pool", "set_id"),
    errors.UnknownCardOfferError: Kind(404, "No such offer", "offer_id"),
    errors.CardOfferEndedError: Kind(409, "The offer has ended", "offer_id"),
    errors.TooManyCardOffersError: Kind(409, "Too many open offers"),
    errors.UnknownWechatpayMerchantError: Kind(404, "No such merchant", "mch_id"),
    errors.NoWechatpayKeyError: Kind(409, "The key of merchants' API keys is missing"),
    errors.UnknownAssetError: Kind(404, "No such asset", "asset"),
    errors.AssetExistsError: Kind(409, "There is another asset with this code", "asset"),
    WrongMethodError: Kind(405, "Method not allowed"),
    SlowBodyError: Kind(408, "The body arrived too slowly", "body"),
    errors.InsufficientFundsError: Kind(409, "Insufficient funds"),
    errors.NoPaymentPasswordError: Kind(409, "No payment password is set"),
    errors.LimitExceededError: Kind(409, "Limit exceeded"),
    errors.NotSettledError: Kind(409, "The packet has not settled yet", "packet_id"),
    errors.BelowManualHandlingError: Kind(409, "Amount too small to dispute"),
    errors.TooManyDisputesError: Kind(409, "Too many disputes this year"),
    errors.DisputeOpenError: Kind(409, "A dispute about this exists already"),
    errors.DisputeDecidedError: Kind(409, "The dispute was decided with the other outcome"),
    errors.NotInLedgerError: Kind(409, "Not in the ledger yet"),
    errors.DayNotClosedError: Kind(409, "The day is not closed yet", "to"),
    errors.IdempotencyInFlightError: Kind(409, "A request with this key is in progress", "Idempotency-Key"),
    TooLargeError: Kind(413, "The body is too large", "body"),
    UnsupportedMediaTypeError: Kind(415, "The body must be JSON", "Content-Type"),
    InvalidFieldsError: Kind(422, "Some fields are invalid"),
    errors.PaymentPasswordLockedError: Kind(423, "The payment password is locked"),
    errors.IdempotencyKeyReusedError: Kind(422, "The key was used for another request", "Idempotency-Key"),
    HeadTooLargeError: Kind(431, "The request line and headers are too large"),
    RateLimitedError: Kind(429, "Too many requests"),
    NotReadyError: Kind(503, "Not ready"),
    errors.UnavailableError: Kind(503, "Temporarily unavailable"),
    errors.ServerRefusesError: Kind(503, "A server refuses"),
    errors.UndecidedError: Kind(503, "It may have been decided"),
    errors.OverloadedError: Kind(503, "Overloaded"),
    errors.BusyError: Kind(503, "The ledger is catching up"),
    errors.RecoveringError: Kind(503, "The packet is being recovered"),
    errors.OpeningError: Kind(503, "The packet is still being opened"),
    errors.UnconfirmedError: Kind(503, "Not confirmed yet"),
}
INTERNAL = Kind(500, "Internal error")
_SAME_FOR_ALL: dict[type[Exception], str] = {
    # A packet for others looks like one that does not exist.
    errors.UnknownPacketError: "No packet or transfer that you can see has this number.",
    errors.UnknownTransactionError: "No packet or transfer that you can see has this number.",
    # The cause is a server's own message, which clients must not see (/readyz has it).
    errors.UnavailableError: "A server that this depends on does not answer. This try decided nothing: repeat it.",
    errors.ServerRefusesError: "A server that this depends on refuses. This try decided nothing; an operator must act.",
    errors.UndecidedError: "It may have been decided: a server has not answered in time. Repeat the request for its "
    "result, with the same Idempotency-Key if it has one.",
    # The same sentence for every bound.
    errors.OverloadedError: "This process is overloaded. Nothing was decided: try again.",
}
"""Details that do not depend on the case."""
_MEMBERS: dict[type[HongbaoError], tuple[str, ...]] = {
    NotReadyError: ("reasons",),
    errors.LimitExceededError: ("limit", "limit_fen", "left_fen", "until_ms"),
    errors.LimitReachedError: ("limit", "until_ms"),
    errors.CouponEndedError: ("state",),
    errors.TooManyChangesError: ("until_ms",),
    errors.TooManyDisputesError: ("until_ms",),
    errors.WrongPaymentPasswordError: ("tries_left",),
    errors.PaymentPasswordLockedError: ("locked_until_ms",),
}
"""What a problem has beside the members that all have: attributes of its error."""


def kind_of(error: type[Exception]) -> Kind:
    """The kind of an error's class, or of its nearest base class in the table."""
    return next((KINDS[parent] for parent in error.__mro__ if parent in KINDS), INTERNAL)


def detail_of(error: Exception) -> str:
    """The sentence for the client."""
    if isinstance(error, InvalidFieldsError) and len(error.problems) > _FIELDS_TOLD_MAX:
        return f"{len(error.problems)} fields are invalid."
    return _SAME_FOR_ALL.get(type(error), str(error) or kind_of(type(error)).title)


def answer_to(error: Exception, *, changes: bool = False) -> Answer:
    """The response to any exception. An exception that is not in the table is logged and answered as ``internal``.

    ``changes``: the request asks for a change. Then the answer says that nothing was decided only if this is certain.
    """
    if isinstance(error, HTTPException):  # the router raises it only for an unknown path
        error = UnknownRouteError("No resource has this path.")
    if changes and _is_in_doubt(error):
        error = errors.UndecidedError(str(error))
    kind = kind_of(type(error))
    if kind is INTERNAL or not isinstance(error, HongbaoError):
        _log.error("request failed", exc_info=error)
        return _problem(
            INTERNAL,
            HongbaoError.code,
            "The server failed to answer this request. It is unknown whether it was carried out.",
        )
    problem = _problem(kind, error.code, detail_of(error), _fields(error, kind), _extra(error))
    return problem._replace(headers=(*problem.headers, *_headers(error)))


def _is_in_doubt(error: Exception) -> bool:
    """Whether a failure may have come after a change in the same request, because it does not rule this out."""
    is_plain = type(error) in (errors.UnavailableError, errors.ServerRefusesError)  # the others say if it was decided
    return is_plain and isinstance(error, errors.UnavailableError) and not error.is_undone


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
    with_field = errors.InsufficientFundsError | errors.LimitExceededError | MalformedError
    field = error.field if isinstance(error, with_field) else kind.field
    return [FieldProblem(field, detail_of(error))] if field else []


def _extra(error: HongbaoError) -> dict[str, object]:
    found = {name: getattr(error, name) for name in _MEMBERS.get(type(error), ())}
    return {name: value for name, value in found.items() if value is not None}


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
    wait_s = retry_after_s(error)
    return [] if wait_s is None else [(b"retry-after", b"%d" % wait_s)]


def retry_after_s(error: HongbaoError) -> int | None:
    """The wait before a repeat, as in Retry-After. None if a repeat is useless."""
    match error:
        case (
            RateLimitedError()
            | errors.UnavailableError()
            | errors.PaymentPasswordLockedError()
            | errors.DayNotClosedError()
        ):
            return error.retry_after_s
        case NotReadyError():
            return 1
    return None
