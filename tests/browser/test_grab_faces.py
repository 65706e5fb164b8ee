"""Every end of a packet has a face in both languages: it tells what happened, has a way on, and can be read by all."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route

from engine.settings import Settings
from tests.support.asking import COUPON_BATCH, UNKNOWN
from tests.support.chromium import Opened, take_picture
from tests.support.front import new_key
from tests.support.grab_page import Front, face, front_of, tap
from tests.support.repository import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]
WORDS: dict[str, list[str]] = {
    key: texts
    for part in ("shared", "packet")
    for key, texts in orjson.loads((ROOT / f"api/pages/sources/words.{part}.json").read_bytes()).items()
}
Scene = Callable[[Front, str], AbstractAsyncContextManager[Opened]]
GREETING = "新年快乐,万事如意"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(browser: Browser, shared_settings: Settings) -> AsyncIterator[Front]:
    async with front_of(browser, shared_settings) as front:
        for user, name in (("alice", "爱丽丝"), ("bob", "小明"), ("carol", "Carol")):
            headers = front.client.as_user(user)
            await front.client.http.put(f"/v1/users/{user}/display", json={"name": name}, headers=headers)
        yield front


async def sent(front: Front, **terms: object) -> str:
    return await front.client.send("alice", **{"greeting": GREETING, "total_fen": 6_660, "count": 3, **terms})


@asynccontextmanager
async def sealed(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front)
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await shown.page.wait_for_selector("#sender:not(:empty)")
        yield shown


@asynccontextmanager
async def won(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front)
    await front.client.claim(packet_id, "carol")
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await tap(shown)
        await face(shown, "won")
        await shown.page.wait_for_selector("#rows li:nth-child(2)")
        yield shown


@asynccontextmanager
async def already(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front)
    for user in ("carol", "bob", "dave"):
        await front.client.claim(packet_id, user)
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await face(shown, "already")
        await shown.page.wait_for_selector(".best")
        yield shown


@asynccontextmanager
async def sold_out(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front, count=1)
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await shown.page.wait_for_selector("#sender:not(:empty)")  # it has looked, and there was a share
        await front.client.claim(packet_id, "carol")
        await tap(shown)
        await face(shown, "sold_out")
        yield shown


@asynccontextmanager
async def expired(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front, ttl_s=1)

    async def is_over() -> bool:
        answer = await front.client.http.get(f"/v1/packets/{packet_id}", headers=front.client.as_user("bob"))
        return bool(answer.json()["state"] == "expired")

    await wait_until(is_over, what="the end of the packet")
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await face(shown, "expired")
        yield shown


@asynccontextmanager
async def retracted(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await front.client.send(f"zoe-{language}", greeting=GREETING)
    headers = front.client.as_user(f"zoe-{language}")
    answer = await front.client.http.post(f"/v1/packets/{packet_id}/retraction", headers=headers, json={})
    assert answer.status_code == 200, answer.text
    async with front.reopened(f"/p/{packet_id}", "bob", language) as shown:
        await face(shown, "retracted")
        yield shown


@asynccontextmanager
async def not_invited(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front, count=2, recipients=["carol", "dave"])
    async with front.reopened(f"/p/{packet_id}", None, language) as shown:
        await face(shown, "no_token")

        async def never(_route: Route) -> None:
            """Let the look hang: then whoever taps is told by the claim itself."""

        await shown.page.route(f"**/v1/packets/{packet_id}", never)
        await shown.page.goto(front.address(f"/p/{packet_id}", "bob", language))
        await tap(shown)
        await face(shown, "not_invited")
        yield shown


@asynccontextmanager
async def frozen(front: Front, language: str) -> AsyncIterator[Opened]:
    await front.admin("PUT", "/v1/accounts/mallory/freeze", {"reason": "odd"})
    async with front.reopened(f"/p/{await sent(front)}", "mallory", language) as shown:
        await tap(shown)
        await face(shown, "frozen")
        yield shown


@asynccontextmanager
async def limit_reached(front: Front, language: str) -> AsyncIterator[Opened]:
    rick = f"rick-{language}"
    await front.admin("PUT", f"/v1/accounts/{rick}/profile", {"kind": "person", "day_received_fen_max": 1})
    await front.client.claim(await sent(front), rick)

    async def is_told() -> bool:
        path, headers = f"/v1/packets/{await sent(front)}/claims", front.client.as_user(rick)
        return (await front.client.http.post(path, headers=headers)).status_code == 409

    await wait_until(is_told, timeout_s=20, what="the limit being known to the lanes")
    async with front.reopened(f"/p/{await sent(front)}", rick, language) as shown:
        await tap(shown)
        await face(shown, "limit_reached")
        yield shown


@asynccontextmanager
async def unknown(front: Front, language: str) -> AsyncIterator[Opened]:
    async with front.reopened(f"/p/{UNKNOWN}", "bob", language) as shown:
        await face(shown, "unknown")
        yield shown


@asynccontextmanager
async def token_over(front: Front, language: str) -> AsyncIterator[Opened]:
    packet_id = await sent(front)
    async with front.reopened(f"/p/{packet_id}", None, language) as shown:
        await shown.page.goto(f"{front.address(f'/p/{packet_id}', None, language)}#t={front.token('bob')}x")
        await face(shown, "token_over")
        yield shown


@asynccontextmanager
async def no_token(front: Front, language: str) -> AsyncIterator[Opened]:
    async with front.reopened(f"/p/{await sent(front)}", None, language) as shown:
        await face(shown, "no_token")
        yield shown


@asynccontextmanager
async def offline(front: Front, language: str) -> AsyncIterator[Opened]:
    async with sealed(front, language) as shown:
        await shown.context.set_offline(True)
        await tap(shown)
        await face(shown, "offline")
        yield shown


@asynccontextmanager
async def queueing(front: Front, language: str) -> AsyncIterator[Opened]:
    async with sealed(front, language) as shown:
        await shown.page.route("**/claims", crowded)
        await tap(shown)
        await face(shown, "queueing")
        yield shown


async def crowded(route: Route) -> None:
    await route.fulfill(
        status=503, content_type="application/problem+json", headers={"retry-after": "60"}, body='{"code": "busy"}'
    )


@asynccontextmanager
async def opening(front: Front, language: str) -> AsyncIterator[Opened]:
    async with sealed(front, language) as shown:

        async def never(_route: Route) -> None:
            """Let the claim hang."""

        await shown.page.route("**/claims", never)
        await tap(shown)
        await face(shown, "opening")
        yield shown


@asynccontextmanager
async def not_arrived(front: Front, language: str) -> AsyncIterator[Opened]:
    await front.client.deposit("alice", 100)
    body = {"to": "bob", "amount_fen": 100, "arrives_after_s": 7_200, "note": GREETING}
    headers = front.client.as_user("alice") | new_key()
    answer = await front.client.http.post("/v1/transfers", json=body, headers=headers)
    async with front.reopened(f"/p/{answer.json()['transfer_id']}", "bob", language) as shown:
        await shown.page.wait_for_selector("#sender:not(:empty)")
        await tap(shown)
        await face(shown, "not_arrived")
        yield shown


@asynccontextmanager
async def coupon(front: Front, language: str) -> AsyncIterator[Opened]:
    await front.admin("PUT", "/v1/accounts/mall/profile", {"kind": "merchant"})
    headers = front.client.as_user("mall")
    made = await front.client.http.post(
        "/v1/coupon-batches", json=COUPON_BATCH | {"name": "满五减五元优惠券"}, headers=headers | new_key()
    )
    asset = f"COUPON_{made.json()['batch_id']}"
    packet = {"total_fen": 2, "count": 2, "split": "equal", "asset": asset, "ttl_s": 60}
    answer = await front.client.http.post("/v1/packets", json=packet, headers=headers | new_key())
    async with front.reopened(f"/p/{answer.json()['packet_id']}", "bob", language) as shown:
        await shown.page.wait_for_selector("#sender:not(:empty)")
        await tap(shown)
        await face(shown, "coupon")
        await shown.page.wait_for_selector("#rows li")
        yield shown


@asynccontextmanager
async def not_allowed(front: Front, language: str) -> AsyncIterator[Opened]:
    path = f"/p/{await sent(front)}"
    async with front.reopened(path, None, language) as shown:
        await shown.page.goto(f"{front.address(path, None, language)}#t={front.token('bob', 'send')}")
        await shown.page.wait_for_selector("#sender:not(:empty)")
        await tap(shown)
        await face(shown, "not_allowed")
        yield shown


@asynccontextmanager
async def fault(front: Front, language: str) -> AsyncIterator[Opened]:
    async with sealed(front, language) as shown:

        async def broken(route: Route) -> None:
            await route.fulfill(status=500, json={"code": "internal"})

        await shown.page.route("**/claims", broken)
        await tap(shown)
        await face(shown, "fault", timeout_s=40)
        yield shown


@asynccontextmanager
async def stalled(front: Front, language: str) -> AsyncIterator[Opened]:
    async with front.opened(f"/p/{await sent(front)}", "bob", language) as shown:  # its clock stays
        await shown.page.wait_for_selector("#sender:not(:empty)")
        await shown.page.clock.install()

        async def crowded_for_a_second(route: Route) -> None:
            await route.fulfill(status=503, headers={"retry-after": "1"}, json={"code": "busy"})

        await shown.page.route("**/claims", crowded_for_a_second)
        await tap(shown)

        async def has_given_up() -> bool:
            await shown.page.clock.run_for(2_500)  # more than any wait, and less than an answer may take
            return await shown.page.locator('body[data-face="stalled"]').count() == 1

        await wait_until(has_given_up, timeout_s=60, what="the end of the queue")
        yield shown


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        *(sealed, opening, queueing, won, already, sold_out, expired, retracted, not_invited, frozen, limit_reached),
        *(unknown, token_over, no_token, not_allowed, offline, fault, stalled, not_arrived, coupon),
    )
}


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", SCENES)
async def test_a_face_says_what_happened_and_everybody_can_read_it(
    front: Front, name: str, language: str, pictures: Path | None
) -> None:
    async with SCENES[name](front, language) as shown:
        await take_picture(shown, pictures, f"grab_{name}_{language}")
        place = ("zh", "en").index(language)
        said = await shown.page.inner_text("body")
        if f"{name}.title" in WORDS:
            assert WORDS[f"{name}.title"][place] in await shown.page.inner_text("#status")
        assert await shown.page.locator("button:visible, a:visible").count() >= 2  # a way on, besides the language
        assert "undefined" not in said
        assert "{" not in said
        assert await shown.inaccessible() == []
        assert not await shown.scrolls_sideways()
        assert await shown.page.evaluate("document.documentElement.lang") == ("zh-CN", "en")[place]
