"""What audits and reconciliations state and find, and who did something, in the person's language.

They are sets of their own beside ``sentences``: their parts are so short that they would be found in other sentences.
What breaks an invariant is not among them. It is shown as the audit says it.
"""

from collections.abc import Callable

from api.console.sentences import Sentences
from api.console.texts import marked

STATEMENTS = (
    # Invariants (engine.auditing.audit, engine.auditing.chains).
    *(
        marked("all balances sum to zero"),
        marked("no entry is between two assets"),
        marked("each balance is the sum of its entries"),
        marked("each packet's total is its claims, its refund and its custody"),
        marked("no user has two shares of a packet"),
        marked("no share was given twice"),
        marked("each claim is the share its packet's seed gives that slot"),
        marked("every event up to the checkpoint is in the ledger"),
        marked("no quarantined change is pending"),
        marked("each user has as many units of a batch as coupons"),
        marked("each coupon of a batch is in one place"),
        marked("each card is there as often as published, and each pool is shared"),
        marked("each row of the operator log has its own hash"),
        marked("each withdrawal is held, paid or returned"),
        marked("each fund holds what its gifts and matches say, or nothing"),
        marked("each paid order of WeChat Pay's calls has its packet"),
        marked("each event stream continues from the ledger's checkpoint"),
        marked("Redis and the ledger agree on shares given and shares left"),
        marked("each batch's hash covers its rows and the batch before"),
        marked("each batch's hash covers its rows and the batch before{}"),
        marked("each entry that no batch wrote has its own hash"),
        marked("the chains go on from the anchor"),
    ),
    # What was examined, and why no anchor was kept.
    *(
        marked("All history is examined."),
        marked("All history is examined{}."),
        marked(", because no anchor is kept yet"),
        marked(", because the last anchor does not count: {}"),
        marked("the secret that signed it is not in force"),
        marked("there is no secret to check it with"),
        marked(", because the last anchor is not as it was kept"),
        marked(", because a kept anchor does not hold"),
        marked("What came after {} is examined, {}."),
        marked("from entry {} on"),
        marked("{}. The part up to {} is walked once more"),
        marked("the audit of {} (China)"),
        marked("audit {}"),
        marked("another audit has kept one meanwhile"),
        marked("there is no secret to sign it with"),
        marked("this user of Postgres may not write"),
        marked("a transaction in Postgres has been open for too long"),
    ),
    # Jobs (engine.auditing.heavy).
    *(marked("audit"), marked("reconciliation {}")),
    # Comparisons, their sides and their differences (engine.auditing.day_ledger, .day_redis, .day_payouts).
    *(
        marked("{}: ledger"),
        marked("{}: statements"),
        marked("{}: events"),
        marked("{}: packets"),
        marked("{}: Redis"),
        marked("{}: payouts"),
        marked("{}, {}"),
        marked("statements close"),
        marked("{} by the lanes' batches"),
        marked("{} in the ledger"),
        marked("packets sent"),
        marked("payments for packets"),
        marked("packets that ended with a rest"),
        marked("out of a {}"),
        marked("into a {}"),
        marked("known account"),
        marked("balances of accounts"),
        marked("sums of their entries"),
        marked("statements' closings"),
        marked("wallets after the day"),
        marked("in the statements"),
        marked("in the ledger"),
        marked("payouts of the provider"),
        marked("claims in live packets in Redis"),
        marked("in the ledger or on their way"),
        marked("{} and {} differ in sum, but no single item does"),
        marked("packet {}: {} due, {} moved"),
        marked("packet {}: the ledger gave {}, Redis did not"),
        marked("packet {}: Redis gave {}; neither the stream nor the ledger has it"),
        marked("{} (share {})"),
        marked("{} fen"),
        marked("lane {}, changes {} to {}: {} {} were applied, the ledger holds {}"),
        marked("entry {}, a {} of {}, goes from {} to {}"),
        marked("account {} does not exist, and its entries sum to {} fen"),
        marked("{} holds {}, its entries sum to {}"),
        marked("{}: {} and movements of {} are not the {} held after it"),
        marked("{} of wallets: {} of {} {} in the statements, {} of {} {} in the ledger"),
        marked("withdrawal {} of {} fen ({}): {}"),
        marked("payout {} of {} fen: no withdrawal of the day has it"),
        marked("it is {}, and {}"),
        marked("no payout was ordered"),
        marked("it is {}, the provider says {}"),
        marked("the provider says {}, {}"),
        marked("the ledger says processing"),
        marked("the provider has {} fen"),
        marked("the provider pays to another bank account"),
    ),
    # Kinds of entries and of accounts, as these name them.
    *(marked("claims"), marked("refunds"), marked("sends"), marked("endings"), marked("balances")),
    *(marked("withdrawals"), marked("deposit"), marked("send"), marked("claim"), marked("refund")),
    *(marked("write_off"), marked("withdrawal"), marked("withdrawal_return"), marked("payout"), marked("fee")),
    *(marked("correction"), marked("gift"), marked("gift_return"), marked("match_budget"), marked("match")),
    *(marked("match_return"), marked("fund_payout"), marked("pool_fund"), marked("pool_share")),
    *(marked("pool_return"), marked("issue"), marked("redeem"), marked("coupon_void"), marked("coupon_expire")),
    *(marked("coupon_transfer"), marked("card_reserve"), marked("card_grant"), marked("card_gift")),
    *(marked("card_offer"), marked("card_exchange"), marked("card_return"), marked("card_spend")),
    *(marked("{} in"), marked("{} out"), marked("bank"), marked("wallet"), marked("custody")),
    *(marked("quarantine"), marked("fund"), marked("card_pool"), marked("issuer"), marked("holding")),
    *(marked("card_escrow"), marked("card_spent"), marked("nothing"), marked("processing")),
)
"""Translated in the catalogue ``base``."""
ACTORS = (
    marked("command line"),
    marked("daily"),
    marked("dispute"),
    marked("upgrade"),
    marked("dry run"),
    marked("rule:large_movement"),
    marked("rule:take_backs"),
    marked("rule:day_received"),
    marked("{}, approved by {}"),
)
"""Who did something, if it was no operator, or was two. No operator can be called by a name with a blank or a colon."""
_STATEMENTS, _ACTORS = Sentences(STATEMENTS), Sentences(ACTORS)


def stater(gettext: Callable[[str], str]) -> Callable[[object], str]:
    """What states a book's sentence in the person's language, for templates."""
    return lambda sentence: _STATEMENTS.told(gettext, sentence)


def namer(gettext: Callable[[str], str]) -> Callable[[object], str]:
    """What names who did something in the person's language, for templates. Operators are named as they are."""
    return lambda name: _ACTORS.told(gettext, name)
