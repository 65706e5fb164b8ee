"""Sets of cards: made once, dropped, given, granted, spent; and what refuses each of it."""

import asyncio
from collections import Counter

import pytest

from engine.engine import Engine
from engine.errors import (
    AlreadyCompletedError,
    AssetExistsError,
    CardLackingError,
    CardSetEndedError,
    FrozenError,
    InsufficientFundsError,
    InvalidFieldsError,
    NotMerchantError,
    ReserveEmptyError,
    TooManyGrantsError,
    UnknownCardSetError,
)
from engine.packets.terms import terms_from
from engine.records import Outcome, SplitKind
from engine.risk.limits import AccountKind
from engine.settings import Settings
from tests.support.collectors import OWNER, complete, deal, end, held, key, make
from tests.support.scenes import assert_books_balance, caught_up, fund, persisting


async def test_every_card_is_issued_once_and_the_pool_is_paid(engine: Engine) -> None:
    made = await make(engine, (10, 20, 5), granted=(2, 0, 5), wild=3, pool_fen=1_234)
    view = await engine.card_views.get(made.set_id)
    assert [(card.count, card.with_owner, card.left_to_grant) for card in view.cards] == [
        (10, 8, 2),
        (20, 20, 0),
        (5, 0, 5),
        (3, 3, 0),
    ]
    assert [card.is_wild for card in view.cards] == [False, False, False, True]
    assert (view.state, view.pool_fen, view.completers, view.commitment) == ("collecting", 1_234, 0, made.commitment)
    assert (await engine.wallets.get(OWNER)).balance_fen == 0
    assert (await engine.assets.get(view.cards[1].asset)).issued_fen == 20
    await assert_books_balance(engine.pool)


async def test_it_is_made_once_per_key(engine: Engine) -> None:
    first = await make(engine, idempotency_key="k")
    again = await make(engine, idempotency_key="k")
    assert (again.set_id, first.replayed, again.replayed) == (first.set_id, False, True)
    assert (await engine.wallets.get(OWNER)).balance_fen == 10_000


async def test_only_a_merchant_with_the_money_makes_one(engine: Engine) -> None:
    await fund(engine, OWNER, 9_999)
    with pytest.raises(InsufficientFundsError) as caught:
        await make(engine, has_money=False)
    assert caught.value.field == "pool_fen"
    with pytest.raises(NotMerchantError):
        await make(engine, kind=AccountKind.PERSON)
    assert await engine.pool.fetchval("SELECT count(*) FROM card_sets") == 0
    assert await engine.pool.fetchval("SELECT count(*) FROM assets") == 0


async def test_nobody_issues_or_defines_a_card(engine: Engine) -> None:
    made = await make(engine)
    asset = (await engine.card_views.get(made.set_id)).cards[0].asset
    with pytest.raises(InvalidFieldsError, match="asset"):
        await engine.assets.issue(OWNER, 1, await engine.assets.named(asset), **key())
    for code in (asset, "CARD_9_9"):
        with pytest.raises(AssetExistsError):
            await engine.assets.define(code, scale=0, name="福1")


async def test_the_owner_drops_cards_by_packets_and_nobody_else_does(engine: Engine, settings: Settings) -> None:
    made = await make(engine, (3, 3), pool_fen=3)
    asset = (await engine.card_views.get(made.set_id)).cards[0].asset
    terms = terms_from(settings=settings, total_fen=3, count=3, split=SplitKind.EQUAL, asset=asset)
    packet_id = (await engine.packets.send(OWNER, terms, **key())).packet_id
    async with persisting(settings):
        for user in ("ada", "bob"):
            assert (await engine.claims.claim(packet_id, user)).outcome is Outcome.CLAIMED
        await caught_up(engine)
    assert await held(engine, made.set_id, "ada") == [1, 0]
    single = terms_from(settings=settings, total_fen=1, count=1, split=SplitKind.EQUAL, asset=asset)
    with pytest.raises(InvalidFieldsError, match="asset"):
        await engine.packets.send("ada", single, **key())
    with pytest.raises(InvalidFieldsError, match="asset"):
        await engine.transfers.send("ada", "bob", 1, arrives_after_s=7_200, asset=asset, **key())
    await assert_books_balance(engine.pool)


