"""Exchanges: the offered card is put aside, both cards move at once or none, and every offer ends once."""

import asyncio
from typing import Any

import pytest

from engine.cards import moving, offers
from engine.cards.offers import OPEN_MAX, OfferState
from engine.engine import Engine
from engine.errors import (
    CardLackingError,
    CardOfferEndedError,
    CardSetEndedError,
    FrozenError,
    InvalidFieldsError,
    NotSenderError,
    TooManyCardOffersError,
    UnknownCardOfferError,
)
from tests.support.collectors import complete, deal, end, held, key, make
from tests.support.scenes import assert_books_balance


async def offer(
    engine: Engine, set_id: str, user: str = "ada", *, give: int = 1, want: int = 2, to: str | None = None
) -> str:
    """An offer's number."""
    made, _ = await engine.card_offers.make(set_id, user, give=give, want=want, to_user=to, **key())
    assert made.state is OfferState.OPEN
    return made.offer_id


async def let_run_out(engine: Engine, offer_id: str) -> None:
    await engine.pool.execute("UPDATE card_offers SET expires_at_ms = made_at_ms WHERE offer_id = $1", int(offer_id))


async def test_both_cards_move_at_once(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    await deal(engine, set_id, "bob", 2)
    offer_id = await offer(engine, set_id)
    assert await held(engine, set_id, "ada") == [0, 0, 0]
    assert [card.offered for card in (await engine.card_views.of_user(set_id, "ada")).cards] == [1, 0, 0]
    accepted = await engine.card_offers.accept(offer_id, "bob")
    assert (accepted.state, accepted.accepted_by) == (OfferState.ACCEPTED, "bob")
    assert await engine.card_offers.accept(offer_id, "bob") == accepted
    assert await engine.card_offers.get(offer_id, "eve") == accepted
    assert await held(engine, set_id, "ada") == [0, 1, 0]
    assert await held(engine, set_id, "bob") == [1, 0, 0]
    await assert_books_balance(engine.pool)


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_repeat_is_answered_alike_if_the_first_is_done_meanwhile(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, is_over: bool
) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    await deal(engine, set_id, "bob", 2)
    offer_id = await offer(engine, set_id)
    look = moving.must_have_one
    first: list[object] = []

    async def look_late(*arguments: Any) -> None:  # noqa: ANN401  # as the one that it stands for
        if not first:
            first.append(None)
            first.append(await engine.card_offers.accept(offer_id, "bob"))
            if is_over:
                await end(engine, set_id)
        await look(*arguments)

    monkeypatch.setattr(moving, "must_have_one", look_late)
    assert await engine.card_offers.accept(offer_id, "bob") == first[1]


async def test_it_is_made_once_per_key(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    values = key()
    first, _ = await engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **values)
    again, replayed = await engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **values)
    assert (again, replayed) == (first, True)


async def test_an_offer_to_a_user_is_for_no_other(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    await deal(engine, set_id, "eve", 2)
    offer_id = await offer(engine, set_id, to="bob")
    for act in (engine.card_offers.accept(offer_id, "eve"), engine.card_offers.get(offer_id, "eve")):
        with pytest.raises(UnknownCardOfferError):
            await act
    with pytest.raises(NotSenderError):
        await engine.card_offers.withdraw(offer_id, "bob")
    with pytest.raises(NotSenderError):
        await engine.card_offers.decline(offer_id, "ada")
    declined = await engine.card_offers.decline(offer_id, "bob")
    assert declined.state is OfferState.DECLINED
    assert (await engine.card_offers.decline(offer_id, "bob")).state is OfferState.DECLINED
    with pytest.raises(CardOfferEndedError):
        await engine.card_offers.accept(offer_id, "bob")
    assert await held(engine, set_id, "ada") == [1, 0, 0]
    with pytest.raises(UnknownCardOfferError):
        await engine.card_offers.get("999", None, sees_all=True)


async def test_who_made_it_withdraws_it(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    offer_id = await offer(engine, set_id)
    with pytest.raises(NotSenderError):
        await engine.card_offers.decline(offer_id, "bob")  # it is for anyone: nobody in particular declines it
    with pytest.raises(InvalidFieldsError, match="offer_id"):
        await engine.card_offers.accept(offer_id, "ada")
    assert (await engine.card_offers.withdraw(offer_id, "ada")).state is OfferState.WITHDRAWN
    assert (await engine.card_offers.withdraw(offer_id, "ada")).state is OfferState.WITHDRAWN
    assert await held(engine, set_id, "ada") == [1, 0, 0]
    await assert_books_balance(engine.pool)


async def test_who_lacks_the_wanted_card_gets_nothing(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    await deal(engine, set_id, "bob", 3)
    offer_id = await offer(engine, set_id)
    with pytest.raises(CardLackingError):
        await engine.card_offers.accept(offer_id, "bob")
    with pytest.raises(CardLackingError):
        await engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **key())
    assert await held(engine, set_id, "bob") == [0, 0, 1]
    assert (await engine.card_offers.get(offer_id, None, sees_all=True)).state is OfferState.OPEN


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"give": 0}, "give"),
        ({"want": 4}, "want"),
        ({"want": 1}, "want"),
        ({"to_user": "ada"}, "to_user"),
        ({"seconds": 59}, "seconds"),
        ({"seconds": 10**9}, "seconds"),
    ],
)
async def test_a_bad_offer_is_refused_by_its_field(engine: Engine, changed: dict[str, int | str], field: str) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    values = {"give": 1, "want": 2, "to_user": None} | changed | key()
    with pytest.raises(InvalidFieldsError) as caught:
        await engine.card_offers.make(set_id, "ada", **values)
    assert [problem.field for problem in caught.value.problems] == [field]


