"""Compares what was told of grabs with the ledger: besides the rules of claims, one share for each user in a wave."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from loadtest.chaos.books import Books
from loadtest.chaos.findings import REFUSED, Findings, shown
from loadtest.chaos.history import Claim, Tap

_NOTHING = frozenset(("missed", "sold_out", "not_started", "between_waves", "over"))
_WON = ("claimed", "already_claimed")


@dataclass(slots=True)
class RainRules:
    """The answers to taps. ``_tapped``: the campaigns and users that asked."""

    findings: Findings
    books: Books
    _tapped: set[tuple[str, str]] = field(default_factory=set)

    def tap(self, tap: Tap) -> Iterator[Claim]:
        """Check one answer. Yields each share in it as if it had been claimed by itself."""
        self._tapped.add((tap.campaign_id, tap.user_id))
        if not self._is_expected(tap):
            told = f"{tap.outcome} with {len(tap.shares)} shares" if tap.outcome else shown(tap)
            self.findings.add(f"{tap.user_id} and campaign {tap.campaign_id}: the answer was {told}")
            return
        for packet_id, amount_fen in tap.shares:
            yield Claim(
                packet_id=packet_id,
                user_id=tap.user_id,
                outcome=tap.outcome,
                amount_fen=amount_fen,
                asked_s=tap.asked_s,
                answered_s=tap.answered_s,
                status=tap.status,
            )

    def compare(self) -> None:
        """Check that nobody has two shares of a wave, or one of a campaign in which they never tapped."""
        won: Counter[tuple[str, int, str]] = Counter()
        for share in self.books.claims:
            if (wave := self.books.waves.get(share.packet_id)) is not None:
                campaign_id, number = wave
                won[campaign_id, number, share.user_id] += 1
                if (campaign_id, share.user_id) not in self._tapped:
                    self.findings.add(f"{share.user_id} never tapped in campaign {campaign_id} and has a share of it")
        for (campaign_id, number, user_id), times in won.items():
            if times > 1:
                self.findings.add(f"{user_id} has {times} shares of wave {number} of campaign {campaign_id}")

    def _is_expected(self, tap: Tap) -> bool:
        if tap.status == 200:
            return (tap.outcome in _WON and len(tap.shares) == 1) or (tap.outcome in _NOTHING and not tap.shares)
        return tap.status in REFUSED or (tap.status, tap.code) == (403, "account_frozen")
