"""Pictures of pages that are kept in ``tests/pictures``, and how a page is held still so that it can be compared.

Chromium draws text with the machine's fonts, and a little differently in each major version. The kept pictures say with
which they were taken. Where these are others, nothing can be compared.
"""

import io
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from PIL import Image
from pixelmatch.contrib.PIL import pixelmatch
from playwright.async_api import Browser, Page

from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

FOLDER = ROOT / "tests" / "pictures"
TAKEN_WITH = FOLDER / "taken_with.json"
BYTES_MAX = 100_000
DIFFERING_MAX = 0.001
"""Which part of the pixels may differ."""
RENEW = "python -m pytest tests/browser -k kept --renew-pictures"
_FONTS = ("sans-serif", "sans-serif:lang=zh-cn", "system-ui", "monospace", "monospace:lang=zh-cn")

# Whatever another run shows otherwise: moments, ages, days, ids.
_HOLD_STILL = r"""
() => {
    const all = [
        [/\d{4}-\d\d-\d\d/g, "2026-02-17"],
        [/\d{4}年\d+月\d+日/g, "2026年2月17日"],
        [/\d{1,2}:\d\d(:\d\d)?(\.\d+)?/g, "12:00:00"],
        [/\d{15,}/g, "1000000000000000000"],
        [/\b(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b/g, "0123456789abcdef"],
        [/\d+ d \d+ h/g, "1 d 2 h"],
        [/\d+ 秒/g, "1 秒"],
        [/127\.0\.0\.1:\d+/g, "127.0.0.1:8081"],
    ];
    document.querySelectorAll("time").forEach(one => { one.textContent = "02-17 12:00"; });
    document.querySelectorAll("input[type=date], input[type=datetime-local]").forEach(one => { one.value = ""; });
    document.querySelectorAll("canvas, img.qr").forEach(one => { one.style.visibility = "hidden"; });
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = all.reduce((text, [found, still]) => text.replace(found, still), walker.currentNode.nodeValue);
        if (text !== walker.currentNode.nodeValue) walker.currentNode.nodeValue = text;
    }
    if (document.activeElement) document.activeElement.blur();
    window.scrollTo(0, 0);
    return document.fonts.ready.then(() => true);
}
"""


def drawn_with(browser: Browser) -> dict[str, object]:
    """What decides how text looks here: Chromium's major version, and the fonts behind the names that the pages use."""
    words = ["fc-match", "--format", "%{family[0]} %{fontversion}"]
    fonts = {
        name: subprocess.run([*words, name], capture_output=True, encoding="utf-8", check=True, timeout=60).stdout
        for name in _FONTS
    }
    return {"chromium": int(browser.version.partition(".")[0]), "fonts": fonts}


def _differing(kept: Mapping[str, object], here: Mapping[str, object], name: str = "") -> list[str]:
    found: list[str] = []
    for key in kept.keys() | here.keys():
        before, now = kept.get(key), here.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differing(before, now, f"{key} ")
        elif before != now:
            found.append(f"{name}{key} is {now} here and was {before}")
    return found


async def still(page: Page) -> bytes:
    """A picture of a page, as PNG, in which nothing moves and no time, age or id shows."""
    await page.evaluate(_HOLD_STILL)
    return _small(await page.screenshot(animations="disabled", caret="hide", scale="css"))


def _small(png: bytes) -> bytes:
    """In at most 256 colours, which the pages do not have but at the edges of letters."""
    kept = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


@dataclass(frozen=True, slots=True)
class Pictures:
    """The kept pictures. ``folder``: where what differs is left. ``renews``: whether they are taken anew."""

    browser: Browser
    folder: Path
    renews: bool

    @classmethod
    def of(cls, browser: Browser, folder: Path, *, renews: bool) -> "Pictures":
        """Skip the test, with the reason, where the kept ones were drawn with something else."""
        others = [] if renews else _differing(orjson.loads(TAKEN_WITH.read_bytes()), drawn_with(browser))
        if others:
            skip_without_tool(f"what the kept pictures were drawn with: {'; '.join(sorted(others))}", RENEW)
        return cls(browser, folder, renews)

    async def compare(self, page: Page, name: str) -> None:
        """Fail unless the page looks as in the kept picture."""
        png = await still(page)
        if self.renews:
            assert len(png) < BYTES_MAX, f"{name} has {len(png)} bytes: take a picture of a smaller part"
            (FOLDER / f"{name}.png").write_bytes(png)
            TAKEN_WITH.write_bytes(orjson.dumps(drawn_with(self.browser), option=orjson.OPT_INDENT_2) + b"\n")
        else:
            self._check(name, png)

    def _check(self, name: str, png: bytes) -> None:
        with Image.open(FOLDER / f"{name}.png") as kept, Image.open(io.BytesIO(png)) as taken:
            before, now = kept.convert("RGBA"), taken.convert("RGBA")
        assert before.size == now.size, f"{name} is {now.size} and was {before.size}: {RENEW}"
        marked = Image.new("RGBA", before.size)
        part = pixelmatch(before, now, marked, threshold=0.1) / (before.width * before.height)
        if part > DIFFERING_MAX:
            for what, image in (("kept", before), ("taken", now), ("marked", marked)):
                image.save(self.folder / f"{name}-{what}.png")
        assert part <= DIFFERING_MAX, (
            f"{name}: {part:.2%} of its pixels differ. Look at {self.folder}; to keep it: {RENEW}"
        )


def names(beginning: str) -> set[str]:
    """Those that are kept, of the names that begin so, without the beginning."""
    return {path.stem.removeprefix(beginning) for path in FOLDER.glob(f"{beginning}*.png")}
