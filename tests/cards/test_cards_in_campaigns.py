"""Five cards in one rain: users draw them by tapping, as often as there are of each, and complete the set."""

from collections import Counter

import pytest

from engine.auditing.audit import audit
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.grabbing import Asked, Grab, GrabOutcome
from engine.campaigns.terms import Entry, PrizeTerms
from engine.engine import Engine
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.collectors import OWNER, complete, held, make
from tests.support.rains import buckets_of, make_of, ready
from tests.support.scenes import caught_up, persisting, settled, sweeping
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

COUNTS = (40, 40, 40, 30, 6)


async def test_cards_are_drawn_by_tapping(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    made = await make(engine, COUNTS)
    cards = (await engine.card_views.get(made.set_id)).cards
    prizes = tuple(
        PrizeTerms(total_fen=count, count=count, split=SplitKind.EQUAL, asset=card.asset)
        for count, card in zip(COUNTS, cards, strict=True)
    )
    rain = await make_of(engine, (0, 120, prizes), owner=OWNER, entry=Entry(wave_wins_max=8))
    users = [f"hand{number}" for number in range(30)]
    async with persisting(settings), sweeping(settings):
        await wait_until(lambda: ready(engine, rain.campaign_id), what="the shares being in Redis")
        drawn: Counter[tuple[str, str]] = Counter()

        async def have_all() -> bool:
            """Everybody taps until there is nothing more for them."""
            grabs = await engine.grabbing.grab_many([Asked(rain.campaign_id, user) for user in users])
            found = [grab for grab in grabs if isinstance(grab, Grab)]
            drawn.update((grab.user_id, grab.shares[0].asset) for grab in found if grab.outcome is GrabOutcome.CLAIMED)
            return len(found) == len(users) and all(grab.outcome is not GrabOutcome.CLAIMED for grab in found)

        await wait_until(have_all, what="all cards being drawn")
        assert sum(drawn.values()) == sum(COUNTS)
        assert max(Counter(user for user, _ in drawn.elements()).values()) <= 8
        by_card = Counter(asset for _, asset in drawn.elements())
        assert [by_card[card.asset] for card in cards] == list(COUNTS)
        (buckets,) = await buckets_of(engine, rain.campaign_id)
        await settled(engine, *buckets)
        await caught_up(engine)
    whole = [user for user in users if min(await held(engine, made.set_id, user)) > 0]
    for user in whole:
        await complete(engine, made.set_id, user)
    assert (await engine.card_views.get(made.set_id)).completers == len(whole)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []
