"""What each error code means, and what a client does about it: the table in docs/api.md, by class of error.

``api.problems.KINDS`` has the statuses and titles. A test compares the errors in both.
"""

from typing import NamedTuple

from api import problems
from engine import errors
from engine.errors import HongbaoError


class Guide(NamedTuple):
    """One error for readers. ``remedy``: what a client does about it."""

    meaning: str
    remedy: str


_REPEAT = "Repeat the same request after `Retry-After` seconds."
_NO_REPEAT = "Do not repeat."

GUIDES: dict[type[HongbaoError], Guide] = {
    problems.MalformedError: Guide(
        "The request is not HTTP/1.1, its body is not one JSON object in UTF-8 with distinct names, a header came "
        "twice, or the query has too many parameters.",
        "Correct the client; `detail` names the cause.",
    ),
    problems.IdempotencyKeyRequiredError: Guide(
        "A request that moves money came without the header Idempotency-Key.",
        "Send a new key with each new request, and the same key with each repeat of it.",
    ),
    errors.InvalidTokenError: Guide(
        "The bearer token is missing, forged, expired or not of the required form ([access.md](access.md)).",
        "Get a new token, then repeat. If it is refused, too, `detail` says what is wrong with it.",
    ),
    problems.ForbiddenError: Guide(
        "The token is valid, but it lacks the scope, or the resource belongs to another user.",
        f"{_NO_REPEAT} Use a token with the scope that `detail` names, or act for the right user.",
    ),
    errors.NotInvitedError: Guide(
        "The packet names its recipients, and this user is not one of them.", f"{_NO_REPEAT} Tell the user."
    ),
    errors.FrozenError: Guide(
        "The account is frozen for this action; nothing was done.",
        f"{_NO_REPEAT} Send the user to support: an admin can lift the freeze ([risk.md](risk.md)).",
    ),
    errors.LimitReachedError: Guide(
        "The user has done this as much as they may; nothing was done. `limit` names it: `day_received_fen_max` is for "
        "what is received in a day, `retractions_an_hour_max` for retractions.",
        f"{_NO_REPEAT} The user can claim, or send, again from `until_ms` on ([risk.md](risk.md)).",
    ),
    errors.WrongPaymentPasswordError: Guide(
        "The payment password is wrong. The try was counted; `tries_left` more wrong ones lock it.",
        "Ask the user again. A repeat can use the same Idempotency-Key.",
    ),
    errors.NotSenderError: Guide(
        "Only the sender of the packet or transfer can do this.", f"{_NO_REPEAT} Offer this action to the sender only."
    ),
    errors.AddressNotAllowedError: Guide(
        "This merchant's account may send from certain networks only, and the request came from elsewhere; nothing was "
        "done.",
        "Send from one of the account's networks, or have an admin change them (`PUT /v1/accounts/{user_id}/profile`).",
    ),
    problems.UnknownRouteError: Guide(
        "No resource has this path, or the number in it is not valid.", "Correct the path."
    ),
    errors.UnknownPacketError: Guide(
        "No packet or transfer has this number, or this user may not see it.", "Check the number and the user."
    ),
    errors.UnknownTransactionError: Guide(
        "No packet or transfer has this number, or the user has no part in it.", "Check the number and the user."
    ),
    errors.UnknownDisputeError: Guide(
        "No dispute has this number, or the user is no party to it.", "Check the number and the user."
    ),
    errors.UnknownWithdrawalError: Guide("The user has no withdrawal with this number.", "Check the number."),
    errors.UnknownClaimError: Guide(
        "The user has no share of this packet, or the token may not see whether they have one.",
        "Before a claim this is the normal answer. Otherwise check whose token it is.",
    ),
    errors.UnknownCampaignError: Guide("No campaign has this number.", "Check the number."),
    errors.CampaignEndedError: Guide("The campaign's owner has ended it.", f"{_NO_REPEAT} Make another campaign."),
    errors.UnknownFundraiserError: Guide("No fundraiser has this number.", "Check the number."),
    errors.FundraiserEndedError: Guide(
        "The fundraiser's time is over, or its owner has ended it; nothing was done.",
        f"{_NO_REPEAT} Show the fundraiser as ended.",
    ),
    errors.TooManyFundraisersError: Guide(
        "The user has as many open fundraisers as is allowed.", "Wait until one has ended, or end one."
    ),
    errors.UnknownGiftError: Guide(
        "The fundraiser has no gift with this number, or somebody else gave it.", "Check the number and the user."
    ),
    errors.ShareGivenError: Guide(
        "The user has given this share of a packet to a fundraiser before; nothing was done.",
        f"{_NO_REPEAT} Give an `amount_fen` instead.",
    ),
    errors.TooManyMatchesError: Guide("The fundraiser has as many matches as is allowed.", _NO_REPEAT),
    errors.NotMerchantError: Guide(
        "Only a merchant's account can do this.", f"{_NO_REPEAT} Have an admin set the account's profile."
    ),
    errors.UnknownCouponBatchError: Guide(
        "No batch of coupons has this number, or it is somebody else's.", "Check the number and the user."
    ),
    errors.UnknownCouponError: Guide(
        "Nobody was given a coupon with this number or code, or it is somebody else's.",
        "Check the number or the code, and the user.",
    ),
    errors.CouponEndedError: Guide(
        "The coupon was redeemed or declared void, or its time is over; `state` says which.",
        f"{_NO_REPEAT} Do not accept the coupon.",
    ),
    errors.CouponNotValidYetError: Guide("The coupon's time has not begun.", "Redeem it from its `valid_from_ms` on."),
    errors.NotTransferableError: Guide(
        "The batch does not let holders pass its coupons on.", f"{_NO_REPEAT} Do not offer it for these coupons."
    ),
    errors.CodePartDiffersError: Guide(
        "A part with this number was uploaded before, with other codes.",
        f"{_NO_REPEAT} Use a new number for new codes.",
    ),
    errors.UnknownWechatpayMerchantError: Guide(
        "No merchant of WeChat Pay's calls has this number ([wechat-pay.md](wechat-pay.md)).",
        f"{_NO_REPEAT} Add it with `PUT /v1/wechatpay/merchants/{{mch_id}}`.",
    ),
    errors.NoWechatpayKeyError: Guide(
        "The server lacks the key that merchants' API keys are encrypted with.",
        "An operator must set HONGBAO_WECHATPAY_KEYS ([wechat-pay.md](wechat-pay.md#keys)). Then repeat.",
    ),
    errors.NoCouponKeyError: Guide(
        "The server lacks the key of the coupons' codes.",
        "An operator must set HONGBAO_COUPON_KEYS ([coupons.md](coupons.md#keys)). Then repeat.",
    ),
    errors.UnknownCardSetError: Guide("No set of cards has this number.", "Check the number."),
    errors.CardSetEndedError: Guide(
        "The set's time is over: its cards move no longer, and nobody can complete it. Or its completers are counted.",
        f"{_NO_REPEAT} Show when its pool is drawn.",
    ),
    errors.NotDrawnError: Guide(
        "The set's pool has not been drawn to the end.", "Repeat when the set's state is `drawn` or `settled`."
    ),
    errors.CardLackingError: Guide(
        "The user does not have a card that this needs; nothing was done. `detail` names it.",
        f"{_NO_REPEAT} Show which cards are missing (`GET /v1/users/{{user_id}}/cards`).",
    ),
    errors.AlreadyCompletedError: Guide(
        "The user has completed this set before, and has a share of its pool.", f"{_NO_REPEAT} Once is all."
    ),
    errors.TooManyGrantsError: Guide(
        "The user has got as many grants of the set as one user gets.", f"{_NO_REPEAT} Tell the user."
    ),
    errors.ReserveEmptyError: Guide(
        "Every card that was set aside for grants is granted.", f"{_NO_REPEAT} The owner can still drop other cards."
    ),
    errors.NoPrizeError: Guide(
        "The user has not completed the set, or did not claim the share in time.", f"{_NO_REPEAT} Tell the user."
    ),
    errors.UnknownCardOfferError: Guide(
        "No offer has this number, or it is between other users.", "Check the number and the user."
    ),
    errors.CardOfferEndedError: Guide(
        "The offer was accepted, declined or withdrawn, or its time is over; nothing was done.",
        f"{_NO_REPEAT} Read the offer's state.",
    ),
    errors.TooManyCardOffersError: Guide(
        "The user has as many open offers as one user may have.",
        "Withdraw an open offer, or wait until one has ended, then repeat.",
    ),
    errors.UnknownAssetError: Guide("No asset has this code.", "`GET /v1/assets` lists those that there are."),
    errors.AssetExistsError: Guide(
        "An asset has this code, with another scale or name, or it is the ledger's currency.",
        f"{_NO_REPEAT} An asset never changes: choose another code.",
    ),
    problems.WrongMethodError: Guide(
        "The path exists, but not with this method.", "Use one of the methods in the header Allow."
    ),
    problems.SlowBodyError: Guide(
        "The body did not arrive in time; nothing was done.", "Repeat the same request on a better connection."
    ),
    errors.NotArrivedError: Guide(
        "The transfer's time of arrival has not come.", "Repeat at the transfer's `arrives_at_ms`."
    ),
    errors.TransferEndedError: Guide(
        "The transfer was cancelled, or not confirmed in time; its money goes back to its sender.",
        f"{_NO_REPEAT} Show the transfer as ended.",
    ),
    errors.NotCancellableError: Guide(
        "It is too late to cancel the transfer, or it has ended.", f"{_NO_REPEAT} Read the transfer's state."
    ),
    errors.NotRetractableError: Guide(
        "The packet was claimed or has ended, or it is too late. Unclaimed shares are refunded when it expires.",
        f"{_NO_REPEAT} Read the packet's state.",
    ),
    errors.ConsentRequiredError: Guide(
        "Someone has viewed the packet and has not consented to its retraction.",
        "Ask the viewers to consent (`POST /v1/packets/{packet_id}/retraction/consent`), then repeat.",
    ),
    errors.ConfirmationRequiredError: Guide(
        "The packet is large, so its retraction must be confirmed.",
        'Ask the user, then repeat with `{"confirm": true}`.',
    ),
    errors.NotViewedError: Guide(
        "The user's consent is not needed: they are not among the first viewers.",
        f"{_NO_REPEAT} The sender needs no consent from this user.",
    ),
    errors.TooManyChangesError: Guide(
        "The user has changed the arrival delay too often this month (China's).",
        "Try again next month, from `until_ms` on.",
    ),
    errors.InsufficientFundsError: Guide(
        "The wallet holds less than the amount (and its fee); nothing was done.",
        "Lower the amount, or have money deposited and repeat.",
    ),
    errors.NoPaymentPasswordError: Guide(
        "This needs a payment password, and the user has none.",
        "Have the user set one (`PUT /v1/wallets/{user_id}/payment-password`), then repeat.",
    ),
    errors.LimitExceededError: Guide(
        "The amount exceeds a limit; nothing was done. `limit` names it, `left_fen` is what it allows now.",
        "Send at most `left_fen`, wait until `until_ms` if it is a day's limit, or have an admin raise it. "
        "`total_fen_max` is fixed: all accounts together hold no more.",
    ),
    errors.NotSettledError: Guide(
        "The packet has not settled: it is open, or the ledger has not finished it.",
        "Repeat when the packet's `settled_at_ms` is set.",
    ),
    errors.NotInLedgerError: Guide(
        "The ledger has no share of this packet for the user (yet).", "Repeat in a second. If it stays, there is none."
    ),
    errors.DayNotClosedError: Guide(
        "The ledger does not have everything of a day that was asked for yet; `detail` says why.", _REPEAT
    ),
    errors.BelowManualHandlingError: Guide(
        "The amount is too small to dispute.", f"{_NO_REPEAT} `detail` names the smallest amount."
    ),
    errors.TooManyDisputesError: Guide(
        "The user has filed as many disputes this calendar year (China's) as is allowed.",
        "Try again next year, from `until_ms` on.",
    ),
    errors.DisputeOpenError: Guide(
        "Another dispute about this payment is open, or was upheld.",
        f"{_NO_REPEAT} Read the dispute that `detail` names.",
    ),
    errors.DisputeDecidedError: Guide(
        "The dispute was decided before, with the other outcome.", f"{_NO_REPEAT} A decision is final."
    ),
    errors.IdempotencyInFlightError: Guide(
        "A request with this Idempotency-Key is in progress.",
        "Repeat the same request with the same key in a moment: it returns the first one's answer.",
    ),
    problems.TooLargeError: Guide(
        "The body is larger than this path allows ([bounds.md](bounds.md)).", "Send less, or several requests."
    ),
    problems.UnsupportedMediaTypeError: Guide(
        "The Content-Type is not `application/json` in UTF-8.", "Correct the header Content-Type."
    ),
    errors.InvalidFieldsError: Guide(
        "Some fields break a rule; nothing was done. `errors` names each field and its rule.",
        "Correct every field that is named, then send a new request.",
    ),
    errors.IdempotencyKeyReusedError: Guide(
        "The Idempotency-Key was used before for another request; nothing was done.",
        "Send a new key with each new request. If this was meant as a repeat, send the same body.",
    ),
    errors.PaymentPasswordLockedError: Guide(
        "Too many wrong tries: until `locked_until_ms` even the right payment password is refused.",
        "Wait for `Retry-After` seconds, and tell the user until when.",
    ),
    problems.RateLimitedError: Guide(
        "The user or the client address has sent too many requests; this one was not processed.",
        f"{_REPEAT} The headers RateLimit and RateLimit-Policy have the limit. "
        "In a batch, `retry_after_s` of each refused claim says how long; the others were decided.",
    ),
    problems.HeadTooLargeError: Guide(
        "The request line and headers are too large, or too many. The connection is closed.",
        "Send fewer or smaller headers.",
    ),
    HongbaoError: Guide(
        "The server has a bug or a broken installation; its log has the cause.",
        "Report it to the operator. Repeat what moves money with the same Idempotency-Key only.",
    ),
    problems.NotReadyError: Guide(
        "The process cannot do all of its work; `reasons` says why. Only `/readyz` returns it.",
        "Send requests to another process until it is ready.",
    ),
    errors.UnavailableError: Guide(
        "Redis or Postgres does not answer. This try decided nothing.", f"{_REPEAT} Keep the Idempotency-Key."
    ),
    errors.ServerRefusesError: Guide(
        "Redis or Postgres answers with an error, which the log and `/readyz` report. This try decided nothing.",
        f"{_REPEAT} It works again once an operator has repaired the server.",
    ),
    errors.UndecidedError: Guide(
        "Redis or Postgres was asked for the change and has not answered. It may have been decided: then it stands.",
        f"{_REPEAT} Keep the Idempotency-Key, and it is not carried out twice. A claim returns the same share.",
    ),
    errors.OverloadedError: Guide("The process has too much to do; nothing was done.", _REPEAT),
    errors.BusyError: Guide("The ledger is too far behind to take more claims; nothing was decided.", _REPEAT),
    errors.RecoveringError: Guide(
        "Redis lost the packet or was restarted: its data is being compared with the ledger or rebuilt from it.",
        _REPEAT,
    ),
    errors.OpeningError: Guide("The packet is paid for, but its shares are still being loaded.", _REPEAT),
    errors.UnconfirmedError: Guide(
        "It was decided and stands, but it is not yet as safe as the ack mode demands.",
        f"{_REPEAT} It returns the same outcome.",
    ),
}
