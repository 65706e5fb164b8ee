"""Every error the engine raises on purpose, under one root.

``code`` is stable and is what clients match on; the HTTP status for each class is decided in ``api.problems``.
"""

from dataclasses import dataclass


class HongbaoError(Exception):
    """The root: a sentence for people (``str(error)``) and a stable ``code`` for programs."""

    code = "internal"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One bad field: its name as the client spelt it, and what is wrong with it."""

    field: str
    message: str


class InvalidFieldsError(HongbaoError):
    """The request was understood, but these fields break a rule. Names every one of them."""

    code = "invalid_fields"

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


class InsufficientFundsError(HongbaoError):
    """The paying wallet holds too little; nothing was recorded. ``field``: the one that says how much was asked for."""

    code = "insufficient_funds"

    def __init__(self, message: str, field: str = "total_fen") -> None:
        super().__init__(message)
        self.field = field


class UnknownPacketError(HongbaoError):
    """No packet has this number."""

    code = "unknown_packet"


class UnknownTransactionError(UnknownPacketError):
    """Neither a packet nor a transfer has this number."""

    code = "unknown_transaction"


class NotSettledError(HongbaoError):
    """The packet has not ended, or the ledger has not emptied its custody yet: its seed is nobody's business."""

    code = "not_settled"


class NotInLedgerError(HongbaoError):
    """What was asked for is stated only once the ledger has it, and it has not, or not yet."""

    code = "not_in_ledger"


class NotInvitedError(HongbaoError):
    """The packet names its recipients and this user is not one of them."""

    code = "not_invited"


class NotArrivedError(HongbaoError):
    """A transfer whose time of arrival has not come: nobody can claim it."""

    code = "not_arrived"


class TransferEndedError(HongbaoError):
    """The transfer was cancelled, or not confirmed in time: its money is its sender's again."""

    code = "transfer_ended"


class NotCancellableError(HongbaoError):
    """It is too late to cancel the transfer, or it has ended."""

    code = "not_cancellable"


class NotSenderError(HongbaoError):
    """Only who sent it may do that."""

    code = "not_sender"


class NotRetractableError(HongbaoError):
    """The packet cannot be taken back any more: claimed, ended, or too late."""

    code = "not_retractable"


class ConsentRequiredError(HongbaoError):
    """Somebody has seen the packet and has not consented to its being taken back."""

    code = "consent_required"


class ConfirmationRequiredError(HongbaoError):
    """So much money is taken back only by somebody who says so twice."""

    code = "confirmation_required"


class NotViewedError(HongbaoError):
    """The user has not seen the packet, so there is nothing to consent to."""

    code = "not_viewed"


class TooManyChangesError(HongbaoError):
    """The choice was changed as often this month as it may be."""

    code = "too_many_changes"


class FrozenError(HongbaoError):
    """The account is frozen for what was asked; nothing was done."""

    code = "account_frozen"


class NoPaymentPasswordError(HongbaoError):
    """The user has no payment password, so nothing that needs one can be done."""

    code = "no_payment_password"


class WrongPaymentPasswordError(HongbaoError):
    """Not the user's payment password; it was counted. ``tries_left`` until it is locked."""

    code = "wrong_payment_password"

    def __init__(self, tries_left: int) -> None:
        super().__init__(f"The payment password is wrong; wrong tries left before it is locked: {tries_left}.")
        self.tries_left = tries_left


class PaymentPasswordLockedError(HongbaoError):
    """Too many wrong tries: until ``locked_until_ms``, in ``retry_after_s``, the right one is refused as well."""

    code = "payment_password_locked"

    def __init__(self, locked_until_ms: int, retry_after_s: int) -> None:
        super().__init__(f"Too many wrong tries: the payment password is locked for {retry_after_s} s.")
        self.locked_until_ms, self.retry_after_s = locked_until_ms, retry_after_s


class UnknownWithdrawalError(HongbaoError):
    """The user has no withdrawal of this number."""

    code = "unknown_withdrawal"


class UnknownDisputeError(HongbaoError):
    """No dispute has this number, or it is somebody else's."""

    code = "unknown_dispute"


class BelowManualHandlingError(HongbaoError):
    """So little is disputed that nobody handles it by hand."""

    code = "below_manual_handling"


class TooManyDisputesError(HongbaoError):
    """The complainant has filed as many disputes this year as a person may."""

    code = "too_many_disputes"


class DisputeOpenError(HongbaoError):
    """There is another dispute about the same, open or upheld."""

    code = "dispute_exists"


class DisputeDecidedError(HongbaoError):
    """The dispute was decided before, and otherwise."""

    code = "dispute_decided"


class AddressNotAllowedError(HongbaoError):
    """The account sends from certain networks only, and the request comes from elsewhere; nothing was done."""

    code = "address_not_allowed"


class LimitExceededError(HongbaoError):
    """More than a limit lets through; nothing was done. ``left_fen``: what it would let through now."""

    code = "limit_exceeded"

    def __init__(self, limit: str, limit_fen: int, left_fen: int) -> None:
        super().__init__(f"The limit {limit} is {limit_fen} fen; {left_fen} fen are left of it.")
        self.limit, self.limit_fen, self.left_fen = limit, limit_fen, left_fen


class IdempotencyKeyReusedError(HongbaoError):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_key_reused"


class IdempotencyInFlightError(HongbaoError):
    """A request with the same Idempotency-Key is being worked on at this moment."""

    code = "idempotency_in_flight"


class InvalidTokenError(HongbaoError):
    """The bearer token is missing, forged, expired or not of the form ``engine.tokens`` describes."""

    code = "unauthorized"


class UnavailableError(HongbaoError):
    """The engine cannot answer now and nothing was decided: ask again after ``retry_after_s`` seconds."""

    code = "unavailable"
    retry_after_s = 1


class OverloadedError(UnavailableError):
    """A queue is at its bound, so the claim was refused before it reached Redis."""

    code = "overloaded"


class BusyError(UnavailableError):
    """The lane's event backlog is at its bound: the ledger must catch up first."""

    code = "busy"


class RecoveringError(UnavailableError):
    """The lane gives nothing: Redis lost it, or was restarted and has not been compared with the ledger yet."""

    code = "recovering"
    retry_after_s = 5


class OpeningError(UnavailableError):
    """The packet is paid for but its shares are still being loaded."""

    code = "opening"


class UnconfirmedError(UnavailableError):
    """The claim was decided and stands, but it is not yet as safe as it was asked to be: ask again for the answer."""

    code = "unconfirmed"


class OperatorError(HongbaoError):
    """Something only the operator can mend (a server, a URL, a port, a schema). The CLI prints it and exits 1."""

    code = "operator"
