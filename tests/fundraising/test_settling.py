"""What becomes of a fundraiser in the end: it is paid out or every gift goes back, once, whoever settles it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import (
    FundraiserEndedError,
    NotSenderError,
    UnknownFundraiserError,
)
from engine.fundraising import settling
from engine.fundraising.settling import give_back, pay_out
from engine.fundraising.terms import Mode
from engine.fundraising.views import FundraiserState
from engine.settings import Settings
from engine.wallets.wallets import WalletTransfer
from tests.support.funds import (
    balance,
    give,
    in_funds,
    let_time_be_over,
    make_fundraiser,
    match,
    settle,
)
from tests.support.scenes import assert_books_balance, fund
from tests.support.waiting import wait_until


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine
        await assert_books_balance(engine.pool)
        findings = await audit(engine.pool, engine.store, engine.stream)
        assert [problem for finding in findings for problem in finding.problems] == []


async def test_a_goal_that_is_reached_is_paid_to_the_beneficiary(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=300)
    await give(engine, number, "ada", 100)
    await give(engine, number, "bob", 200)
    view = await engine.fundraiser_views.get(number)
    assert (view.state, view.gift_count, view.given_fen, view.raised_fen) == (FundraiserState.OPEN, 2, 300, 300)
    assert view.is_goal_reached
    assert 0 < view.left_ms <= 3_600_000
    await settle(engine)  # its time is not over
    assert await balance(engine, "school") == 0
    await let_time_be_over(engine, number)
    assert (await engine.fundraiser_views.get(number)).state is FundraiserState.ENDING
    await settle(engine)
    view = await engine.fundraiser_views.get(number)
    assert (view.state, view.given_fen, view.left_ms) == (FundraiserState.PAID_OUT, 300, 0)
    assert (await balance(engine, "school"), await in_funds(engine)) == (300, 0)
    await settle(engine)
    assert await balance(engine, "school") == 300


async def test_a_goal_that_is_missed_gives_every_gift_back(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=301)
    for giver, amount_fen in (("ada", 100), ("bob", 150), ("ada", 50)):
        await give(engine, number, giver, amount_fen)
    await let_time_be_over(engine, number)
    await settle(engine)
    view = await engine.fundraiser_views.get(number)
    assert (view.state, view.returned_count, view.returned_fen) == (FundraiserState.RETURNED, 3, 300)
    assert (await balance(engine, "ada"), await balance(engine, "bob"), await in_funds(engine)) == (150, 150, 0)
    assert await balance(engine, "school") == 0
    kinds = [(entry.kind, entry.amount_fen) for entry in await entries(engine, "bob")]
    assert kinds == [("gift_return", 150), ("gift", -150), ("deposit", 150)]


async def entries(engine: Engine, user_id: str) -> list[WalletTransfer]:
    return (await engine.wallets.transfers(user_id, after=None, limit=20)).transfers


async def test_whoever_is_frozen_meanwhile_gets_their_gift_back_too(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    await match(engine, number, "mall", budget_fen=50)
    await give(engine, number, "ada", 100)
    for user in ("ada", "mall", "org"):
        await engine.freezes.freeze(user, reason="looked into", frozen_by="root")
    await let_time_be_over(engine, number)
    await settle(engine)
    assert (await balance(engine, "ada"), await balance(engine, "mall"), await in_funds(engine)) == (100, 50, 0)


async def test_what_comes_is_kept_if_that_was_said(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=1_000, mode=Mode.KEEP_WHAT_COMES)
    await give(engine, number, "ada", 7)
    await let_time_be_over(engine, number)
    await settle(engine)
    view = await engine.fundraiser_views.get(number)
    assert (view.state, view.is_goal_reached) == (FundraiserState.PAID_OUT, False)
    assert await balance(engine, "school") == 7


@pytest.mark.parametrize(
    ("mode", "state"),
    [(Mode.ALL_OR_NOTHING, FundraiserState.RETURNED), (Mode.KEEP_WHAT_COMES, FundraiserState.PAID_OUT)],
)
async def test_one_without_a_gift_ends_too(engine: Engine, mode: Mode, state: FundraiserState) -> None:
    number = await make_fundraiser(engine, mode=mode)
    await match(engine, number, "mall", budget_fen=50)
    await let_time_be_over(engine, number)
    await settle(engine)
    assert (await engine.fundraiser_views.get(number)).state is state
    assert (await balance(engine, "mall"), await balance(engine, "school")) == (50, 0)


async def test_its_owner_ends_it_early(engine: Engine) -> None:
    reached, missed = [await make_fundraiser(engine, goal_fen=goal_fen) for goal_fen in (100, 101)]
    for number in (reached, missed):
        await give(engine, number, "ada", 100)
        with pytest.raises(NotSenderError):
            await engine.fundraisers.end(number, "school")
        await engine.fundraisers.end(number, "org")
        await engine.fundraisers.end(number, "org")
        with pytest.raises(FundraiserEndedError):
            await give(engine, number)
    await settle(engine)
    states = [(await engine.fundraiser_views.get(number)).state for number in (reached, missed)]
    assert states == [FundraiserState.PAID_OUT, FundraiserState.RETURNED]
    assert (await engine.fundraiser_views.get(reached)).is_ended_early
    await engine.fundraisers.end(reached, "org")
    with pytest.raises(UnknownFundraiserError):
        await engine.fundraisers.end("77", "org")


async def test_what_is_left_of_a_match_goes_back(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=150)
    await match(engine, number, "mall", budget_fen=500)
    await give(engine, number, "ada", 75)  # with as much from the mall the goal is reached
    await let_time_be_over(engine, number)
    await settle(engine)
    assert (await balance(engine, "school"), await balance(engine, "mall")) == (150, 425)


async def test_a_missed_goal_gives_matches_back_too(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=151)
    await match(engine, number, "mall", budget_fen=500)
    await match(engine, number, "shop", percent=1, budget_fen=7)
    await give(engine, number, "ada", 75)
    await let_time_be_over(engine, number)
    await settle(engine)
    assert [await balance(engine, user) for user in ("ada", "mall", "shop", "school")] == [75, 500, 7, 0]


async def test_gifts_race_the_end(engine: Engine) -> None:
    """Whatever gift is answered is in the sum that is paid or returned. The others are refused."""
    number = await make_fundraiser(engine, goal_fen=10**6)
    await match(engine, number, percent=30, budget_fen=400)
    for hand in range(8):
        await fund(engine, f"user{hand}", 1_000)

    async def keep_giving(hand: int) -> int:
        for count in range(100):
            try:
                await give(engine, number, f"user{hand}", 7, has_money=False)
            except FundraiserEndedError:
                return count
        return 100

    async def are_some_given() -> bool:
        return (await engine.fundraiser_views.get(number)).gift_count >= 40

    async def end() -> None:
        await wait_until(are_some_given, what="some gifts")
        await engine.fundraisers.end(number, "org")
        await asyncio.gather(settle(engine), settle(engine), settle(engine))

    async with asyncio.TaskGroup() as group:
        hands = [group.create_task(keep_giving(hand)) for hand in range(8)]
        group.create_task(end())
    counts = [hand.result() for hand in hands]
    await settle(engine)
    view = await engine.fundraiser_views.get(number)
    assert (view.state, view.gift_count, view.returned_count) == (FundraiserState.RETURNED, sum(counts), sum(counts))
    assert [await balance(engine, f"user{hand}") for hand in range(8)] == [1_000] * 8
    assert (await balance(engine, "mall"), await in_funds(engine)) == (400, 0)


@pytest.mark.long
async def test_several_sweepers_return_each_gift_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "RETURNED_AT_ONCE", 5)
    number = await make_fundraiser(engine, goal_fen=10**6)
    for place in range(60):
        await give(engine, number, f"user{place % 7}", 10)
    await let_time_be_over(engine, number)
    assert await engine.pool.fetchval("UPDATE fundraisers SET state = 'returning', decided_at_ms = 1 RETURNING state")

    async def sweep() -> None:
        while await give_back(engine.pool, int(number)):
            pass

    await asyncio.gather(*(sweep() for _ in range(4)))
    await settle(engine)
    assert (await engine.fundraiser_views.get(number)).state is FundraiserState.RETURNED
    returns = await engine.pool.fetchval("SELECT count(*) FROM transfers WHERE kind = 'gift_return'")
    assert (returns, await in_funds(engine)) == (60, 0)


async def test_several_sweepers_pay_out_once(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=10)
    await match(engine, number, "mall", budget_fen=500)
    await give(engine, number, "ada", 10)
    await let_time_be_over(engine, number)
    assert await engine.pool.fetchval("UPDATE fundraisers SET state = 'paying', decided_at_ms = 1 RETURNING state")
    await asyncio.gather(*(pay_out(engine.pool, int(number)) for _ in range(4)))
    assert (await balance(engine, "school"), await balance(engine, "mall")) == (20, 490)


async def test_what_is_settled_never_changes(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    await give(engine, number)
    await let_time_be_over(engine, number)
    await settle(engine)
    for change in (
        "UPDATE fundraisers SET state = 'returning', settled_at_ms = NULL",
        "UPDATE fundraiser_gifts SET return_transfer_id = NULL",
        "DELETE FROM fundraiser_gifts",
        "DELETE FROM fundraisers",
        "DELETE FROM fundraiser_matches",
    ):
        with pytest.raises(asyncpg.PostgresError, match="never changed"):
            await engine.pool.execute(change)
