"""Errors, grouped by what a caller does about them. ``CLASSES`` says which code is in which group.

HongbaoError
    AnsweredError          the server has answered, with a problem
        WrongRequestError      the program is wrong: correct it
        TokenError             get another token
        NotAllowedError        this user, account or token may not do this
        NotFoundError          nothing that the user may see has this number
        RefusedError           it is too late, or it was done before: read the state, tell the user
        NotYetError            it is allowed later, or after something else
        UserMustActError       the user can change it: money, a password, a confirmation, a consent
        UnavailableError       the server cannot do it now, however often it was asked: ask again later
        UndecidedError         it may have been done: repeat it with the same key
    NoAnswerError          no answer came: as UndecidedError if ``may_have_happened``
    UnreadableAnswerError  the answer is not one of Hongbao's
"""

from hongbao_client.models import FieldProblemAnswer, Problem


class HongbaoError(Exception):
    """The base of all errors.

    ``may_have_happened``: what was asked for may have been done by one of the tries. ``idempotency_key``: the key of
    all tries; another call with it and the same values finishes what this one began, and does nothing twice.
    ``tries``: how many requests were sent.
    """

    may_have_happened: bool = False
    idempotency_key: str | None = None
    tries: int = 0


class NoAnswerError(HongbaoError):
    """No answer came in time, or the connection broke. ``__cause__`` is the last try's error."""


class UnreadableAnswerError(HongbaoError):
    """An answer that is not as documented: from something between, or from another release."""


class AnsweredError(HongbaoError):
    """The server has answered with a problem.

    ``code`` is stable; ``detail`` is a sentence for people. ``retry_after_s``: what the server asks to wait, if
    anything. ``problem`` has the other members, as ``tries_left``. ``fields``: each bad field with its rule.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}")
        self.problem, self.retry_after_s = problem, retry_after_s
        self.code, self.detail, self.status = problem.code, problem.detail, problem.status

    @property
    def fields(self) -> list[FieldProblemAnswer]:
        """The bad fields, as they were sent."""
        return self.problem.errors or []


class WrongRequestError(AnsweredError):
    """The request is wrong, whoever sends it. Correct the program, or the values that a user gave."""


class TokenError(AnsweredError):
    """The token is missing, expired or wrong, and so was the next one of the provider."""


class NotAllowedError(AnsweredError):
    """Not for this token, user or account. A repeat is refused, too."""


class NotFoundError(AnsweredError):
    """Nothing has this number, or the user may not see it."""


class RefusedError(AnsweredError):
    """The state of things does not allow it (any more). Read it, and tell the user."""


class NotYetError(AnsweredError):
    """Not now: from ``problem.until_ms`` on, after ``retry_after_s``, or after what ``detail`` names."""


class UserMustActError(AnsweredError):
    """The user can change it: deposit money, enter a password, confirm, consent. Then call again."""


class UnavailableError(AnsweredError):
    """The server could not do it in any of the tries. Call again later."""


class UndecidedError(AnsweredError):
    """It may have been done. Call again with the same ``idempotency_key``; a claim needs none."""


CLASSES: dict[type[AnsweredError], tuple[str, ...]] = {
    WrongRequestError: (
        *("malformed", "idempotency_key_required", "method_not_allowed", "not_found", "too_large", "head_too_large"),
        *("unsupported_media_type", "invalid_fields", "idempotency_key_reused", "code_part_differs", "asset_exists"),
    ),
    TokenError: ("unauthorized",),
    NotAllowedError: (
        *("forbidden", "account_frozen", "address_not_allowed", "not_invited", "not_merchant", "not_sender"),
    ),
    NotFoundError: (
        *(
            "unknown_asset",
            "unknown_campaign",
            "unknown_card_offer",
            "unknown_card_set",
            "unknown_claim",
            "unknown_coupon",
        ),
        *("unknown_coupon_batch", "unknown_dispute", "unknown_fundraiser", "unknown_gift", "unknown_packet"),
        *("unknown_transaction", "unknown_wechatpay_merchant", "unknown_withdrawal"),
    ),
    RefusedError: (
        *("already_completed", "below_manual_handling", "campaign_ended", "card_offer_ended", "card_set_ended"),
        *("coupon_ended", "dispute_decided", "dispute_exists", "fundraiser_ended", "no_prize", "not_cancellable"),
        *("not_retractable", "not_transferable", "not_viewed", "reserve_empty", "share_given", "too_many_grants"),
        *("too_many_matches", "transfer_ended"),
    ),
    NotYetError: (
        *("coupon_not_valid_yet", "day_not_closed", "limit_reached", "not_arrived", "not_drawn", "not_in_ledger"),
        *("not_settled", "payment_password_locked", "too_many_card_offers", "too_many_changes", "too_many_disputes"),
        "too_many_fundraisers",
    ),
    UserMustActError: (
        *("card_lacking", "confirmation_required", "consent_required", "insufficient_funds", "limit_exceeded"),
        *("no_payment_password", "wrong_payment_password"),
    ),
    UnavailableError: (
        *("busy", "no_coupon_key", "no_wechatpay_key", "not_ready", "opening", "overloaded", "rate_limited"),
        *("recovering", "server_refuses", "slow_body", "unavailable"),
    ),
    UndecidedError: ("idempotency_in_flight", "internal", "unconfirmed", "undecided"),
}
"""The codes of each group. A test holds them to the OpenAPI document."""
REPEATED = frozenset(
    ("busy", "opening", "overloaded", "rate_limited", "recovering", "server_refuses", "slow_body", "unavailable")
)
"""The try has decided nothing, and another may succeed: anything is repeated."""
REPEATED_IF_SAFE = frozenset(("idempotency_in_flight", "unconfirmed", "undecided"))
"""It may have been decided: only what does nothing twice is repeated."""
_BY_STATUS: dict[int, type[AnsweredError]] = {
    401: TokenError,
    403: NotAllowedError,
    404: NotFoundError,
    408: UnavailableError,
    409: RefusedError,
    423: NotYetError,
    429: UnavailableError,
}
_CLASS_OF = {code: group for group, codes in CLASSES.items() for code in codes}


def error_of(problem: Problem, retry_after_s: float | None) -> AnsweredError:
    """A problem's error. A code that is not known here, of a newer server, goes by its status."""
    return _CLASS_OF.get(problem.code, _by_status(problem.status))(problem, retry_after_s)


def _by_status(status: int) -> type[AnsweredError]:
    return _BY_STATUS.get(status, WrongRequestError if 400 <= status < 500 else UndecidedError)
