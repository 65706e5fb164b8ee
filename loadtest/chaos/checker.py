"""Compares a history with the books. It is pure: it reads only its arguments."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from loadtest.chaos.books import Books
from loadtest.chaos.errand_rules import ErrandRules
from loadtest.chaos.findings import REFUSED, Findings, check_status, shown
from loadtest.chaos.history import Asked, Claim, Deposit, Errand, Listed, Look, Record, Send, Tap
from loadtest.chaos.ledger_rules import check_books
from loadtest.chaos.payments import Payments
from loadtest.chaos.promise import Promise
from loadtest.chaos.rain_rules import RainRules
from loadtest.told import HELD, is_plausible

_Pair = tuple[str, str]


@dataclass(slots=True)
class _Telling:
    """The answers by which a user was told an amount, first and last."""

    first: Asked
    last: Asked


def check(records: Iterable[Record], books: Books, ack: str) -> Findings:
    """Check everything. ``records`` is iterated twice. ``ack``: the mode in which claims were acknowledged."""
    findings = Findings()
    promise = Promise(ack, records)
    answers = _Answers(findings, books, promise)
    payments, errands = Payments(findings, books), ErrandRules(findings, books, promise)
    rains = RainRules(findings, books)
    for record in records:
        match record:
            case Claim():
                answers.claim(record)
                errands.claim(record)
            case Tap():
                for claim in rains.tap(record):
                    answers.claim(claim)
                    errands.claim(claim)
            case Listed():
                answers.listed(record)
            case Look():
                answers.look(record)
            case Send():
                payments.send(record)
            case Deposit():
                payments.deposit(record)
            case Errand():
                errands.errand(record)
                payments.errand(record)
    errands.compare()
    rains.compare()
    answers.compare()
    payments.compare()
    check_books(findings, books)
    return findings


class _Answers:
    """The answers about shares, in their order."""

    def __init__(self, findings: Findings, books: Books, promise: Promise) -> None:
        self._findings, self._books, self._promise = findings, books, promise
        self._told: defaultdict[_Pair, dict[int, _Telling]] = defaultdict(dict)
        self._asked: set[_Pair] = set()
        self._claimed: dict[_Pair, Claim] = {}
        self._ended: dict[str, Claim] = {}
        self._listed: dict[tuple[str, str, int], Listed] = {}

    def claim(self, claim: Claim) -> None:
        """Check one answer to a claim."""
        pair = (claim.packet_id, claim.user_id)
        self._asked.add(pair)
        if not self._is_expected(claim):
            self._findings.add(f"{_about(claim)}: the answer was {shown(claim)}")
        elif claim.outcome in HELD:
            self._held(claim)
        elif claim.status == 200:
            self._lost_grab(claim)

    def listed(self, listed: Listed) -> None:
        """Check a packet's list of claims. It acknowledges nothing, but every share in it must have been given."""
        check_status(self._findings, listed, 200, f"The claims of packet {listed.packet_id}")
        if len({user_id for user_id, _ in listed.claims}) < len(listed.claims):
            self._findings.add(f"The claims of packet {listed.packet_id} name a user twice")
        for user_id, amount_fen in listed.claims:
            self._listed[listed.packet_id, user_id, amount_fen] = listed
            told = self._told.get((listed.packet_id, user_id), {})
            if amount_fen not in told:
                self._check_one_amount((listed.packet_id, user_id), amount_fen, listed)

    def look(self, look: Look) -> None:
        """Check that claimed and remaining shares make up the whole packet."""
        check_status(self._findings, look, 200, f"Packet {look.packet_id}")
        packet = self._books.packets.get(look.packet_id)
        if look.status != 200 or packet is None:
            return
        whole = (look.claimed_count + look.remaining_count, look.claimed_fen + look.remaining_fen)
        if whole != (packet.count, packet.total_fen):
            self._findings.add(
                f"Packet {look.packet_id} of {packet.total_fen} fen in {packet.count} was shown as {shown(look)}"
            )

    def compare(self) -> None:
        """Compare all answers with the ledger, and the ledger with all requests."""
        ledger = {(share.packet_id, share.user_id): share.amount_fen for share in self._books.claims}
        self._findings.acknowledged = len(self._told)
        for pair, tellings in self._told.items():
            for amount_fen, telling in tellings.items():
                if ledger.get(pair) != amount_fen:
                    self._missing(pair, amount_fen, telling, ledger.get(pair))
        for (packet_id, user_id, amount_fen), listed in self._listed.items():
            is_given = ledger.get((packet_id, user_id)) == amount_fen
            if not is_given and not self._promise.may_reopen(packet_id, listed):
                self._findings.add(
                    f"{user_id} was listed with {amount_fen} fen of packet {packet_id} at {listed.answered_s:.3f} s, "
                    f"the ledger gave {ledger.get((packet_id, user_id), 0)}"
                )
        for packet_id, user_id in ledger.keys() - self._asked:
            packet = self._books.packets.get(packet_id)
            if (packet is not None and packet.is_transfer) or packet_id in self._books.waves:
                continue  # it arrived by itself, or was confirmed; who taps asks for no packet
            self._findings.add(f"{user_id} never asked for a share of packet {packet_id} and has one")

    def _is_expected(self, claim: Claim) -> bool:
        packet = self._books.packets.get(claim.packet_id)
        is_stranger = packet is not None and bool(packet.recipients) and claim.user_id not in packet.recipients
        if claim.status == 200:
            return is_plausible(claim.outcome, claim.amount_fen) and not (is_stranger and claim.outcome in HELD)
        if (claim.status, claim.code) == (403, "account_frozen"):
            return True
        return claim.status in REFUSED or (is_stranger and (claim.status, claim.code) == (403, "not_invited"))

    def _held(self, claim: Claim) -> None:
        pair = (claim.packet_id, claim.user_id)
        if claim.outcome == "claimed":
            first = self._claimed.setdefault(pair, claim)
            if first is not claim and not self._promise.may_undo(claim.packet_id, first):
                self._findings.add(f"{_about(claim)}: it was answered claimed twice")
            self._check_not_over(claim)
        self._tell(pair, claim.amount_fen, claim)

    def _check_not_over(self, claim: Claim) -> None:
        ended = self._ended.get(claim.packet_id)
        if ended is None or claim.asked_s <= ended.answered_s:
            return
        if not self._promise.may_reopen(claim.packet_id, ended):
            self._findings.add(
                f"{_about(claim)}: it got a share at {claim.answered_s:.3f} s, "
                f"though {ended.user_id} had been told {ended.outcome} at {ended.answered_s:.3f} s"
            )

    def _lost_grab(self, claim: Claim) -> None:
        self._ended.setdefault(claim.packet_id, claim)
        for amount_fen, telling in self._told.get((claim.packet_id, claim.user_id), {}).items():
            if claim.asked_s > telling.first.answered_s and not self._promise.may_undo(claim.packet_id, telling.first):
                self._findings.add(
                    f"{_about(claim)}: told {amount_fen} fen at {telling.first.answered_s:.3f} s, "
                    f"then {claim.outcome} at {claim.answered_s:.3f} s"
                )

    def _tell(self, pair: _Pair, amount_fen: int, asked: Asked) -> None:
        tellings = self._told[pair]
        if amount_fen in tellings:
            tellings[amount_fen].last = asked
            return
        self._check_one_amount(pair, amount_fen, asked)
        tellings[amount_fen] = _Telling(asked, asked)

    def _check_one_amount(self, pair: _Pair, amount_fen: int, asked: Asked) -> None:
        for other_fen, telling in self._told.get(pair, {}).items():
            if not self._promise.may_undo(pair[0], telling.first):
                self._findings.add(
                    f"{pair[1]} and packet {pair[0]}: told {other_fen} fen at {telling.first.answered_s:.3f} s, "
                    f"then {amount_fen} at {asked.answered_s:.3f} s"
                )

    def _missing(self, pair: _Pair, amount_fen: int, telling: _Telling, has_fen: int | None) -> None:
        packet_id, user_id = pair
        has = "nothing" if has_fen is None else f"{has_fen} fen"
        sentence = (
            f"{user_id} was told {amount_fen} fen of packet {packet_id} at {telling.first.answered_s:.3f} s "
            f"(last at {telling.last.answered_s:.3f} s), the ledger gave {has}"
        )
        kind = self._promise.undone_by(packet_id, telling.first)
        if kind is not None and self._promise.may_undo(packet_id, telling.last):
            self._findings.lost.append(sentence)
            self._findings.lost_by[kind] += 1
        else:
            self._findings.add(sentence)


def _about(claim: Claim) -> str:
    return f"{claim.user_id} and packet {claim.packet_id}"
