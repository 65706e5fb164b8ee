"""Every error that the engine raises on purpose, under one root.

``code`` is stable, and clients match on it. ``api.problems`` decides the HTTP status of each class.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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
    """The request was understood, but these fields break a rule. It names all of them."""

    code = "invalid_fields"

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = problems


class InsufficientFundsError(HongbaoError):
    """The paying wallet holds too little. Nothing was recorded. ``field``: the field with the amount."""

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


class UnknownClaimError(HongbaoError):
    """The user has no share of this packet, or it is none of the caller's business."""

    code = "unknown_claim"


class UnknownCampaignError(HongbaoError):
    """No campaign has this number."""

    code = "unknown_campaign"


class CampaignEndedError(HongbaoError):
    """The campaign's owner has ended it, and it cannot go on."""

    code = "campaign_ended"


class UnknownFundraiserError(HongbaoError):
    """No fundraiser has this number."""

    code = "unknown_fundraiser"


class FundraiserEndedError(HongbaoError):
    """The fundraiser's time is over, or its owner has ended it: it takes nothing any more."""

    code = "fundraiser_ended"


class TooManyFundraisersError(HongbaoError):
    """The user has as many open fundraisers as is allowed."""

    code = "too_many_fundraisers"


class UnknownGiftError(HongbaoError):
    """The fundraiser has no gift with this number, or it is somebody else's."""

    code = "unknown_gift"


class ShareGivenError(HongbaoError):
    """The user has given this share of a packet to a fundraiser before."""

    code = "share_given"


class TooManyMatchesError(HongbaoError):
    """The fundraiser has as many matches as is allowed."""

    code = "too_many_matches"


class UnknownAssetError(HongbaoError):
    """No asset has this code."""

    code = "unknown_asset"


class AssetExistsError(HongbaoError):
    """There is an asset with this code, and its scale or its name is another. They never change."""

    code = "asset_exists"


class UnknownCouponBatchError(HongbaoError):
    """No batch of coupons has this number, or it is somebody else's."""

    code = "unknown_coupon_batch"


class UnknownCouponError(HongbaoError):
    """Nobody was given a coupon with this number or code, or it is somebody else's."""

    code = "unknown_coupon"


class CouponEndedError(HongbaoError):
    """The coupon was redeemed or declared void, or its time is over. ``state``: which of these."""

    code = "coupon_ended"

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


class CouponNotValidYetError(HongbaoError):
    """The coupon's time has not begun."""

    code = "coupon_not_valid_yet"


class NotTransferableError(HongbaoError):
    """The coupon's batch does not let its holder pass it on."""

    code = "not_transferable"


class NotMerchantError(HongbaoError):
    """Only a merchant's account can do this."""

    code = "not_merchant"


class NoCouponKeyError(HongbaoError):
    """The key of coupons' codes is missing. Only the operator can change that."""

    code = "no_coupon_key"


class CodePartDiffersError(HongbaoError):
    """A part with this number was uploaded before, with other codes."""

    code = "code_part_differs"


class UnknownCardSetError(HongbaoError):
    """No set of cards has this number."""

    code = "unknown_card_set"


class CardSetEndedError(HongbaoError):
    """The set's time is over: its cards move no longer, and nobody can complete it."""

    code = "card_set_ended"


class NotDrawnError(HongbaoError):
    """The set's pool has not been drawn yet."""

    code = "not_drawn"


class CardLackingError(HongbaoError):
    """The user does not have a card that this needs. Nothing was done."""

    code = "card_lacking"


class AlreadyCompletedError(HongbaoError):
    """The user has completed the set before, and has a part in its pool."""

    code = "already_completed"


class TooManyGrantsError(HongbaoError):
    """The user has got as many grants of the set as one user gets."""

    code = "too_many_grants"


class ReserveEmptyError(HongbaoError):
    """Every card that was set aside for grants has been granted."""

    code = "reserve_empty"


class NoPrizeError(HongbaoError):
    """The user has no share of the set's pool, or did not ask for it in time."""

    code = "no_prize"


