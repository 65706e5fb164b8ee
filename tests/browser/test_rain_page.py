"""The page of a packet rain in a real Chromium: waiting by the server's clock, tapping, every end, the results."""

from asyncio import Event, timeout
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route

from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.draws import MILLION
from engine.campaigns.grabbing import GrabOutcome
from engine.campaigns.terms import Entry, Who
from engine.settings import Settings
from tests.support.chromium import PHONE, Opened, once
from tests.support.grab_page import Front, double_the_text, face, front_of, hand_over
from tests.support.rains import grab_until_told, make, running
from tests.support.repository import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]
WORDS: dict[str, list[str]] = {
    key: texts
    for part in ("shared", "campaign")
    for key, texts in orjson.loads((ROOT / f"api/pages/sources/words.{part}.json").read_bytes()).items()
}
Scene = Callable[[Front, str], AbstractAsyncContextManager[Opened]]
SOON_MS, LATER_MS = 300, 3_600_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(browser: Browser, shared_settings: Settings) -> AsyncIterator[Front]:
    with pytest.MonkeyPatch.context() as bounds:
        bounds.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
        async with front_of(browser, shared_settings) as front:
            yield front


async def rain(front: Front, *waves: tuple[int, int, int, int], odds_millionths: int = MILLION, **entry: object) -> str:
    made = await make(front.engine, *waves, odds_millionths=odds_millionths, entry=Entry(**entry))  # type: ignore[arg-type]
    return made.campaign_id


async def going_on(front: Front, *more: tuple[int, int, int, int], **terms: object) -> str:
    """A campaign whose first wave is going on."""
    first = (SOON_MS, 600, 10_000, 100)
    campaign_id = await rain(front, *(more or (first,)), **terms)  # type: ignore[arg-type]
    await running(front.engine, campaign_id, 1)
    return campaign_id