async def test_a_card_is_given(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 1)
    values = key()
    gift, replayed = await engine.collecting.give(set_id, "ada", 1, "bob", **values)
    assert (gift.card, gift.to_user, gift.left, replayed) == (1, "bob", 1, False)
    again, replayed = await engine.collecting.give(set_id, "ada", 1, "bob", **values)
    assert (again, replayed) == (gift, True)
    assert await held(engine, set_id, "ada") == await held(engine, set_id, "bob") == [1, 0, 0]
    entries = await engine.wallets.transfers("bob", after=None, limit=5, asset=f"CARD_{set_id}_1")
    assert [(entry.kind, entry.amount_fen) for entry in entries.transfers] == [("card_gift", 1)]
    await assert_books_balance(engine.pool)


async def test_what_is_not_there_is_not_given(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1)
    for user, card in (("ada", 2), ("bob", 1), ("nobody", 1)):
        with pytest.raises(CardLackingError):
            await engine.collecting.give(set_id, user, card, "eve", **key())
    assert await engine.pool.fetchval("SELECT count(*) FROM accounts WHERE owner IN ('eve', 'nobody')") == 0
    for card, to_user in ((0, "bob"), (4, "bob"), (1, "ada")):
        with pytest.raises(InvalidFieldsError):
            await engine.collecting.give(set_id, "ada", card, to_user, **key())
    with pytest.raises(UnknownCardSetError):
        await engine.collecting.give("999", "ada", 1, "bob", **key())


async def test_a_frozen_user_neither_gives_nor_gets_nor_completes(engine: Engine) -> None:
    set_id = (await make(engine, granted=(1, 0, 0))).set_id
    for user in ("ada", "bob"):
        await deal(engine, set_id, user, 1, 2, 3)
    await engine.freezes.freeze("ada", reason="odd", frozen_by="root")
    with pytest.raises(FrozenError):
        await engine.collecting.give(set_id, "ada", 1, "bob", **key())
    with pytest.raises(FrozenError):
        await engine.collecting.give(set_id, "bob", 1, "ada", **key())
    with pytest.raises(FrozenError):
        await engine.collecting.grant(set_id, "ada", "shared", **key())
    with pytest.raises(FrozenError):
        await complete(engine, set_id, "ada")
    await engine.freezes.lift("ada", reason="fine", lifted_by="root")
    await complete(engine, set_id, "ada")


async def test_grants_are_drawn_until_none_is_left(engine: Engine) -> None:
    set_id = (await make(engine, (6, 6, 6), granted=(4, 3, 1))).set_id
    got = Counter[int]()
    for number in range(8):
        grant, _ = await engine.collecting.grant(set_id, f"user{number % 2}", "shared", **key())
        assert (grant.number, grant.user_id) == (number + 1, f"user{number % 2}")
        got[grant.card] += 1
    assert got == {1: 4, 2: 3, 3: 1}
    with pytest.raises(ReserveEmptyError):
        await engine.collecting.grant(set_id, "user2", "shared", **key())
    first, second = await held(engine, set_id, "user0"), await held(engine, set_id, "user1")
    assert [a + b for a, b in zip(first, second, strict=True)] == [4, 3, 1]
    assert [card.left_to_grant for card in (await engine.card_views.get(set_id)).cards] == [0, 0, 0]


async def test_a_user_gets_so_many_grants_and_no_more(engine: Engine) -> None:
    set_id = (await make(engine, granted=(10, 10, 10), grants_a_user_max=2)).set_id
    values = key()
    first, _ = await engine.collecting.grant(set_id, "ada", "shared", **values)
    assert (await engine.collecting.grant(set_id, "ada", "shared", **values))[0] == first
    results = await asyncio.gather(
        *(engine.collecting.grant(set_id, "ada", "shared", **key()) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, TooManyGrantsError) for result in results) == 4
    assert sum(await held(engine, set_id, "ada")) == 2


