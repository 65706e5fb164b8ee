"""Pages in a real Chromium, watched: what a page must never do fails the test that opened it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, async_playwright

from tests.support.needs import needs_browser
from tests.support.repository import ROOT

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
"""A phone's options for ``opened``."""
_OPTIONS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)
_AXE = (ROOT / "tests" / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SCROLLS_SIDEWAYS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
_TELL_OF_VIOLATIONS = """
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", event => {
    window.policyViolations.push(event.violatedDirective + " " + event.blockedURI);
});
"""
_CHANGING: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 720},
    "color_scheme": "light",
    "reduced_motion": "no-preference",
}
"""What a page's user may change at any moment, and what playwright takes if nothing is said."""
_LOADING_FAILED = "Failed to load resource"
"""What Chromium itself says of every answer of 400 and above: that is the page's to deal with, and no fault."""


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A browser; closed at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=needs_browser(), args=list(_OPTIONS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A page in a context of its own, and what it has done so far."""

    page: Page
    context: BrowserContext
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def violations(self) -> list[str]:
        """What the page's policy has refused in the document that is there now."""
        found: list[str] = await self.page.evaluate("window.policyViolations || []")
        return found

    async def inaccessible(self) -> list[str]:
        """What axe finds wrong with the page as it is now: rule, and the elements that break it."""
        if not await self.page.evaluate("'axe' in window"):  # another look at a document that has it
            await self.page.evaluate(_AXE)
        # What it found right is neither told in full nor brought here: that took as long as all the rest.
        options = {"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]}
        script = "options => axe.run(document, options).then(result => result.violations)"
        violations: list[dict[str, Any]] = await self.page.evaluate(script, options)
        return [f"{found['id']}: {[node['target'] for node in found['nodes']]}" for found in violations]

    async def scrolls_sideways(self) -> bool:
        """Whether the page is wider than its window."""
        return bool(await self.page.evaluate(SCROLLS_SIDEWAYS))


@asynccontextmanager
async def opened(browser: Browser, origin: str, **options: Any) -> AsyncIterator[Opened]:  # noqa: ANN401  # playwright's
    """An empty page in a new context with ``options`` (``PHONE``, ``locale``, ``color_scheme``, ...).

    At the end it must have broken no policy, thrown no error, said nothing on the console, opened no dialog, and
    asked nothing of another origin than ``origin``.
    """
    watched = await _new(browser, origin, options)
    try:
        yield watched
        await _check(watched)
    finally:
        await watched.context.close()


def once(handle: Callable[[Route], Awaitable[None]]) -> Callable[[Route], Awaitable[None]]:
    """A handler of the first request only; the others go on as if there were none.

    Playwright's own ``times=1`` is no use here: when the page's last handler has expired and any of its handlers ends,
    the browser lets go of all requests that are still held up.
    """
    is_over = False

    async def handle_first(route: Route) -> None:
        nonlocal is_over
        if is_over:
            await route.fallback()
            return
        is_over = True
        await handle(route)

    return handle_first


class Tabs:
    """Pages that are used again, each by one test at a time. As ``opened``, but for what follows.

    A new context has a process of its own, which first starts, and then parses axe and all else that the last one had
    parsed: two seconds of a core. A page that is used again is blank and online, and has no cookies and no routes. What
    the site has stored and Chromium has cached is still there. So it is for pages that store nothing, and tests that
    count no bytes and give their page no script, function or clock of their own: those could not be taken back.
    """

    def __init__(self, browser: Browser, origin: str) -> None:
        self._browser, self._origin = browser, origin
        self._free: dict[str, list[Opened]] = {}

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Opened]:  # noqa: ANN401  # playwright's
        """A blank page with ``options``, of which a window's size, colours and motion can change from test to test."""
        changing = {name: options.pop(name, usual) for name, usual in _CHANGING.items()}
        free = self._free.setdefault(repr(sorted(options.items())), [])
        watched = free.pop() if free else await _new(self._browser, self._origin, options)
        try:
            await watched.page.set_viewport_size(changing.pop("viewport"))
            await watched.page.emulate_media(**changing)
            yield watched
            await _check(watched)
            await watched.page.goto("about:blank")
            await watched.page.unroute_all(behavior="ignoreErrors")
            await watched.context.set_offline(offline=False)
            await watched.context.clear_cookies()
        except BaseException:
            await watched.context.close()
            raise
        watched.requests.clear()
        watched.complaints.clear()
        free.append(watched)

    async def close(self) -> None:
        """Close them all."""
        for watched in (one for free in self._free.values() for one in free):
            await watched.context.close()
        self._free.clear()


async def _new(browser: Browser, origin: str, options: dict[str, Any]) -> Opened:
    context = await browser.new_context(**{"timezone_id": "Asia/Shanghai", "locale": "zh-CN", **options})
    await context.add_init_script(_TELL_OF_VIOLATIONS)
    watched = Opened(await context.new_page(), context)
    _watch(watched, origin)
    return watched


async def _check(watched: Opened) -> None:
    """Fail if the page has done what no page may do."""
    if not watched.page.is_closed():
        watched.complaints.extend(await watched.violations())
    assert not watched.complaints, watched.complaints


def _watch(watched: Opened, origin: str) -> None:
    def request(sent: Request) -> None:
        watched.requests.append(sent)
        if not sent.url.startswith((f"{origin}/", "data:", "blob:")):
            watched.complaints.append(f"asked another origin: {sent.url}")

    def console(said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"} and not said.text.startswith(_LOADING_FAILED):
            watched.complaints.append(f"console {said.type}: {said.text}")

    async def dialog(shown: Any) -> None:  # noqa: ANN401  # playwright's
        watched.complaints.append(f"dialog: {shown.message}")
        await shown.dismiss()

    watched.page.on("request", request)
    watched.page.on("console", console)
    watched.page.on("pageerror", lambda error: watched.complaints.append(f"error: {error}"))
    watched.page.on("dialog", dialog)


async def take_picture(opened_page: Opened, folder: Path | None, name: str) -> None:
    """Keep a picture of the page as it is now, if pictures are wanted (``--take-pictures``)."""
    if folder is not None:
        await opened_page.page.screenshot(path=folder / f"{name}.png", animations="disabled")
