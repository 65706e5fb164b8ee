"""Campaigns in the console: seen, previewed, funded by two operators, paused, extended and ended."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from urllib.parse import urlencode

import pytest

from engine.calendar.china_time import CHINA
from engine.campaigns.outlook import crowds, sample
from engine.campaigns.terms import CampaignTerms, Entry, PrizeTerms, WaveTerms
from engine.campaigns.views import CampaignState
from engine.operators.roles import FINANCE, VIEWER
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.console import Console, open_console, words_of
from tests.support.rains import grab_until_told, make, running
from tests.support.scenes import caught_up, changed, fund, persisting, sweeping


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return changed(settings, lanes=2)


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[Console]:
    async with open_console(settings) as opened:
        yield opened


def wanted(**changes: str) -> dict[str, str]:
    starts_at = datetime.now(CHINA) + timedelta(hours=1)
    form = {
        "owner": "mall",
        "name": "春节红包雨",
        "starts_at": f"{starts_at:%Y-%m-%dT%H:%M:%S}",
        "waves": "3",
        "every_s": "600",
        "seconds": "60",
        "total": "100.00",
        "count": "200",
        "split": "lucky",
        "odds": "12.5",
        "who": "anyone",
        "wave_wins_max": "1",
        "wins_max": "",
        "interval_ms": "0",
    }
    return form | changes


def path_of(form: dict[str, str]) -> str:
    return f"/campaigns/new?{urlencode(form)}&lang=en"


async def campaigns_of(console: Console, owner: str) -> list[str]:
    page = await console.desk.engine.campaign_views.of_owner(owner, after=None, limit=10)
    return [line.campaign_id for line in page.campaigns]


async def balance_fen(console: Console, owner: str) -> int:
    return (await console.desk.engine.wallets.get(owner)).balance_fen


async def test_the_preview_says_what_it_costs_and_who_would_win(console: Console) -> None:
    person = await console.person(FINANCE)
    await fund(console.desk.engine, "mall", 20_000)
    answer = await person.get(path_of(wanted()))
    assert answer.status_code == 200
    words = words_of(answer.text)
    assert "Budget ¥300.00" in words
    assert "Owner's balance ¥200.00 not enough" in words
    assert "600" in words  # shares in all
    assert "Mean share ¥0.50" in words
    assert "100,000 12,500 200 0.2 %" in words  # of so many users the odds let an eighth win, and there are 200 shares
    assert await balance_fen(console, "mall") == 20_000
    assert await campaigns_of(console, "mall") == []


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("owner", "no such id!"),
        ("name", ""),
        ("starts_at", "tomorrow"),
        ("starts_at", "2001-01-01T00:00:00"),
        ("waves", "0"),
        ("waves", "51"),
        ("every_s", "x"),
        ("seconds", "0"),
        ("total", "1.234"),
        ("total", "0.01"),
        ("count", "-1"),
        ("split", "best"),
        ("odds", "0"),
        ("odds", "100.1"),
        ("who", "nobody"),
        ("wave_wins_max", "21"),
        ("wins_max", "1001"),
        ("interval_ms", "99999999"),
    ],
)
async def test_what_cannot_be_is_named(console: Console, field: str, text: str) -> None:
    person = await console.person(FINANCE)
    form = wanted(**{field: text})
    answer = await person.get(path_of(form))
    assert answer.status_code == 422
    said = {"total": "total", "count": "count", "every_s": "every_s"}.get(field, field)
    assert said in answer.text or "waves[0]" in answer.text
    assert (await person.act("/campaigns", **form)).status_code == 422


async def test_it_takes_two_operators_to_pay_and_it_is_paid_once(console: Console) -> None:
    alice, bob, viewer = [await console.person(role) for role in (FINANCE, FINANCE, VIEWER)]
    await fund(console.desk.engine, "mall", 50_000)
    asked = await alice.act("/campaigns", **wanted())
    assert asked.status_code == 303
    approval = asked.headers["location"].partition("?")[0]
    assert approval.startswith("/approvals/")
    assert await balance_fen(console, "mall") == 50_000

    shown = await bob.get(f"{approval}?lang=en")
    words = words_of(shown.text)
    assert "Budget" in words
    assert "300.00" in words
    hash_ = shown.text.partition('name="hash" value="')[2].partition('"')[0]
    assert (await alice.act(f"{approval}/approve", hash=hash_)).status_code == 403
    assert (await viewer.act(f"{approval}/approve", hash=hash_)).status_code == 403
    assert await balance_fen(console, "mall") == 50_000

    assert (await bob.act(f"{approval}/approve", hash=hash_)).status_code == 303
    assert await balance_fen(console, "mall") == 20_000
    (campaign_id,) = await campaigns_of(console, "mall")
    assert (await bob.act(f"{approval}/approve", hash=hash_)).status_code == 409
    assert await campaigns_of(console, "mall") == [campaign_id]

    listed = await viewer.get("/campaigns?lang=en")
    assert f'href="/campaigns/{campaign_id}"' in listed.text
    assert "¥300.00" in listed.text
    assert "春节红包雨" not in (await viewer.get("/campaigns?owner=nobody")).text


async def test_a_campaign_is_watched_paused_extended_and_ended(console: Console, settings: Settings) -> None:
    engine, person, viewer = console.desk.engine, await console.person(FINANCE), await console.person(VIEWER)
    made = await make(engine, (6_000, 600, 1_000, 10), (3_600_000, 60, 500, 5))
    page = f"/campaigns/{made.campaign_id}"
    async with persisting(settings), sweeping(settings):
        await running(engine, made.campaign_id, 1)
        assert (await grab_until_told(engine, made.campaign_id, "bob")).shares
        await caught_up(engine)
        engine.campaign_views._seen.clear()
        words = words_of((await viewer.get(f"{page}?lang=en")).text)
        assert "running" in words
        assert "of 15 shares" in words
        assert "<button" not in (await viewer.get(f"{page}/state")).text

        assert (await viewer.act(f"{page}/pause")).status_code == 403
        assert (await person.act(f"{page}/pause")).status_code == 303
        assert (await engine.campaign_views.get(made.campaign_id)).state is CampaignState.PAUSED
        assert (await person.act(f"{page}/pause", reason="")).status_code == 422
        assert (await person.act(f"{page}/resume")).status_code == 303
        assert (await engine.campaign_views.get(made.campaign_id)).state is CampaignState.RUNNING

        before = (await engine.campaign_views.get(made.campaign_id)).waves[0].ends_at_ms
        key = "0123456789abcdef0123456789abcdef"
        form = {"wave": "1", "more_s": "120", "key": key, "reason": "late"}
        assert (await person.post(f"{page}/extend", form)).status_code == 303
        engine.campaign_views._seen.clear()
        assert (await engine.campaign_views.get(made.campaign_id)).waves[0].ends_at_ms == before + 120_000
        for wrong in ({"wave": "3", "more_s": "1"}, {"wave": "1", "more_s": "0"}, {"wave": "x", "more_s": "1"}):
            assert (await person.act(f"{page}/extend", **wrong)).status_code == 422

        assert (await person.act(f"{page}/end", typed="yes")).status_code == 422
        assert (await person.act(f"{page}/end", typed=made.campaign_id)).status_code == 303
        assert (await engine.campaign_views.get(made.campaign_id)).state is CampaignState.OVER
        over = (await person.get(f"{page}?lang=en")).text
        assert "/pause" not in over
        assert "/end" not in over


async def test_what_is_no_campaign_is_not_there(console: Console) -> None:
    person = await console.person(VIEWER)
    for number in ("999", "x", "1" * 30):
        assert (await person.get(f"/campaigns/{number}")).status_code == 404
    assert (await person.get("/campaigns?owner=%20no%20id!")).status_code == 422
    assert (await person.get("/campaigns?after=x")).status_code == 422


def terms(odds_millionths: int, count: int) -> CampaignTerms:
    prize = PrizeTerms(total_fen=count * 100, count=count, split=SplitKind.LUCKY, min_fen=1, max_fen=20_000)
    wave = WaveTerms(starts_at_ms=0, seconds=60, prizes=(prize,))
    return CampaignTerms(name="x", waves=(wave,), odds_millionths=odds_millionths, lanes=1, entry=Entry())


def test_a_crowd_wins_what_the_odds_and_the_shares_allow() -> None:
    found = {crowd.users: crowd for crowd in crowds(terms(100_000, 50), 50)}
    assert (found[100].may_win, found[100].winners) == (10, 10)
    assert (found[1_000].may_win, found[1_000].winners) == (100, 50)
    assert found[1_000_000].chance == pytest.approx(50 / 1_000_000)


def test_a_sample_keeps_the_bounds_and_the_mean() -> None:
    for count in (3, 250_000):
        (wave,) = terms(1_000_000, count).waves
        found = sample(wave.prizes[0])
        assert 1 <= found.least_fen <= found.median_fen <= found.most_fen <= 20_000
        assert found.mean_fen == 100
        assert len(found.first_fen) == min(count, 12)
    equal = PrizeTerms(total_fen=1_000, count=10, split=SplitKind.EQUAL, min_fen=1, max_fen=20_000)
    assert sample(equal).first_fen == [100] * 10
