"""The grab page looks as it did: pictures of its faces are compared with the kept ones (``tests/pictures``)."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser

from engine.settings import Settings
from tests.support import kept_pictures
from tests.support.chromium import Opened
from tests.support.grab_page import Front, face, front_of, tap
from tests.support.kept_pictures import Pictures

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


async def _sealed(front: Front, shown: Opened) -> None:
    await shown.page.wait_for_selector("#sender:not(:empty)")


async def _won(front: Front, shown: Opened) -> None:
    await tap(shown)
    await face(shown, "won")
    await shown.page.wait_for_selector("#rows li")


async def _sold_out(front: Front, shown: Opened) -> None:
    await shown.page.wait_for_selector("#sender:not(:empty)")  # it has looked, and there was a share
    packet_id = shown.page.url.partition("/p/")[2][:19]
    await front.client.claim(packet_id, "carol")
    await tap(shown)
    await face(shown, "sold_out")


async def _frozen(front: Front, shown: Opened) -> None:
    await front.admin("PUT", "/v1/accounts/mallory/freeze", {"reason": "odd"})
    await tap(shown)
    await face(shown, "frozen")


GRAB: dict[str, Callable[[Front, Opened], Awaitable[None]]] = {
    "sealed": _sealed,
    "won": _won,
    "sold-out": _sold_out,
    "frozen": _frozen,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def front(browser: Browser, shared_settings: Settings) -> AsyncIterator[Front]:
    async with front_of(browser, shared_settings) as front:
        for user, called in (("alice", "爱丽丝"), ("bob", "小明"), ("carol", "Carol")):
            headers = front.client.as_user(user)
            await front.client.http.put(f"/v1/users/{user}/display", json={"name": called}, headers=headers)
        yield front


@pytest.mark.parametrize("name", GRAB)
async def test_a_face_of_the_grab_page(front: Front, name: str, kept: Pictures) -> None:
    packet_id = await front.client.send("alice", greeting="新年快乐,万事如意", total_fen=6_660, count=1)
    user = "mallory" if name == "frozen" else "bob"  # who is frozen can open no other
    async with front.reopened(f"/p/{packet_id}", user, device_scale_factor=1) as shown:
        await GRAB[name](front, shown)
        await shown.page.wait_for_load_state("networkidle")
        await kept.compare(shown.page, f"grab-{name}")


async def test_these_are_kept_and_no_others() -> None:
    assert kept_pictures.names("grab-") == set(GRAB)


async def test_with_another_chromium_nothing_is_compared(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "taken_with.json"
    other.write_bytes(orjson.dumps(kept_pictures.drawn_with(browser) | {"chromium": 1}))
    monkeypatch.setattr(kept_pictures, "TAKEN_WITH", other)
    with pytest.raises(pytest.skip.Exception, match=r"chromium is \d+ here and was 1.*--renew-pictures"):
        Pictures.of(browser, tmp_path, renews=False)


async def test_a_page_that_looks_different_is_found(browser: Browser, tmp_path: Path) -> None:
    """A button of 104 by 104 pixels is 3.3 % of a phone's screen."""
    with Image.open(kept_pictures.FOLDER / "grab-sealed.png") as sealed:
        changed = sealed.convert("RGB")
    changed.paste((195, 54, 45), (143, 336, 247, 440))
    taken = io.BytesIO()
    changed.save(taken, "PNG")
    with pytest.raises(AssertionError, match="of its pixels differ"):
        Pictures(browser, tmp_path, renews=False)._check("grab-sealed", taken.getvalue())
    assert (tmp_path / "grab-sealed-marked.png").exists()