async def test_a_complete_set_is_spent_once(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 2, 3, 1, 2, 3)
    values = key()
    done, replayed = await engine.collecting.complete(set_id, "ada", **values)
    assert (done.user_id, done.wild, replayed) == ("ada", 0, False)
    assert (await engine.collecting.complete(set_id, "ada", **values)) == (done, True)
    with pytest.raises(AlreadyCompletedError):
        await complete(engine, set_id, "ada")
    assert await held(engine, set_id, "ada") == [1, 1, 1]
    view = await engine.card_views.get(set_id)
    assert (view.completers, [card.spent for card in view.cards]) == (1, [1, 1, 1])
    assert (await engine.card_views.of_user(set_id, "ada")).completed_at_ms == done.completed_at_ms
    await assert_books_balance(engine.pool)


async def test_a_set_that_is_not_complete_is_not_spent(engine: Engine) -> None:
    set_id = (await make(engine, wild=2)).set_id
    await deal(engine, set_id, "ada", 1, 4)
    with pytest.raises(CardLackingError, match=r"2 \(福2\), 3 \(福3\)"):
        await complete(engine, set_id, "ada")
    with pytest.raises(CardLackingError):
        await complete(engine, set_id, "nobody")
    assert await held(engine, set_id, "ada") == [1, 0, 0, 1]


async def test_a_wild_card_stands_for_a_missing_one(engine: Engine) -> None:
    set_id = (await make(engine, wild=3)).set_id
    await deal(engine, set_id, "ada", 1, 3, 4)
    await deal(engine, set_id, "bob", 1, 2, 3, 4)
    await deal(engine, set_id, "eve", 2, 4)
    await complete(engine, set_id, "ada")
    await complete(engine, set_id, "bob")  # who does not need it keeps it
    with pytest.raises(CardLackingError):
        await complete(engine, set_id, "eve")
    await engine.collecting.give(set_id, "bob", 4, "eve", **key())
    await complete(engine, set_id, "eve")  # two of them stand for two
    assert [await held(engine, set_id, user) for user in ("ada", "bob", "eve")] == [[0] * 4] * 3
    assert (await engine.card_views.get(set_id)).completers == 3
    await assert_books_balance(engine.pool)


async def test_after_the_end_nothing_moves(engine: Engine) -> None:
    set_id = (await make(engine, granted=(1, 1, 1))).set_id
    await deal(engine, set_id, "ada", 1, 2, 3)
    await end(engine, set_id)
    for act in (
        engine.collecting.give(set_id, "ada", 1, "bob", **key()),
        engine.collecting.complete(set_id, "ada", **key()),
        engine.collecting.grant(set_id, "ada", "shared", **key()),
        engine.card_offers.make(set_id, "ada", give=1, want=2, to_user=None, **key()),
    ):
        with pytest.raises(CardSetEndedError):
            await act
    assert (await engine.card_views.get(set_id)).state == "ended"
    assert await held(engine, set_id, "ada") == [1, 1, 1]


async def test_one_user_who_completes_twice_at_once_does_so_once(engine: Engine) -> None:
    set_id = (await make(engine)).set_id
    await deal(engine, set_id, "ada", 1, 2, 3, 1, 2, 3)
    results = await asyncio.gather(*(complete(engine, set_id, "ada") for _ in range(6)), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, AlreadyCompletedError) for result in results) == 5
    assert await held(engine, set_id, "ada") == [1, 1, 1]


async def test_nobody_drops_cards_of_a_set_whose_time_is_over(engine: Engine) -> None:
    made = await make(engine)
    of_cards = terms_from(
        settings=engine.settings, total_fen=2, count=2, split=SplitKind.EQUAL, asset=f"CARD_{made.set_id}_1"
    )
    await engine.packets.send(OWNER, of_cards, idempotency_key="before", request_hash=b"")
    await end(engine, made.set_id)
    with pytest.raises(InvalidFieldsError, match=r"^asset: must not be a card of a set whose time is over"):
        await engine.packets.send(OWNER, of_cards, idempotency_key="after", request_hash=b"")


async def test_a_grant_after_the_end_makes_no_wallet(engine: Engine) -> None:
    made = await make(engine, granted=(5, 5, 5))
    await end(engine, made.set_id)
    with pytest.raises(CardSetEndedError):
        await engine.collecting.grant(made.set_id, "ghost", "shared", **key())
    assert await engine.pool.fetchval("SELECT count(*) FROM accounts WHERE owner = 'ghost'") == 0