async def test_offers_that_nobody_accepts_come_back(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 1, 3)
    await deal(engine, set_id, "bob", 2)
    numbers = [await offer(engine, set_id), await offer(engine, set_id), await offer(engine, set_id, give=3)]
    for number in numbers[:2]:
        await let_run_out(engine, number)
    with pytest.raises(CardOfferEndedError):
        await engine.card_offers.accept(numbers[0], "bob")
    assert await offers.expire(engine.pool) is False
    states = [(await engine.card_offers.get(number, None, sees_all=True)).state for number in numbers]
    assert states == [OfferState.EXPIRED, OfferState.EXPIRED, OfferState.OPEN]
    assert await held(engine, set_id, "ada") == [2, 0, 0]
    await assert_books_balance(engine.pool)


async def test_no_exchange_after_the_end(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    await deal(engine, set_id, "bob", 2)
    offer_id = await offer(engine, set_id)
    assert (await engine.card_offers.get(offer_id, None, sees_all=True)).expires_at_ms <= (
        await engine.card_views.get(set_id)
    ).ends_at_ms
    await end(engine, set_id)
    with pytest.raises(CardSetEndedError):
        await engine.card_offers.accept(offer_id, "bob")
    assert (await engine.card_offers.withdraw(offer_id, "ada")).state is OfferState.WITHDRAWN


async def test_a_frozen_user_exchanges_nothing(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 1)
    await deal(engine, set_id, "bob", 2)
    offer_id = await offer(engine, set_id)
    for frozen in ("ada", "bob"):
        await engine.freezes.freeze(frozen, reason="odd", frozen_by="root")
        with pytest.raises(FrozenError):
            await engine.card_offers.accept(offer_id, "bob")
        await engine.freezes.lift(frozen, reason="fine", lifted_by="root")
    await engine.freezes.freeze("ada", reason="odd", frozen_by="root")
    for act in (
        engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **key()),
        engine.card_offers.withdraw(offer_id, "ada"),
    ):
        with pytest.raises(FrozenError):
            await act


async def test_a_user_has_so_many_open_offers(engine: Engine) -> None:
    set_id = (await make(engine, (OPEN_MAX + 1, 1))).set_id
    await deal(engine, set_id, "ada", *([1] * (OPEN_MAX + 1)))
    numbers = [await offer(engine, set_id) for _ in range(OPEN_MAX)]
    with pytest.raises(TooManyCardOffersError):
        await offer(engine, set_id)
    await engine.card_offers.withdraw(numbers[0], "ada")
    await offer(engine, set_id)


async def test_of_many_who_accept_one_gets_it(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    users = [f"user{number}" for number in range(6)]
    for user in users:
        await deal(engine, set_id, user, 2)
    offer_id = await offer(engine, set_id)
    results = await asyncio.gather(
        *(engine.card_offers.accept(offer_id, user) for user in users), return_exceptions=True
    )
    assert sum(isinstance(result, CardOfferEndedError) for result in results) == 5
    assert await held(engine, set_id, "ada") == [0, 1, 0]
    assert sorted([await held(engine, set_id, user) for user in users]) == [[0, 1, 0]] * 5 + [[1, 0, 0]]
    await assert_books_balance(engine.pool)


async def test_the_last_card_is_given_exchanged_or_spent_and_not_two_of_them(engine: Engine) -> None:
    for number in range(10):
        set_id = (await make(engine, (2, 2), pool_fen=100)).set_id
        await deal(engine, set_id, "ada", 1)
        await deal(engine, set_id, "bob", 1, 2)
        offer_id = await offer(engine, set_id)
        acts = [
            engine.card_offers.accept(offer_id, "bob"),
            complete(engine, set_id, "bob"),
            engine.collecting.give(set_id, "bob", 2, "eve", **key()),
            engine.card_offers.withdraw(offer_id, "ada"),
        ]
        acts = acts[number % 4 :] + acts[: number % 4]
        results = await asyncio.gather(*acts, return_exceptions=True)
        expected = CardLackingError | CardOfferEndedError
        assert all(isinstance(result, expected) for result in results if isinstance(result, BaseException)), results
        counts = [await held(engine, set_id, user) for user in ("ada", "bob", "eve")]
        view = await engine.card_views.get(set_id)
        for place in range(2):
            everywhere = sum(count[place] for count in counts) + view.cards[place].spent
            assert everywhere == 2 - view.cards[place].with_owner
    await assert_books_balance(engine.pool)


async def test_offers_are_listed(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 1, 1)
    numbers = [await offer(engine, set_id, to=to) for to in (None, "bob", None)]
    made = await engine.card_offers.of_user("ada", role="made", after=None, limit=2)
    assert [found.offer_id for found in made.offers] == numbers[:0:-1]
    rest = await engine.card_offers.of_user("ada", role="made", after=made.next, limit=2)
    assert ([found.offer_id for found in rest.offers], rest.next) == ([numbers[0]], None)
    received = await engine.card_offers.of_user("bob", role="received", after=None, limit=2)
    assert [found.offer_id for found in received.offers] == [numbers[1]]
    for_anyone = await engine.card_offers.for_anyone(set_id, after=None, limit=5)
    assert [found.offer_id for found in for_anyone.offers] == [numbers[2], numbers[0]]
    with pytest.raises(InvalidFieldsError):
        await engine.card_offers.for_anyone(set_id, after="x", limit=5)