class UnknownCardOfferError(HongbaoError):
    """No offer has this number, or it is between other users."""

    code = "unknown_card_offer"


class CardOfferEndedError(HongbaoError):
    """The offer was accepted, declined or withdrawn, or its time is over."""

    code = "card_offer_ended"


class TooManyCardOffersError(HongbaoError):
    """The user has as many open offers as one user may have."""

    code = "too_many_card_offers"


class NotSettledError(HongbaoError):
    """The packet has not ended, or the ledger has not emptied its custody yet: its seed must stay secret."""

    code = "not_settled"


class NotInLedgerError(HongbaoError):
    """The ledger does not have this (yet), and only ledger entries can be stated."""

    code = "not_in_ledger"


class DayNotClosedError(HongbaoError):
    """The ledger does not have everything of a day yet. Try again after ``retry_after_s``."""

    code = "day_not_closed"

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.retry_after_s = retry_after_s


class NotInvitedError(HongbaoError):
    """The packet names its recipients and this user is not one of them."""

    code = "not_invited"


class NotArrivedError(HongbaoError):
    """The transfer has not arrived yet: nobody can claim it."""

    code = "not_arrived"


class TransferEndedError(HongbaoError):
    """The transfer was cancelled, or not confirmed in time: its money was refunded to its sender."""

    code = "transfer_ended"


class NotCancellableError(HongbaoError):
    """It is too late to cancel the transfer, or it has ended."""

    code = "not_cancellable"


class NotSenderError(HongbaoError):
    """Only the sender can do this."""

    code = "not_sender"


class NotRetractableError(HongbaoError):
    """The packet can no longer be retracted: it was claimed, it has ended, or it is too late."""

    code = "not_retractable"


class ConsentRequiredError(HongbaoError):
    """Someone has viewed the packet and has not consented to its retraction."""

    code = "consent_required"


class ConfirmationRequiredError(HongbaoError):
    """The retraction of a packet this large must be confirmed."""

    code = "confirmation_required"


class NotViewedError(HongbaoError):
    """The user's consent is not needed: they are not among the packet's first viewers."""

    code = "not_viewed"


class TooManyChangesError(HongbaoError):
    """The choice was changed as often this month as is allowed, until ``until_ms``."""

    code = "too_many_changes"

    def __init__(self, message: str, until_ms: int) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class FrozenError(HongbaoError):
    """The account is frozen for this operation. Nothing was done."""

    code = "account_frozen"


class LimitReachedError(HongbaoError):
    """The user has done something as much as they may, and cannot go on until ``until_ms``. ``limit``: its name."""

    code = "limit_reached"

    def __init__(self, message: str, limit: str, until_ms: int) -> None:
        super().__init__(message)
        self.limit, self.until_ms = limit, until_ms


class NoPaymentPasswordError(HongbaoError):
    """The operation needs a payment password, and the user has none."""

    code = "no_payment_password"


class WrongPaymentPasswordError(HongbaoError):
    """This is not the user's payment password. The try was counted. ``tries_left``: until it is locked."""

    code = "wrong_payment_password"

    def __init__(self, tries_left: int) -> None:
        super().__init__(f"The payment password is wrong. Tries left before it is locked: {tries_left}.")
        self.tries_left = tries_left


class PaymentPasswordLockedError(HongbaoError):
    """Too many wrong tries: until ``locked_until_ms`` (``retry_after_s`` from now) even the right one is refused."""

    code = "payment_password_locked"

    def __init__(self, locked_until_ms: int, retry_after_s: int) -> None:
        super().__init__(f"Too many wrong tries: the payment password is locked for {retry_after_s} s.")
        self.locked_until_ms, self.retry_after_s = locked_until_ms, retry_after_s


class UnknownWithdrawalError(HongbaoError):
    """The user has no withdrawal with this number."""

    code = "unknown_withdrawal"


class UnknownDisputeError(HongbaoError):
    """No dispute has this number, or the user is no party to it."""

    code = "unknown_dispute"


class BelowManualHandlingError(HongbaoError):
    """The amount is too small to dispute: nobody handles it by hand."""

    code = "below_manual_handling"


