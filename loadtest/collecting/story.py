"""A set of cards from its making to its draw, by use cases of the engine, beside its own persister and sweeper."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

from engine.cards.terms import CardTerms, Payout, SetTerms, set_terms
from engine.engine import Engine
from engine.errors import HongbaoError, UnavailableError
from engine.packets.terms import terms_from
from engine.records import SplitKind
from engine.risk.limits import AccountKind
from loadtest.steps import Step, Steps

OWNER = "mall"
NAMES = ("爱国福", "富强福", "和谐福", "友善福", "敬业福")
_CLAIMS_AT_ONCE, _BATCHES_AT_ONCE = 500, 4
_SETTLED_S_MAX = 600.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much there is of everything.

    Every user gets the first four cards, and the first ``completers`` the fifth. ``late``: completers who wait for the
    set's last two seconds. ``seconds``: from making the set to its end.
    """

    users: int
    completers: int
    gifts: int
    offers: int
    late: int
    seconds: int
    hands: int = 24
    pool_fen: int = 0
    seed: int = 1

    @property
    def pool(self) -> int:
        """The pool: some yuan for each, and not a multiple of their number."""
        return self.pool_fen or self.completers * 200 + 77


FULL = Sizes(users=200_000, completers=104_000, gifts=20_000, offers=20_000, late=4_000, seconds=900)


@dataclass(slots=True)
class Story:
    """What happened. ``answers``: how often each act was answered how. ``problems``: what must not be."""

    answers: Counter[str] = field(default_factory=Counter)
    completed: set[str] = field(default_factory=set)
    took_s: dict[str, float] = field(default_factory=dict)
    shares: int = 0
    least_fen: int = 0
    most_fen: int = 0
    drawn_after_s: float = 0.0
    problems: list[str] = field(default_factory=list)


async def play(engine: Engine, sizes: Sizes, steps: Steps) -> Story:
    """Play it all. Raises as the engine does if the set cannot be made."""
    stage = _Stage(engine, sizes, steps)
    await stage.make()
    await stage.drop()
    await stage.collect()
    await stage.finish()
    await stage.compare()
    return stage.story


