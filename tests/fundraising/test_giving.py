"""Gifts to a fundraiser: from wallets and from shares, matched, refused, and what becomes of them in the end."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import (
    FrozenError,
    FundraiserEndedError,
    IdempotencyKeyReusedError,
    InsufficientFundsError,
    InvalidFieldsError,
    LimitExceededError,
    NotInLedgerError,
    NotMerchantError,
    NotSenderError,
    ShareGivenError,
    TooManyFundraisersError,
    TooManyMatchesError,
    UnknownFundraiserError,
)
from engine.fundraising import matching, settling
from engine.fundraising.giving import GiftTerms
from engine.fundraising.settling import give_back, pay_out
from engine.fundraising.terms import Mode
from engine.fundraising.views import FundraiserState, GiftState
from engine.settings import Settings
from engine.wallets.wallets import WalletTransfer
from tests.support.funds import (
    balance,
    be_merchant,
    give,
    in_funds,
    let_time_be_over,
    make_fundraiser,
    match,
    settle,
)
from tests.support.scenes import assert_books_balance, caught_up, changed, fund, persisting, send
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


async def test_a_gift_is_given_once_per_key(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    await fund(engine, "ada", 300)
    first = await give(engine, number, key="k", has_money=False)
    again = await give(engine, number, key="k", has_money=False)
    assert (first.replayed, again.replayed, again.gift_id) == (False, True, first.gift_id)
    with pytest.raises(IdempotencyKeyReusedError):
        await engine.giving.give(number, "ada", GiftTerms(amount_fen=1), idempotency_key="k", request_hash=b"another")
    assert await balance(engine, "ada") == 200
    await let_time_be_over(engine, number)
    assert (await give(engine, number, key="k", has_money=False)).replayed  # what was done stays done


async def test_nothing_is_taken_after_the_end(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    await let_time_be_over(engine, number)
    for _ in range(2):
        with pytest.raises(FundraiserEndedError):
            await give(engine, number)
        with pytest.raises(FundraiserEndedError):
            await match(engine, number)
        await settle(engine)
    with pytest.raises(UnknownFundraiserError):
        await give(engine, "77")
    assert await in_funds(engine) == 0


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


async def test_who_may_not_send_may_not_give(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    with pytest.raises(InsufficientFundsError) as caught:
        await give(engine, number, "nobody", has_money=False)
    assert caught.value.field == "amount_fen"
    await fund(engine, "ada", 99)
    with pytest.raises(InsufficientFundsError):
        await give(engine, number, "ada", 100, has_money=False)
    await engine.freezes.freeze("ada", reason="looked into", frozen_by="root")
    with pytest.raises(FrozenError):
        await give(engine, number, "ada", 1)
    with pytest.raises(FrozenError):
        await make_fundraiser(engine, owner="ada")
    assert await in_funds(engine) == 0


async def test_limits_of_sending_bind_gifts_and_matches(settings: Settings) -> None:
    bounded = changed(settings, gift_fen_max=500, person_day_sent_fen_max=600, merchant_day_sent_fen_max=700)
    async with Engine.open(bounded) as engine:
        number = await make_fundraiser(engine)
        for amount_fen in (0, 501):
            with pytest.raises(InvalidFieldsError, match="amount_fen: must be from 1 to 500"):
                await give(engine, number, "ada", amount_fen, has_money=False)
        await give(engine, number, "ada", 500)
        with pytest.raises(LimitExceededError) as caught:
            await give(engine, number, "ada", 101)
        assert caught.value.left_fen == 100
        # The day is counted anew when its limit changes: by what was given, too.
        await engine.pool.execute("DELETE FROM day_totals")
        with pytest.raises(LimitExceededError) as caught:
            await send(engine, "ada", total_fen=101, count=1)
        assert caught.value.left_fen == 100
        await match(engine, number, budget_fen=700)
        with pytest.raises(LimitExceededError):
            await match(engine, number, budget_fen=1)


async def test_large_gifts_and_many_are_told(settings: Settings) -> None:
    watched = changed(settings, alert_large_fen=50, alert_sends_a_minute_max=3, freeze_large_fen=70)
    async with Engine.open(watched) as engine:
        number = await make_fundraiser(engine)
        for _ in range(4):
            await give(engine, number, "ada", 1)
        await give(engine, number, "bob", 70)
        told = [(alert.kind, alert.user_id) for alert in (await engine.alerts.page(after=None, limit=10)).alerts]
        assert sorted(told) == [("burst", "ada"), ("large_movement", "bob")]
        with pytest.raises(FrozenError):
            await give(engine, number, "bob", 1)


async def test_a_share_of_a_packet_is_given_on_once(engine: Engine, settings: Settings) -> None:
    number, other = await make_fundraiser(engine), await make_fundraiser(engine)
    packet_id = (await send(engine, "alice", total_fen=1_000, count=2)).packet_id
    with pytest.raises(NotInLedgerError):
        await give(engine, number, "ada", None, packet_id=packet_id)
    async with persisting(settings):
        share_fen = (await engine.claims.claim(packet_id, "ada")).amount_fen
        await caught_up(engine)
    given = await give(engine, number, "ada", None, packet_id=packet_id)
    assert (given.amount_fen, await balance(engine, "ada")) == (share_fen, 0)
    await fund(engine, "ada", 1_000)
    for fundraiser_id in (number, other):
        with pytest.raises(ShareGivenError):
            await give(engine, fundraiser_id, "ada", None, packet_id=packet_id)
    with pytest.raises(NotInLedgerError):
        await give(engine, number, "bob", None, packet_id=packet_id)
    for terms in (GiftTerms(), GiftTerms(amount_fen=1, packet_id=packet_id)):
        with pytest.raises(InvalidFieldsError, match="amount_fen: must be there if"):
            await engine.giving.give(number, "ada", terms, idempotency_key=uuid4().hex, request_hash=b"give")


async def test_a_share_that_was_spent_cannot_be_given(engine: Engine, settings: Settings) -> None:
    number = await make_fundraiser(engine)
    packet_id = (await send(engine, "alice", total_fen=1_000, count=1)).packet_id
    async with persisting(settings):
        await engine.claims.claim(packet_id, "ada")
        await caught_up(engine)
    await give(engine, number, "ada", 1, has_money=False)
    with pytest.raises(InsufficientFundsError) as caught:
        await give(engine, number, "ada", None, packet_id=packet_id)
    assert caught.value.field == "packet_id"


async def test_points_are_no_gift(engine: Engine, settings: Settings) -> None:
    number = await make_fundraiser(engine)
    await engine.assets.define("POINTS", scale=0, name="points")
    points = await engine.assets.named("POINTS")
    await engine.assets.issue("alice", 10, points, idempotency_key="i", request_hash=b"issue")
    packet_id = (await send(engine, "alice", total_fen=10, count=1, asset="POINTS")).packet_id
    async with persisting(settings):
        await engine.claims.claim(packet_id, "ada")
        await caught_up(engine)
    with pytest.raises(InvalidFieldsError, match="packet_id: must be of money"):
        await give(engine, number, "ada", None, packet_id=packet_id)


async def test_matches_add_in_order_until_their_budgets_are_used_up(engine: Engine) -> None:
    number = await make_fundraiser(engine, goal_fen=10_000, mode=Mode.KEEP_WHAT_COMES)
    await give(engine, number, "ada", 1_000)  # before any match
    await match(engine, number, "mall", percent=50, budget_fen=60)
    await match(engine, number, "shop", percent=200, budget_fen=500)
    gifts = [await give(engine, number, "bob", amount_fen) for amount_fen in (101, 1, 50, 300)]
    assert [gift.matched_fen for gift in gifts] == [50 + 202, 0 + 2, 10 + 100, 196]
    view = await engine.fundraiser_views.get(number)
    assert [(found.merchant, found.matched_fen) for found in view.matches] == [("mall", 60), ("shop", 500)]
    assert (view.given_fen, view.matched_fen) == (1_452, 560)
    await let_time_be_over(engine, number)
    await settle(engine)
    assert (await balance(engine, "school"), await in_funds(engine)) == (2_012, 0)
    assert (await balance(engine, "mall"), await balance(engine, "shop")) == (0, 0)


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


async def test_only_merchants_match_and_not_too_often(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await make_fundraiser(engine)
    await fund(engine, "ada", 10)
    matching_as = partial(engine.matching.match, number, request_hash=b"match")
    with pytest.raises(NotMerchantError):
        await matching_as("ada", percent=1, budget_fen=10, idempotency_key="a")
    await be_merchant(engine, "ada")
    for percent, budget_fen in ((0, 10), (1_001, 10), (1, 0), (1, 10**15 + 1)):
        with pytest.raises(InvalidFieldsError):
            await matching_as("ada", percent=percent, budget_fen=budget_fen, idempotency_key=uuid4().hex)
    with pytest.raises(InsufficientFundsError) as caught:
        await matching_as("ada", percent=1, budget_fen=11, idempotency_key="b")
    assert caught.value.field == "budget_fen"
    with pytest.raises(UnknownFundraiserError):
        await engine.matching.match("77", "ada", percent=1, budget_fen=1, idempotency_key="c", request_hash=b"m")
    monkeypatch.setattr(matching, "MATCHES_MAX", 1)
    first = await matching_as("ada", percent=1, budget_fen=4, idempotency_key="d")
    again = await matching_as("ada", percent=1, budget_fen=4, idempotency_key="d")
    assert (first.match_id, again.replayed) == (again.match_id, True)
    with pytest.raises(TooManyMatchesError):
        await matching_as("ada", percent=1, budget_fen=4, idempotency_key="e")
    assert await balance(engine, "ada") == 6


async def test_a_user_has_only_so_many_open_fundraisers(settings: Settings) -> None:
    async with Engine.open(changed(settings, open_fundraisers_max=2)) as engine:
        first = await make_fundraiser(engine)
        made = await asyncio.gather(*(make_fundraiser(engine) for _ in range(4)), return_exceptions=True)
        assert [type(each) for each in made].count(TooManyFundraisersError) == 3
        await let_time_be_over(engine, first)
        await settle(engine)
        await make_fundraiser(engine)


async def test_bad_terms_are_all_named(engine: Engine) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await make_fundraiser(engine, title="", story="x" * 5_001, goal_fen=0, ends_at_ms=1)
    assert [problem.field for problem in caught.value.problems] == ["title", "story", "goal_fen", "ends_at_ms"]
    with pytest.raises(InvalidFieldsError) as caught:
        await make_fundraiser(engine, title="a\u202eb", story="\u200b", ends_at_ms=2**53)
    assert [problem.field for problem in caught.value.problems] == ["title", "story", "ends_at_ms"]
    number = await make_fundraiser(engine)
    for message in ("x" * 201, "\x00", "a\nb"):
        with pytest.raises(InvalidFieldsError, match="message"):
            await give(engine, number, message=message)


async def test_gifts_are_listed_and_anonymous_ones_have_no_name(engine: Engine) -> None:
    number = await make_fundraiser(engine)
    await give(engine, number, "ada", 1, message="加油")
    await give(engine, number, "bob", 2, is_anonymous=True)
    await give(engine, number, "eve", 3, is_anonymous=True)

    async def listed(reader: str | None, *, sees_all: bool = False) -> list[str | None]:
        page = await engine.fundraiser_views.gifts(number, reader=reader, sees_all=sees_all, after=None, limit=10)
        return [gift.giver for gift in page.gifts]

    assert await listed("ada") == [None, None, "ada"]
    assert await listed("bob") == [None, "bob", "ada"]
    assert await listed(None, sees_all=True) == ["eve", "bob", "ada"]
    page = await engine.fundraiser_views.gifts(number, reader=None, sees_all=False, after=None, limit=2)
    assert [gift.amount_fen for gift in page.gifts] == [3, 2]
    page = await engine.fundraiser_views.gifts(number, reader=None, sees_all=False, after=page.next, limit=2)
    assert ([(gift.message, gift.state) for gift in page.gifts], page.next) == ([("加油", GiftState.HELD)], None)
    with pytest.raises(UnknownFundraiserError):
        await engine.fundraiser_views.gifts("77", reader=None, sees_all=True, after=None, limit=2)


async def test_an_owners_fundraisers_are_listed(engine: Engine) -> None:
    numbers = [await make_fundraiser(engine) for _ in range(3)]
    await make_fundraiser(engine, owner="other")
    page = await engine.fundraiser_views.of_owner("org", after=None, limit=2)
    assert [line.fundraiser_id for line in page.fundraisers] == [numbers[2], numbers[1]]
    page = await engine.fundraiser_views.of_owner("org", after=page.next, limit=2)
    assert ([line.fundraiser_id for line in page.fundraisers], page.next) == ([numbers[0]], None)


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
