"""Compares the answers to errands with the ledger."""

from dataclasses import dataclass, field

from loadtest.chaos.books import Books
from loadtest.chaos.findings import REFUSED, Findings, shown
from loadtest.chaos.history import Claim, Errand
from loadtest.chaos.promise import Promise

_NOT_DONE = (403, 404, 409)
"""Refusals by a rule at this moment: retracted too late, no money left, claimed by another user."""

_TOO_LATE = (("password", 422), ("rain", 422))
"""It was set already: an earlier answer was lost. The first wave would begin too soon by now."""

_UNDONE = ("take back", "cancel", "confirm")
"""What Redis decides, so that a fault may undo it: about a packet with this number."""


@dataclass(slots=True)
class _Frozen:
    """One freeze: from when it was in force, and until when at least."""

    from_s: float
    until_s: float = float("inf")


@dataclass(slots=True)
class ErrandRules:
    """The answers to errands, and to claims of frozen users."""

    findings: Findings
    books: Books
    promise: Promise
    _frozen: dict[str, list[_Frozen]] = field(default_factory=dict)
    _winners: list[Claim] = field(default_factory=list)

    def errand(self, errand: Errand) -> None:
        """One answer."""
        if errand.status not in (200, 201, *_NOT_DONE, *REFUSED) and (errand.what, errand.status) not in _TOO_LATE:
            self.findings.add(f"{_about(errand)}: the answer was {shown(errand)}")
        match errand.what:
            case "freeze" if errand.status == 200 and errand.is_in_force:
                self._frozen.setdefault(errand.user_id, []).append(_Frozen(errand.answered_s))
            case "lift":
                for frozen in self._frozen.get(errand.user_id, []):
                    frozen.until_s = min(frozen.until_s, errand.asked_s)
        if errand.status in (200, 201):
            self._done(errand)

    def claim(self, claim: Claim) -> None:
        """Check one claim: a frozen user must not win."""
        if claim.outcome == "claimed" and claim.user_id in self._frozen:
            self._winners.append(claim)

    def compare(self) -> None:
        """Check that no claim won that was sent during a freeze and answered before the freeze was lifted."""
        for claim in self._winners:
            for frozen in self._frozen[claim.user_id]:
                if frozen.from_s < claim.asked_s and claim.answered_s < frozen.until_s:
                    self.findings.add(
                        f"{claim.user_id} was frozen from {frozen.from_s:.3f} s on and got a share of packet "
                        f"{claim.packet_id} at {claim.answered_s:.3f} s"
                    )
                    break
        if self.books.processing:
            self.findings.add(f"{self.books.processing} withdrawals are still processed")

    def _done(self, errand: Errand) -> None:
        may_undo = errand.what in _UNDONE and self.promise.may_undo(errand.number, errand)
        packet = self.books.packets.get(errand.number)
        match errand.what:
            case "send" | "transfer" if packet is None or packet.sender != errand.user_id:
                self.findings.add(f"{_about(errand)}: it was answered, and the ledger does not hold it")
            case "rain" if errand.number not in {campaign_id for campaign_id, _ in self.books.waves.values()}:
                self.findings.add(f"{_about(errand)}: it was made, and the ledger does not hold it")
            case "take back" | "cancel" if (packet is None or packet.state != "retracted") and not may_undo:
                state = "nothing" if packet is None else packet.state
                self.findings.add(f"{_about(errand)}: it was answered, and in the ledger it is {state}")
            case "confirm" if (packet is None or packet.state != "exhausted") and not may_undo:
                state = "nothing" if packet is None else packet.state
                self.findings.add(f"{_about(errand)}: it was confirmed, and in the ledger it is {state}")
            case "withdraw" if errand.number not in self.books.withdrawals:
                self.findings.add(f"{_about(errand)}: it was answered, and the ledger does not hold it")


def _about(errand: Errand) -> str:
    return f"{errand.user_id}, {errand.what} {errand.number}".strip()