@asynccontextmanager
async def countdown(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await rain(front, (LATER_MS, 10, 10_000, 100), (LATER_MS + 60_000, 10, 10_000, 100))
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await face(shown, "countdown")
        yield shown


@asynccontextmanager
async def raining(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front)
    async with front.reopened(f"/c/{campaign_id}", "bob", language, reduced_motion="no-preference") as shown:
        await face(shown, "running")
        await shown.page.wait_for_selector(".drop:nth-child(6)")
        yield shown


@asynccontextmanager
async def won(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front, (SOON_MS, 600, 10_000, 100), (LATER_MS, 10, 1_000, 10))
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.click("#grab")
        await face(shown, "won")
        yield shown


@asynccontextmanager
async def missed(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front, odds_millionths=1)
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.click("#grab")
        await face(shown, "missed")
        yield shown


@asynccontextmanager
async def sold_out(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front, (SOON_MS, 600, 100, 1), (LATER_MS, 10, 1_000, 10))
    await grab_until_told(front.engine, campaign_id, "carol")
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.click("#grab")
        await face(shown, "sold_out")
        yield shown


@asynccontextmanager
async def enough(front: Front, language: str) -> AsyncIterator[Opened]:
    waves = ((SOON_MS, 1, 100, 10), (2_500, 600, 100, 10))
    campaign_id = await rain(front, *waves, wins_max=1)
    await running(front.engine, campaign_id, 1)
    grab = await grab_until_told(front.engine, campaign_id, "bob")
    assert grab.outcome is GrabOutcome.CLAIMED
    await running(front.engine, campaign_id, 2)
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.click("#grab")
        await face(shown, "enough")
        yield shown


@asynccontextmanager
async def between(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await rain(front, (SOON_MS, 1, 100, 10), (LATER_MS, 600, 100, 10))
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await face(shown, "between")
        yield shown


@asynccontextmanager
async def paused(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front)
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await face(shown, "running")
        await front.engine.campaigns.pause(campaign_id, "mall", is_paused=True)
        await shown.page.click("#grab")
        await face(shown, "paused")
        yield shown


@asynccontextmanager
async def over(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await rain(front, (SOON_MS, 1, 1_000, 10), (1_500, 1, 1_000, 10))
    for wave in (1, 2):
        await running(front.engine, campaign_id, wave)
        await grab_until_told(front.engine, campaign_id, "bob")

    async def is_settled() -> bool:
        return (await front.engine.campaign_views.get(campaign_id)).is_settled

    await wait_until(is_settled, timeout_s=30, what="the settlement")
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await face(shown, "over")
        await shown.page.wait_for_selector("#won-rows li:nth-child(3)")
        await shown.page.click("#proof-button")
        await shown.page.wait_for_selector(".verdict")
        assert (await shown.page.inner_text(".verdict")).startswith("✓")
        yield shown


@asynccontextmanager
async def not_invited(front: Front, language: str) -> AsyncIterator[Opened]:
    campaign_id = await going_on(front, who=Who.LISTED, guests=("carol", "nobody-in-particular"))
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.click("#grab")
        await face(shown, "not_invited")
        yield shown


@asynccontextmanager
async def unknown(front: Front, language: str) -> AsyncIterator[Opened]:
    async with front.reopened("/c/999999", "bob", language) as shown:
        await face(shown, "unknown")
        yield shown


@asynccontextmanager
async def no_token(front: Front, language: str) -> AsyncIterator[Opened]:
    async with front.reopened("/c/1", None, language) as shown:
        await face(shown, "no_token")
        yield shown


@asynccontextmanager
async def queueing(front: Front, language: str) -> AsyncIterator[Opened]:
    async def crowded(route: Route) -> None:
        await route.fulfill(status=503, headers={"retry-after": "60"}, json={"code": "busy"})

    campaign_id = await going_on(front)
    async with front.reopened(f"/c/{campaign_id}", "bob", language) as shown:
        await shown.page.route("**/grabs", crowded)
        await shown.page.click("#grab")
        await face(shown, "queueing")
        yield shown


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        *(countdown, raining, won, missed, sold_out, enough, between, paused, over),
        *(not_invited, unknown, no_token, queueing),
    )
}


@pytest.mark.long
@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", SCENES)
async def test_a_face_of_the_rain_says_what_happened_and_everybody_can_read_it(
    front: Front, name: str, language: str, pictures: Path | None
) -> None:
    async with SCENES[name](front, language) as shown:
        if pictures is not None:
            await shown.page.screenshot(path=pictures / f"rain_{name}_{language}.png")
        place, title = ("zh", "en").index(language), {"raining": "running"}.get(name, name)
        assert WORDS[f"{title}.title"][place] in await shown.page.inner_text("#status")
        ways = await shown.page.locator("button:visible, a:visible").count()
        assert ways >= (1 if name == "raining" else 2)  # nothing but the button is under a thumb while it rains
        said = await shown.page.inner_text("body")
        assert "undefined" not in said
        assert "{" not in said
        assert await shown.inaccessible() == []
        await shown.page.set_viewport_size({"width": 320, "height": 568})
        await double_the_text(shown)
        assert not await shown.scrolls_sideways()


@pytest.mark.long
async def test_five_quick_taps_are_one_grab_and_the_share_is_the_users(front: Front) -> None:
    campaign_id = await going_on(front)
    async with front.opened(f"/c/{campaign_id}", "bob") as shown:
        await face(shown, "running")
        assert len([sent for sent in shown.requests if not sent.url.startswith("data:")]) == 3
        await shown.page.evaluate("for (let tap = 0; tap < 5; tap += 1) document.getElementById('grab').click()")
        await face(shown, "won")
        amount = await shown.page.inner_text("#amount")
        assert len([sent for sent in shown.requests if sent.url.endswith("/grabs")]) == 1
        won = await front.engine.wins.of(campaign_id, "bob")
        fen = sum(share.amount_fen for wave in won.waves for share in wave.shares)
        assert amount == f"¥{fen // 100}.{fen % 100:02d}"
        await shown.page.goto("about:blank")
        await shown.page.goto(front.address(f"/c/{campaign_id}", "bob"))
        await face(shown, "won")
        assert await shown.page.inner_text("#amount") == amount
        assert len([sent for sent in shown.requests if sent.url.endswith("/grabs")]) == 1


@pytest.mark.long
async def test_a_thumb_hits_a_falling_packet(front: Front) -> None:
    campaign_id = await going_on(front, wave_wins_max=2, interval_ms=3_000)
    async with front.reopened(f"/c/{campaign_id}", "bob", **PHONE, reduced_motion="no-preference") as shown:
        await face(shown, "running")

        async def hit() -> bool:
            box = await shown.page.evaluate(
                "() => { const all = Array.from(document.querySelectorAll('.drop:not(.hit)'),"
                " one => one.getBoundingClientRect()).filter(box => box.top > 60 && box.bottom < 560);"
                " return all.length ? [all[0].left + all[0].width / 2, all[0].top + all[0].height / 2] : null; }"
            )
            if box is not None:
                await shown.page.touchscreen.tap(*box)
            return await shown.page.is_visible("#amount")

        await wait_until(hit, timeout_s=30, what="a share")
        assert "还可以接着抢" in await shown.page.inner_text("#text")
        asked = len([sent for sent in shown.requests if sent.url.endswith("/grabs")])
        await shown.page.click("#grab")
        assert (
            asked == len([sent for sent in shown.requests if sent.url.endswith("/grabs")]) == 1
        )  # the pace is kept here


@pytest.mark.long
async def test_the_countdown_goes_by_the_servers_clock_and_the_wave_begins_by_itself(front: Front) -> None:
    campaign_id = await rain(front, (4_000, 600, 1_000, 10))
    async with front.opened(f"/c/{campaign_id}", None) as shown:
        # A phone whose clock is an hour behind.
        await shown.context.add_init_script("const past = Date.now; Date.now = () => past() - 3600000;")
        await shown.page.goto(front.address(f"/c/{campaign_id}", "bob"))
        await face(shown, "countdown")
        assert (await shown.page.inner_text("#timer")).startswith("0:0")
        asked = len(shown.requests)
        await face(shown, "running")
        state = await front.engine.campaign_views.get(campaign_id)
        assert 0 <= state.now_ms - state.waves[0].starts_at_ms < 2_000
        assert len(shown.requests) == asked  # nobody asks at the moment in which everybody would
        await shown.page.click("#grab")
        await face(shown, "won")


@pytest.mark.long
async def test_who_opens_their_link_in_the_same_tab_sees_nothing_of_the_user_before(front: Front) -> None:
    campaign_id = await going_on(front)
    path = f"/c/{campaign_id}"
    async with front.reopened(path, "ann") as shown:
        await shown.page.click("#grab")
        await face(shown, "won")
        await hand_over(shown, front, path, "ben")
        await face(shown, "running")
        assert await shown.page.is_visible("#grab")
        assert "¥" not in await shown.page.evaluate(
            "document.body.innerText + document.getElementById('mine').textContent"
        )
        await shown.page.click("#grab")
        await face(shown, "won")
        assert await shown.page.locator("#won-rows li").count() == 1


async def answer_no_wins(route: Route) -> None:
    """As a look that was answered before the tap was."""
    await route.fulfill(json={"waves": []})


async def look_again(shown: Opened) -> None:
    """A look that has been answered."""
    async with shown.page.expect_response("**/wins/*"):
        await shown.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await shown.page.wait_for_timeout(100)


@pytest.mark.long
async def test_a_look_meanwhile_leaves_no_queue_and_loses_no_answer(front: Front) -> None:
    campaign_id = await going_on(front)
    decided, looked = Event(), Event()

    async def crowded(route: Route) -> None:
        await route.fulfill(status=503, headers={"retry-after": "1"}, json={"code": "busy"})

    async def late(route: Route) -> None:
        answer = await route.fetch()
        decided.set()
        await looked.wait()
        await route.fulfill(response=answer)

    async with front.reopened(f"/c/{campaign_id}", "cat") as shown:
        await face(shown, "running")
        await shown.page.route("**/wins/*", answer_no_wins)
        await shown.page.route("**/grabs", late)
        await shown.page.route("**/grabs", once(crowded))
        await shown.page.click("#grab")
        await face(shown, "queueing")
        await look_again(shown)
        async with timeout(10):
            await decided.wait()
        await look_again(shown)
        looked.set()
        await face(shown, "won")
        assert "¥" in await shown.page.inner_text("#amount")


@pytest.mark.long
async def test_an_answer_that_comes_after_the_wave_is_shown(front: Front) -> None:
    campaign_id = await going_on(front, (SOON_MS, 3, 1_000, 10), (LATER_MS, 10, 1_000, 10))
    has_ended = Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        await has_ended.wait()
        await route.fulfill(response=answer)

    async with front.reopened(f"/c/{campaign_id}", "dan") as shown:
        await face(shown, "running")
        await shown.page.route("**/wins/*", answer_no_wins)
        await shown.page.route("**/grabs", late)
        await shown.page.click("#grab")
        await face(shown, "between")
        has_ended.set()
        await shown.page.wait_for_selector("#won-rows .what")
        assert "¥" in await shown.page.inner_text("#won-rows")


@pytest.mark.long
async def test_a_look_that_is_answered_late_changes_nothing(front: Front) -> None:
    campaign_id = await going_on(front)
    asked, looked = Event(), Event()

    async def late(route: Route) -> None:
        answer = await route.fetch()
        asked.set()
        await looked.wait()
        await route.fulfill(response=answer)

    async with front.reopened(f"/c/{campaign_id}", "bob") as shown:
        await face(shown, "running")
        await shown.page.route(f"**/v1/campaigns/{campaign_id}", once(late))
        await look_again(shown)
        async with timeout(10):
            await asked.wait()
        await front.engine.campaigns.pause(campaign_id, "mall", is_paused=True)
        await look_again(shown)
        await face(shown, "paused")
        async with shown.page.expect_response(f"**/v1/campaigns/{campaign_id}"):
            looked.set()
        await shown.page.wait_for_timeout(100)
        assert await shown.page.get_attribute("body", "data-face") == "paused"
