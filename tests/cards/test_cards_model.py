"""Everything that collectors do, at once and from a seed: nothing is made, lost, or done twice.

The model is what they were answered: by that alone, each must have the cards that they have.
"""

import asyncio
from collections import Counter
from random import Random

import pytest

from engine.auditing.audit import audit
from engine.cards import offers
from engine.cards.offers import CardOffer, OfferState
from engine.cards.terms import Payout
from engine.engine import Engine
from engine.errors import (
    AlreadyCompletedError,
    CardLackingError,
    CardOfferEndedError,
    CardSetEndedError,
    HongbaoError,
    ReserveEmptyError,
    TooManyGrantsError,
)
from tests.support.collectors import OWNER, complete, deal, draw, end, held, key, make
from tests.support.scenes import assert_books_balance

pytestmark = pytest.mark.long

USERS = [f"user{number}" for number in range(24)]
COUNTS, WILD = (60, 50, 12), 6
_EXPECTED = (
    AlreadyCompletedError,
    CardLackingError,
    CardOfferEndedError,
    CardSetEndedError,
    ReserveEmptyError,
    TooManyGrantsError,
)


class Collectors:
    """Users of one set who do whatever chance tells them, and what they were answered."""

    def __init__(self, engine: Engine, set_id: str, seed: int) -> None:
        self._engine, self._set_id, self._chance = engine, set_id, Random(seed)
        self.offers: list[str] = []
        self.moved = {user: Counter[int]() for user in USERS}
        """What each user must have, by the answers alone."""
        self.completed: set[str] = set()
        self.ended: dict[str, tuple[OfferState, str | None]] = {}
        self.done = Counter[str]()

    async def act(self, user: str) -> None:
        """One thing, by chance. What the rules refuse is no failure, and must have changed nothing."""
        acts = [self._give] * 2 + [self._offer] * 2 + [self._accept] * 3
        acts += [self._withdraw, self._grant, self._complete]
        act = self._chance.choice(acts)
        try:
            await act(user)
            self.done[act.__name__] += 1
        except _EXPECTED as error:
            self.done[error.code] += 1

    async def _give(self, user: str) -> None:
        card, to_user = self._card(), self._chance.choice([other for other in USERS if other != user])
        await self._engine.collecting.give(self._set_id, user, card, to_user, **key())
        self.moved[user][card] -= 1
        self.moved[to_user][card] += 1

    async def _offer(self, user: str) -> None:
        give, want = self._chance.sample((1, 2, 3, 4), 2)
        to_user = self._chance.choice([None, *(other for other in USERS if other != user)])
        made, _ = await self._engine.card_offers.make(
            self._set_id, user, give=give, want=want, to_user=to_user, **key()
        )
        self.moved[user][give] -= 1
        self.offers.append(made.offer_id)

    async def _accept(self, user: str) -> None:
        if not self.offers:
            return
        offer = await self._engine.card_offers.get(self._chance.choice(self.offers[-12:]), None, sees_all=True)
        user = offer.to_user or user
        if user == offer.from_user:
            return
        accepted = await self._engine.card_offers.accept(offer.offer_id, user)
        if self._has_ended(accepted):
            self.moved[user][offer.give] += 1
            self.moved[user][offer.want] -= 1
            self.moved[offer.from_user][offer.want] += 1

    async def _withdraw(self, user: str) -> None:
        if not self.offers:
            return
        offer = await self._engine.card_offers.get(self._chance.choice(self.offers), None, sees_all=True)
        ends = self._engine.card_offers.withdraw if offer.to_user is None else self._engine.card_offers.decline
        if self._has_ended(await ends(offer.offer_id, offer.to_user or offer.from_user)):
            self.moved[offer.from_user][offer.give] += 1

    async def _grant(self, user: str) -> None:
        grant, _ = await self._engine.collecting.grant(self._set_id, user, "shared", **key())
        self.moved[user][grant.card] += 1

    async def _complete(self, user: str) -> None:
        await complete(self._engine, self._set_id, user)
        assert user not in self.completed
        self.completed.add(user)

    def _has_ended(self, offer: CardOffer) -> bool:
        """Whether this is the first answer that tells of the offer's end. All must tell the same."""
        found = (offer.state, offer.accepted_by)
        is_first = offer.offer_id not in self.ended
        assert self.ended.setdefault(offer.offer_id, found) == found
        return is_first

    def _card(self) -> int:
        return self._chance.randint(1, 4)