class TooManyDisputesError(HongbaoError):
    """The complainant has filed as many disputes this year as is allowed, until ``until_ms``."""

    code = "too_many_disputes"

    def __init__(self, message: str, until_ms: int) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class DisputeOpenError(HongbaoError):
    """There is another dispute about this payment, open or upheld."""

    code = "dispute_exists"


class DisputeDecidedError(HongbaoError):
    """The dispute was decided before, with the other outcome."""

    code = "dispute_decided"


class UnknownWechatpayMerchantError(HongbaoError):
    """No merchant has this number (mch_id)."""

    code = "unknown_wechatpay_merchant"


class NoWechatpayKeyError(HongbaoError):
    """The key that merchants' API keys are encrypted with is missing: an operator must set it."""

    code = "no_wechatpay_key"


class AddressNotAllowedError(HongbaoError):
    """The account may send only from certain networks, and the request comes from elsewhere. Nothing was done."""

    code = "address_not_allowed"


class LimitExceededError(HongbaoError):
    """The amount exceeds a limit. Nothing was done. ``left_fen``: what the limit still allows.

    ``field``: the field with the amount, if the limit does not imply it. ``until_ms``: when a day's limit ends.
    ``unit``: of another asset than money.
    """

    code = "limit_exceeded"

    def __init__(
        self,
        limit: str,
        limit_fen: int,
        left_fen: int,
        *,
        field: str | None = None,
        until_ms: int | None = None,
        unit: str = "fen",
    ) -> None:
        super().__init__(f"The limit {limit} is {limit_fen} {unit}; {left_fen} {unit} of it are left.")
        self.limit, self.limit_fen, self.left_fen, self.field = limit, limit_fen, left_fen, field
        self.until_ms = until_ms


class IdempotencyKeyReusedError(HongbaoError):
    """The Idempotency-Key was used before for another request."""

    code = "idempotency_key_reused"


class IdempotencyInFlightError(HongbaoError):
    """A request with the same Idempotency-Key is in progress."""

    code = "idempotency_in_flight"


class InvalidTokenError(HongbaoError):
    """The bearer token is missing, forged, expired or malformed (``engine.access.tokens`` has the form)."""

    code = "unauthorized"


class UnavailableError(HongbaoError):
    """The engine cannot answer now. A repeat after ``retry_after_s`` seconds does nothing twice.

    ``is_undone``: whether it is certain that nothing was decided.
    """

    code = "unavailable"
    retry_after_s = 1

    def __init__(self, message: str, *, is_undone: bool = False) -> None:
        super().__init__(message)
        self.is_undone = is_undone


class ServerRefusesError(UnavailableError):
    """A server answers with a refusal that only the operator can change."""

    code = "server_refuses"
    retry_after_s = 5


class UndecidedError(UnavailableError):
    """A change was requested from a server and the answer is missing: the change may stand."""

    code = "undecided"


class OverloadedError(UnavailableError):
    """A queue is at its bound, so the claim was refused before it reached Redis."""

    code = "overloaded"


class BusyError(UnavailableError):
    """The lane's event backlog is at its bound: the ledger must catch up first."""

    code = "busy"


class RecoveringError(UnavailableError):
    """The lane takes no claims: Redis lost it, or restarted and has not been compared with the ledger yet."""

    code = "recovering"
    retry_after_s = 5


class OpeningError(UnavailableError):
    """The packet is paid for but its shares are still being loaded."""

    code = "opening"


class UnconfirmedError(UnavailableError):
    """The change was decided and stands, but is not yet as safe as requested: repeat the request for its answer."""

    code = "unconfirmed"


class OperatorError(HongbaoError):
    """Only the operator can fix this (a server, a URL, a port, a schema). The CLI prints it and exits with its code."""

    code = "operator"

    def __init__(self, sentence: str = "", *, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@contextmanager
def after_change() -> Iterator[None]:
    """For the steps after a change in the same request: if one fails, the change still stands."""
    try:
        yield
    except UnconfirmedError:
        raise
    except UnavailableError as error:
        raise UndecidedError(str(error)) from error
