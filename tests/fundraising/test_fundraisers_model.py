"""Random walks over fundraisers against a small model: to the fen, and nobody twice."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import FundraiserEndedError, InsufficientFundsError
from engine.fundraising import settling
from engine.fundraising.terms import Mode
from engine.settings import Settings
from tests.support.funds import be_merchant, give, let_time_be_over, make_fundraiser, settle
from tests.support.scenes import assert_books_balance, changed, fund

pytestmark = pytest.mark.long

GIVERS, MERCHANTS = ("ada", "bob", "eve"), ("mall", "shop")
PURSE_FEN = 3_000


class Step(NamedTuple):
    what: str
    place: int
    who: int
    amount_fen: int
    percent: int
    mode: Mode


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["make", "match", "give", "give", "give", "give", "end", "be over", "sweep", "settle"]),
        st.integers(0, 3),
        st.integers(0, 5),
        st.integers(1, 900),
        st.sampled_from([1, 33, 100, 250, 1_000]),
        st.sampled_from(list(Mode)),
    ),
    min_size=10,
    max_size=60,
)


@dataclass
class Match:
    merchant: str
    percent: int
    left_fen: int
    matched_fen: int = 0


@dataclass
class Fundraiser:
    """What a fundraiser must come to: nothing but sums."""

    number: str
    goal_fen: int
    mode: Mode
    is_open: bool = True
    is_settled: bool = False
    gifts: list[tuple[str, int]] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)

    def give(self, giver: str, amount_fen: int) -> int:
        """Take a gift. Returns what is added to it."""
        self.gifts.append((giver, amount_fen))
        added_fen = 0
        for match in self.matches:
            fen = min(match.left_fen, amount_fen * match.percent // 100)
            match.left_fen -= fen
            match.matched_fen += fen
            added_fen += fen
        return added_fen

    def end(self) -> Counter[str]:
        """Who gets what in the end."""
        raised_fen = sum(fen for _, fen in self.gifts) + sum(match.matched_fen for match in self.matches)
        is_kept = self.mode is Mode.KEEP_WHAT_COMES or raised_fen >= self.goal_fen
        paid = Counter({"school": raised_fen if is_kept else 0})
        for match in self.matches:
            paid[match.merchant] += match.left_fen + (0 if is_kept else match.matched_fen)
        for giver, fen in [] if is_kept else self.gifts:
            paid[giver] += fen
        return paid


@pytest.fixture
async def engine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(settling, "RETURNED_AT_ONCE", 2)
    async with Engine.open(changed(settings, open_fundraisers_max=10_000, alert_sends_a_minute_max=0)) as engine:
        for merchant in MERCHANTS:
            await be_merchant(engine, merchant)
        yield engine
        states = await engine.pool.fetch("SELECT state, count(*) FROM fundraisers GROUP BY state")
        assert {row["state"] for row in states} == {"paid_out", "returned"}  # the walks came to something


@examples(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_random_walks_come_to_what_the_model_says(engine: Engine, steps: list[Step]) -> None:
    held = Counter(await holdings(engine))
    for user in (*GIVERS, *MERCHANTS):
        await fund(engine, user, PURSE_FEN)
        held[user] += PURSE_FEN
    known: list[Fundraiser] = []
    for step in steps:
        await take(engine, step, known, held)
        await assert_as(engine, known, held, is_settled=step.what == "settle")
    for one in known:
        await engine.fundraisers.end(one.number, "org")
        one.is_open = False
    await settle(engine)
    await assert_as(engine, known, held, is_settled=True)
    await assert_books_balance(engine.pool)
    assert [finding for finding in await audit(engine.pool, engine.store, engine.stream) if finding.problems] == []


async def take(engine: Engine, step: Step, known: list[Fundraiser], held: Counter[str]) -> None:
    """Take a step, in the engine and in the model."""
    if step.what == "make" or not known:
        number = await make_fundraiser(engine, goal_fen=step.amount_fen * 3, mode=step.mode)
        known.append(Fundraiser(number, step.amount_fen * 3, step.mode))
        return
    one = known[-1 - step.place % len(known)]
    match step.what:
        case "give":
            await giving(engine, step, one, held)
        case "match":
            await matching(engine, step, one, held)
        case "end":
            await engine.fundraisers.end(one.number, "org")
            one.is_open = False
        case "be over" if one.is_open:
            await let_time_be_over(engine, one.number)
            one.is_open = False
        case "sweep":
            await settling.settle_some(engine.pool)
        case "settle":
            await settle(engine)


async def giving(engine: Engine, step: Step, one: Fundraiser, held: Counter[str]) -> None:
    giver = GIVERS[step.who % len(GIVERS)]
    # Gifts that are on their way back may be there already.
    if not one.is_open or (await holdings(engine))[giver] < step.amount_fen:
        with pytest.raises((FundraiserEndedError, InsufficientFundsError)):
            await give(engine, one.number, giver, step.amount_fen, has_money=False)
        return
    given = await give(engine, one.number, giver, step.amount_fen, has_money=False)
    assert given.matched_fen == one.give(giver, step.amount_fen)
    held[giver] -= step.amount_fen


async def matching(engine: Engine, step: Step, one: Fundraiser, held: Counter[str]) -> None:
    merchant = MERCHANTS[step.who % len(MERCHANTS)]
    if not one.is_open or (await holdings(engine))[merchant] < step.amount_fen or len(one.matches) == 10:
        return
    key = f"{one.number} {len(one.matches)}"
    for _ in range(2):  # the second time is a repeat
        await engine.matching.match(
            one.number,
            merchant,
            percent=step.percent,
            budget_fen=step.amount_fen,
            idempotency_key=key,
            request_hash=b"match",
        )
    one.matches.append(Match(merchant, step.percent, step.amount_fen))
    held[merchant] -= step.amount_fen


async def assert_as(engine: Engine, known: list[Fundraiser], held: Counter[str], *, is_settled: bool) -> None:
    """Everybody has what the model says, as far as fundraisers are settled; what is on its way is in between."""
    on_their_way: Counter[str] = Counter()
    for one in known:
        if one.is_open or one.is_settled:
            continue
        one.is_settled = is_settled
        (held if is_settled else on_their_way).update(one.end())
    now = await holdings(engine)
    for user in (*GIVERS, *MERCHANTS, "school"):
        assert held[user] <= now[user] <= held[user] + on_their_way[user], user


async def holdings(engine: Engine) -> Counter[str]:
    rows = await engine.pool.fetch("SELECT owner, balance_fen FROM accounts WHERE kind = 'wallet'")
    return Counter({row["owner"]: row["balance_fen"] for row in rows})
