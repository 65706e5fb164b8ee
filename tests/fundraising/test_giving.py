"""Gifts to a fundraiser: from wallets and from shares, matched, and refused; and who sees them."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

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
    ShareGivenError,
    TooManyFundraisersError,
    TooManyMatchesError,
    UnknownFundraiserError,
)
from engine.fundraising import matching
from engine.fundraising.giving import GiftTerms
from engine.fundraising.terms import Mode
from engine.fundraising.views import GiftState
from engine.ledger.money import now_ms
from engine.settings import Settings
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
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    persisting,
    send,
    waits_for_a_lock,
)
from tests.support.waiting import wait_until


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(settings) as engine:
        yield engine
        await assert_books_balance(engine.pool)
        findings = await audit(engine.pool, engine.store, engine.stream)
        assert [problem for finding in findings for problem in finding.problems] == []


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


async def test_a_gift_that_waits_past_the_end_is_refused(engine: Engine) -> None:
    """Its time is that of when its turn has come."""
    number = await make_fundraiser(engine)
    await fund(engine, "ada", 100)
    ends_at_ms = await now_ms(engine.pool) + 1_500
    await engine.pool.execute("UPDATE fundraisers SET ends_at_ms = $1", ends_at_ms)
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM fundraisers FOR UPDATE")
        giving = asyncio.create_task(give(engine, number, has_money=False))
        await wait_until(partial(waits_for_a_lock, engine), what="the gift's waiting")
        assert await now_ms(connection) < ends_at_ms

        async def is_over() -> bool:
            return await now_ms(engine.pool) > ends_at_ms

        await wait_until(is_over, what="its end")
    with pytest.raises(FundraiserEndedError):
        await giving


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