@pytest.mark.parametrize(("seed", "payout"), [(1, Payout.AT_ONCE), (2, Payout.CLAIMABLE), (3, Payout.AT_ONCE)])
async def test_whatever_collectors_do_at_once(engine: Engine, seed: int, payout: Payout) -> None:
    seconds = 3_600 if payout is Payout.CLAIMABLE else None
    made = await make(
        engine, COUNTS, wild=WILD, granted=(5, 5, 5), pool_fen=99_991, payout=payout, claim_seconds=seconds
    )
    set_id, chance = made.set_id, Random(seed)
    collectors = Collectors(engine, set_id, seed)
    for user in USERS:
        for card in (1, 2, chance.choice((1, 2, 3, 4)), chance.choice((1, 2))):
            try:
                await deal(engine, set_id, user, card)
            except CardLackingError:
                continue  # the owner has none left
            collectors.moved[user][card] += 1

    async def busy(user: str) -> None:
        for _ in range(25):
            await collectors.act(user)

    await asyncio.gather(*map(busy, USERS))
    assert collectors.done["_accept"] > 0
    assert collectors.done["_complete"] > 0
    await assert_conserved(engine, set_id)
    spent = Counter[int]()
    for user in USERS:
        counts = await held(engine, set_id, user)
        assert min(counts) >= 0
        if user not in collectors.completed:  # of the others it depends on which wild cards they needed
            assert dict(enumerate(counts, start=1)) == {card: collectors.moved[user][card] for card in (1, 2, 3, 4)}
        else:
            spent.update({card: collectors.moved[user][card] - counts[card - 1] for card in (1, 2, 3, 4)})
    assert sum(spent.values()) == 3 * len(collectors.completed)
    await end(engine, set_id)
    late = [complete(engine, set_id, user) for user in USERS]
    results = await asyncio.gather(draw(engine), draw(engine), *late, return_exceptions=True)
    assert all(isinstance(result, HongbaoError | None) for result in results), results
    await assert_drawn(engine, set_id, collectors.completed, payout)
    while await offers.expire(engine.pool):
        pass
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []


async def assert_conserved(engine: Engine, set_id: str) -> None:
    """Of each card as many are there as were published, and nobody has less than none."""
    view = await engine.card_views._look(await engine.card_views._register.known(set_id))
    everybody = [await held(engine, set_id, user) for user in USERS]
    for place, card in enumerate(view.cards):
        users = sum(counts[place] for counts in everybody)
        assert users + card.with_owner + card.left_to_grant + card.offered + card.spent == (*COUNTS, WILD)[place]


async def assert_drawn(engine: Engine, set_id: str, completed: set[str], payout: Payout) -> None:
    """Each completer has exactly one share, and all of them are the pool."""
    page = await engine.card_views.shares(set_id, after=None, limit=1_000)
    assert sorted(line.user_id for line in page.shares) == sorted(completed)
    assert sum(line.share_fen for line in page.shares) == 99_991
    if payout is Payout.CLAIMABLE:
        for line in page.shares:
            prizes = await asyncio.gather(*(engine.card_prizes.claim(set_id, line.user_id, **key()) for _ in range(2)))
            assert {prize.share_fen for prize, _ in prizes} == {line.share_fen}
    for line in page.shares:
        assert (await engine.wallets.get(line.user_id)).balance_fen == line.share_fen
    assert (await engine.wallets.get(OWNER)).balance_fen == 0
