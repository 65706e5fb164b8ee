"""The audit names whatever is made wrong of cards: their number, where they are, the draw, and the pool."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from engine.auditing.audit import audit
from engine.cards.terms import Payout
from engine.engine import Engine
from engine.settings import Settings
from tests.support.administrator import Administrator
from tests.support.anchored import audited, clean
from tests.support.collectors import complete, deal, draw, end, key, make
from tests.support.copies import Left
from tests.support.tampered import UNCHECKED


@pytest.fixture(scope="module")
def left(shared_settings: Settings) -> Left:
    """The scene, made once."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(make_scene(shared_settings))


async def make_scene(settings: Settings) -> Left:
    """Set 1 is drawn, and one of its three shares is claimed. Of set 2, cards are granted, offered and exchanged.

    All of it came after an anchor.
    """
    async with Engine.open(settings) as engine:
        await clean(engine)
        made = await make(engine, (5, 5), pool_fen=600, wild=1, payout=Payout.CLAIMABLE, claim_seconds=3_600)
        first = made.set_id
        for number in range(3):
            await deal(engine, first, f"user{number}", 1, 3 if number == 2 else 2)
            await complete(engine, first, f"user{number}")
        await end(engine, first)
        await draw(engine)
        await engine.card_prizes.claim(first, "user0", **key())
        second = (await make(engine, (6, 6), granted=(2, 2), pool_fen=600)).set_id
        for number in range(3):
            await engine.collecting.grant(second, f"user{number}", "shared", **key())
        await deal(engine, second, "ada", 1, 1)
        await deal(engine, second, "bob", 2)
        for number in range(2):
            offer, _ = await engine.card_offers.make(second, "ada", give=1, want=2, to_user=None, **key())
            if not number:
                await engine.card_offers.accept(offer.offer_id, "bob")
    return await Left.by(settings)


@pytest.fixture
async def scene(left: Left, administrator: Administrator) -> AsyncIterator[Engine]:
    async with left.copied(administrator) as settings, Engine.open(settings) as engine:
        yield engine


async def told(engine: Engine) -> str:
    findings = await audit(engine.pool, engine.store, engine.stream)
    return " ".join(problem for found in findings if found.invariant == "cards_add_up" for problem in found.problems)


async def test_sound_sets_pass(scene: Engine) -> None:
    findings = {found.invariant: found for found in await audit(scene.pool, scene.store, scene.stream)}
    assert [problem for found in findings.values() for problem in found.problems] == []
    assert findings["cards_add_up"].examined == 2
    assert (await clean(scene)).is_on


CORRUPTIONS = [
    ("UPDATE card_kinds SET count = 7 WHERE set_id = 2 AND card = 1", "card 1 of set 2: 6 of 7 are there"),
    ("UPDATE card_kinds SET name = 'x' WHERE set_id = 2", "card set 2: its seed and terms are not those"),
    ("UPDATE card_sets SET pool_fen = 601 WHERE set_id = 1", "of the pool of 601 fen"),
    ("DELETE FROM card_grants WHERE number = 1", "follows none before it"),
    ("UPDATE card_grants SET card = 3 - card WHERE number = 2", "by the seed"),
    ("UPDATE card_grants SET user_id = 'ada' WHERE number = 2", "grant 2 of card set 2: entry"),
    ("DELETE FROM card_offers WHERE state = 'open'", "1 of 0 offered"),
    ("UPDATE card_offers SET accepted_by = 'eve' WHERE state = 'accepted'", "is not its card_exchange"),
    ("UPDATE card_offers SET want = 1, give = 2 WHERE state = 'accepted'", "is not its card_gift"),
    ("DELETE FROM card_completions WHERE user_id = 'user1'", "1 of those who did not complete it"),
    ("UPDATE card_completions SET wild = 1 - wild", "2 wild cards"),
    ("UPDATE card_shares SET share_fen = share_fen + 1 WHERE number = 1", "shares of 601 fen"),
    ("UPDATE card_shares SET number = number + 10", "is not the one with share 0"),
    ("UPDATE card_shares SET transfer_id = 1, paid_at_ms = 1 WHERE transfer_id IS NULL", "600 are paid"),
    ("UPDATE card_sets SET completers = 4 WHERE set_id = 1", "for 4 completers of 3"),
]


@pytest.mark.long
@pytest.mark.parametrize(("statement", "sentence"), CORRUPTIONS)
async def test_what_is_made_wrong_is_named(scene: Engine, statement: str, sentence: str) -> None:
    async with scene.pool.acquire() as connection:
        await connection.execute("; ".join((UNCHECKED, statement, "SET session_replication_role = origin")))
    assert sentence in await told(scene)
    on = await audited(scene)
    assert on.is_on
    found = next(found for found in on.findings if found.invariant == "cards_add_up")
    assert sentence in " ".join(found.problems)