class _Stage:
    def __init__(self, engine: Engine, sizes: Sizes, steps: Steps) -> None:
        self._engine, self._sizes, self._steps = engine, sizes, steps
        self._chance, self.story = random.Random(sizes.seed), Story()
        self._users = [f"u{number:07}" for number in range(sizes.users)]
        self._set_id = ""
        self._ends_s = 0.0

    async def make(self) -> None:
        """A set whose cards are all dropped: the fifth is scarce."""
        engine, sizes = self._engine, self._sizes
        await engine.wallets.deposit(OWNER, sizes.pool, **_key())
        await engine.profiles.put(OWNER, AccountKind.MERCHANT, [], {}, changed_by="loadtest")
        counts = [sizes.users] * 4 + [sizes.completers]

        def terms(now_ms: int) -> SetTerms:
            ends_at_ms = now_ms + sizes.seconds * 1000
            return set_terms(
                settings=engine.settings,
                now_ms=now_ms,
                name="集五福",
                cards=[CardTerms(name=name, count=count) for name, count in zip(NAMES, counts, strict=True)],
                wild=None,
                pool_fen=sizes.pool,
                split=SplitKind.LUCKY,
                min_fen=1,
                payout=Payout.AT_ONCE,
                claim_seconds=None,
                grants_a_user_max=0,
                ends_at_ms=ends_at_ms,
                draws_at_ms=ends_at_ms,
            )

        self._set_id = (await engine.card_sets.make(OWNER, terms, address="", **_key())).set_id
        view = await engine.card_views.get(self._set_id)
        self._ends_s = time.monotonic() + (view.ends_at_ms - view.now_ms) / 1000

    async def drop(self) -> None:
        """Each card by a packet of as many shares as there are, claimed by those who are to have it."""
        began_s, engine = time.monotonic(), self._engine
        view = await engine.card_views.get(self._set_id)
        packets = []
        for card in view.cards:
            terms = terms_from(
                settings=engine.settings,
                total_fen=card.count,
                count=card.count,
                split=SplitKind.EQUAL,
                asset=card.asset,
            )
            packets.append((await engine.packets.send(OWNER, terms, **_key())).packet_id)
        total = sum(card.count for card in view.cards)
        with self._steps.step("cards dropped", total) as step:
            for packet_id, card in zip(packets, view.cards, strict=True):
                users = self._users[: card.count]
                batches = [users[first : first + _CLAIMS_AT_ONCE] for first in range(0, len(users), _CLAIMS_AT_ONCE)]
                claims = [partial(self._claim, packet_id, batch, step) for batch in batches]
                await _all(claims, None, hands=_BATCHES_AT_ONCE)
            await self._wait(partial(self._are_settled, packets), "the cards are in the ledger")
        self.story.took_s["cards dropped"] = time.monotonic() - began_s

    async def _claim(self, packet_id: str, users: Sequence[str], step: Step) -> None:
        """Claim for some users, and again for those who were answered to try again."""
        while users:
            answers = await self._engine.claims.claim_many([(packet_id, user) for user in users])
            again = [user for user, answer in zip(users, answers, strict=True) if isinstance(answer, UnavailableError)]
            step.done += len(users) - len(again)
            if again:
                await asyncio.sleep(_POLL_S)
            users = again

    async def _are_settled(self, packets: Sequence[str]) -> bool:
        query = "SELECT count(*) FROM packets WHERE settled_at_ms IS NOT NULL AND packet_id = ANY ($1::bigint[])"
        settled: int = await self._engine.pool.fetchval(query, list(map(int, packets)))
        return settled == len(packets)

    async def collect(self) -> None:
        """Gifts, exchanges and completions, all of them at once and in an order of chance."""
        sizes, began_s = self._sizes, time.monotonic()
        early = self._users[: sizes.completers - sizes.late]
        acts: list[Callable[[], Awaitable[object]]] = [partial(self._complete, user) for user in early]
        acts += [self._give] * sizes.gifts + [self._exchange] * sizes.offers
        self._chance.shuffle(acts)
        with self._steps.step("gifts, exchanges, completions", len(acts)) as step:
            await _all(acts, step, hands=sizes.hands)
        self.story.took_s["gifts, exchanges, completions"] = time.monotonic() - began_s

    async def finish(self) -> None:
        """The last completers race the end of the set and the draw. Then the pool is drawn."""
        late = self._users[self._sizes.completers - self._sizes.late : self._sizes.completers]
        if (left_s := self._ends_s - time.monotonic()) < 0:
            self.story.problems.append(f"the set was over {-left_s:.0f} s too early: give it more --seconds")
        await asyncio.sleep(max(0.0, self._ends_s - time.monotonic() - 2.0))
        with self._steps.step("completions at the end", len(late)) as step:
            await _all([partial(self._complete, user) for user in late], step, hands=self._sizes.hands)
        await self._wait(self._is_settled, "the pool is drawn")
        view = await self._engine.card_views.get(self._set_id)
        self.story.drawn_after_s = ((view.drawn_at_ms or 0) - view.draws_at_ms) / 1000

    async def _is_settled(self) -> bool:
        return (await self._engine.card_views.get(self._set_id)).state == "settled"

    async def compare(self) -> None:
        """Every completer has one share, in their wallet, and all shares are the pool."""
        pool, story, number = self._engine.pool, self.story, int(self._set_id)
        rows = await pool.fetch(
            "SELECT user_id, share_fen, balance_fen FROM card_shares"
            " LEFT JOIN accounts ON kind = 'wallet' AND owner = user_id WHERE set_id = $1",
            number,
        )
        story.shares = len(rows)
        story.least_fen = min((row["share_fen"] for row in rows), default=0)
        story.most_fen = max((row["share_fen"] for row in rows), default=0)
        if {row["user_id"] for row in rows} != story.completed:
            story.problems.append(f"{len(rows)} have a share, {len(story.completed)} were told that they completed it")
        if (total := sum(row["share_fen"] for row in rows)) != self._sizes.pool:
            story.problems.append(f"the shares sum to {total} fen, the pool was {self._sizes.pool}")
        if wrong := sum(row["share_fen"] != row["balance_fen"] for row in rows):
            story.problems.append(f"{wrong} wallets do not hold the share")

    async def _complete(self, user: str) -> None:
        if await self._act("completion", self._engine.collecting.complete(self._set_id, user, **_key())):
            self.story.completed.add(user)

    async def _give(self) -> None:
        giver, taker = self._chance.sample(self._users, 2)
        card = self._chance.randint(1, 4)
        await self._act("gift", self._engine.collecting.give(self._set_id, giver, card, taker, **_key()))

    async def _exchange(self) -> None:
        """An offer to anyone, which another user accepts; one in four is withdrawn at the same moment."""
        trader, other = self._chance.sample(self._users, 2)
        give, want = self._chance.sample((1, 2, 3, 4), 2)
        offers = self._engine.card_offers
        made = await self._act("offer", offers.make(self._set_id, trader, give=give, want=want, to_user=None, **_key()))
        if made is None:
            return
        acts = [self._act("exchange", offers.accept(made[0].offer_id, other))]
        if self._chance.random() < 0.25:
            acts.append(self._act("withdrawal", offers.withdraw(made[0].offer_id, trader)))
        await asyncio.gather(*acts)

    async def _act(self, name: str, act: Awaitable[Any]) -> Any:  # noqa: ANN401  # what the use case returns
        """What was answered, or None if a rule refused. A server that cannot answer now is a problem."""
        try:
            answer = await act
        except UnavailableError as error:
            self.story.problems.append(f"{name}: {error}")
            answer = None
        except HongbaoError as error:
            self.story.answers[f"{name}: {error.code}"] += 1
            return None
        self.story.answers[name] += 1
        return answer

    async def _wait(self, is_done: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline_s = time.monotonic() + _SETTLED_S_MAX
        while not await is_done():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"It took more than {_SETTLED_S_MAX:g} s until {what}.")
            await asyncio.sleep(_POLL_S)


async def _all(acts: Sequence[Callable[[], Awaitable[object]]], step: Step | None, *, hands: int) -> None:
    """Do all acts, some of them at once."""
    waiting = iter(acts)

    async def hand() -> None:
        for act in waiting:
            await act()
            if step is not None:
                step.advance()

    await asyncio.gather(*(hand() for _ in range(min(hands, len(acts)))))


def _key() -> dict[str, Any]:
    return {"idempotency_key": uuid4().hex, "request_hash": b"loadtest"}
