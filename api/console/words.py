"""Words for values: states, kinds, scopes. A value without a word is shown as it is."""

from collections.abc import Callable, Iterable

from api.console.texts import marked

WORDS = {
    "packet.funded": marked("paid, not open yet"),
    "packet.open": marked("open"),
    "packet.exhausted": marked("all claimed"),
    "packet.expired": marked("expired"),
    "packet.retracted": marked("taken back"),
    "purpose.packet": marked("packet"),
    "purpose.transfer": marked("transfer"),
    "purpose.campaign": marked("part of a campaign"),
    "split.lucky": marked("lucky"),
    "split.equal": marked("equal"),
    "moment.sent": marked("sent and paid"),
    "moment.first_claim": marked("first claim"),
    "moment.last_claim": marked("last claim"),
    "moment.retraction_asked": marked("taking back was asked for"),
    "moment.ended": marked("ended"),
    "moment.refund": marked("refunded"),
    "moment.write_off": marked("written off"),
    "moment.settled": marked("settled: custody is empty"),
    "moment.arrives": marked("arrives"),
    "moment.expires": marked("expires"),
    "scope.account": marked("whole account"),
    "scope.sending": marked("sending"),
    "scope.receiving": marked("receiving"),
    "by.rule": marked("a rule"),
    "by.dispute": marked("a dispute"),
    "by.operator": marked("an operator"),
    "account.person": marked("person"),
    "account.merchant": marked("merchant"),
    "withdrawal.processing": marked("under way"),
    "withdrawal.settled": marked("paid"),
    "withdrawal.failed": marked("failed"),
    "quarantine.claim": marked("claim"),
    "quarantine.opening": marked("opening"),
    "quarantine.ending": marked("ending"),
    "quarantine.unreadable": marked("unreadable"),
    "resolution.open": marked("waits"),
    "resolution.retried": marked("retried"),
    "resolution.written_off": marked("written off"),
    "dispute.fraud": marked("fraud"),
    "dispute.minor": marked("paid by a child"),
    "dispute.system_fault": marked("system fault"),
    "decision.open": marked("undecided"),
    "decision.upheld": marked("upheld"),
    "decision.rejected": marked("rejected"),
    "alert.large_movement": marked("large movement"),
    "alert.new_place": marked("new network"),
    "alert.burst": marked("many sendings"),
    "alert.take_back_burst": marked("many taken back"),
    "alert.dispute_overdue": marked("dispute overdue"),
    "detail.what": marked("what"),
    "detail.amount_fen": marked("amount"),
    "detail.network": marked("network"),
    "detail.sent_in_a_minute": marked("sent in a minute"),
    "detail.retractions": marked("taken back"),
    "detail.until_ms": marked("until"),
    "detail.dispute_id": marked("dispute"),
    "detail.dispute_kind": marked("kind"),
    "detail.number": marked("packet"),
    "detail.deadline_at_ms": marked("deadline"),
    "detail.deadline_is_provisional": marked("provisional"),
    "movement.packet": marked("packet"),
    "movement.transfer": marked("transfer"),
    "movement.withdrawal": marked("withdrawal"),
    "movement.deposit": marked("deposit"),
    "movement.campaign": marked("campaign"),
    "movement.gift": marked("gift"),
    "movement.match": marked("match"),
    "movement.card set": marked("card set"),
    "entry.deposit": marked("deposit"),
    "entry.send": marked("sending"),
    "entry.claim": marked("claim"),
    "entry.refund": marked("refund"),
    "entry.write_off": marked("write-off"),
    "entry.withdrawal": marked("withdrawal"),
    "entry.withdrawal_return": marked("withdrawal returned"),
    "entry.payout": marked("payout"),
    "entry.fee": marked("fee"),
    "entry.correction": marked("correction"),
    "entry.gift": marked("gift"),
    "entry.gift_return": marked("gift returned"),
    "entry.match_budget": marked("budget of a match"),
    "entry.match": marked("match"),
    "entry.match_return": marked("match returned"),
    "entry.fund_payout": marked("fund paid out"),
    "entry.pool_fund": marked("pool funded"),
    "entry.pool_share": marked("share of a pool"),
    "entry.pool_return": marked("rest of a pool"),
    "event.claims": marked("claims"),
    "event.opened": marked("opened"),
    "event.closed": marked("closed"),
    "event.unreadable": marked("unreadable"),
    "closed.CLOSED": marked("It is closed now. What is left goes back to its sender."),
    "closed.ENDED": marked("It had ended before. Nothing was done."),
    "closed.NOT_DUE": marked("Its time is not over. Nothing was done."),
    "closed.ARRIVED": marked("It is a transfer that has arrived: the sweeper gives it to its recipient."),
    "closed.MISSING": marked("Redis does not have it. Nothing was done."),
}


def sayer(gettext: Callable[[str], str]) -> Callable[[str, object], str]:
    """What says a value of a kind in the person's language."""

    def say(kind: str, value: object) -> str:
        word = WORDS.get(f"{kind}.{value}")
        return str(value) if word is None else gettext(word)

    return say


def choices(say: Callable[[str, object], str], kind: str, values: Iterable[object]) -> list[tuple[str, str]]:
    """The values of a filter with their words."""
    return [(str(value), say(kind, value)) for value in values]


EFFECT_LABELS = (
    *(marked("Row"), marked("Packet"), marked("Change"), marked("User"), marked("What it does now"), marked("Lane")),
    *(marked("Dispute"), marked("Outcome"), marked("Amount"), marked("From"), marked("To"), marked("What")),
    *(marked("Reason"), marked("By"), marked("State now"), marked("Position in Redis")),
    marked("Position in the ledger"),
)
"""What actions are told with to a second operator. The page of approvals shows these, so they are in ``base``."""
