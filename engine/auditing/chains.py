"""The findings about the hash chains: of all history, or of what came after an anchor and one earlier part."""

from collections.abc import Sequence

from engine.auditing import account_chains, anchors, hash_chain
from engine.auditing.anchors import Head
from engine.auditing.findings import Finding, finding
from engine.auditing.hash_chain import Lane
from engine.auditing.kept import Part
from engine.auditing.snapshots import Pair, Snapshot
from engine.auditing.spans import Span
from engine.ledger.database import Connection

Result = tuple[int, list[str]]


class Chains:
    """The walk along all chains in pieces that can be done at once. ``again``: a part that is walked once more."""

    def __init__(self, span: Span, again: Part | None, groups: Sequence[Sequence[Lane]]) -> None:
        self.span, self.again, self._groups = span, again, groups

    @classmethod
    async def of(cls, snapshot: Snapshot, span: Span, again: Part | None = None) -> "Chains":
        """The walk, with the lanes shared among the snapshot's pairs."""
        lanes, jobs = await hash_chain.lanes_in(snapshot.connection, span), len(snapshot.pairs)
        return cls(span, again, [group for first in range(jobs) if (group := lanes[first::jobs])] or [[]])

    async def lanes(self, pair: Pair, number: int) -> Result:
        """One group of lanes."""
        return await hash_chain.lanes_unbroken(pair.connection, pair.copying, self.span, self._groups[number])

    @property
    def group_count(self) -> int:
        """How many groups of lanes there are."""
        return len(self._groups)

    async def strays(self, pair: Pair) -> Result:
        """What belongs to no batch."""
        lanes = [lane for group in self._groups for lane in group]
        return 0, await hash_chain.strays(pair.connection, self.span, lanes)

    async def accounts(self, pair: Pair) -> Result:
        """The chains of accounts."""
        return await account_chains.transfers_unbroken(pair.connection, self.span)

    async def lanes_again(self, pair: Pair) -> Result:
        """The lanes of the part that is walked once more."""
        if self.again is None:
            return 0, []
        span = self.again.span
        lanes = await hash_chain.lanes_in(pair.connection, span)
        examined, problems = await hash_chain.lanes_unbroken(pair.connection, pair.copying, span, lanes)
        return examined, problems + await hash_chain.stray_entries(pair.connection, span, lanes)

    async def accounts_again(self, pair: Pair) -> Result:
        """The same for the chains of accounts. How many entries they had is in the anchor."""
        if self.again is None:
            return 0, []
        examined, problems = await account_chains.transfers_unbroken(pair.connection, self.again.span)
        if not problems and examined != self.again.last.own_entries:
            problems.append(
                f"up to {self.again.last.name}: {self.again.last.own_entries} entries were there, now {examined} are"
            )
        return examined, problems


async def unbroken(connection: Connection, lanes: Sequence[Result], accounts: Sequence[Result]) -> list[Finding]:
    """The findings. ``connection``: of the same snapshot."""
    heads = tuple(await anchors.heads(connection))
    statement = f"each batch's hash covers its rows and the batch before{await hash_chain.begins(connection)}"
    return [
        finding("chains_unbroken", statement, *_summed(lanes), heads),
        finding("transfers_unbroken", "each entry that no batch wrote has its own hash", *_summed(accounts)),
    ]


async def anchor_holds(connection: Connection, heads: Sequence[Head], others: Sequence[str] = ()) -> Finding:
    """The finding about an anchor: its heads must be in the chains. ``others``: what else is wrong with it."""
    problems = [*others, *await anchors.contradictions(connection, heads)]
    return finding("anchor_holds", "the chains go on from the anchor", len(heads), problems)


def _summed(results: Sequence[Result]) -> Result:
    return sum(examined for examined, _ in results), [problem for _, problems in results for problem in problems]
