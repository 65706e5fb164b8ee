"""Pages in a real Chromium, watched: what a page must never do fails the test that opened it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

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
_TELL_OF_VIOLATIONS = """
window.policyViolations = [];
document.addEventListener("securitypolicyviolation", event => {
    window.policyViolations.push(event.violatedDirective + " " + event.blockedURI);
});
"""
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
        await self.page.evaluate(_AXE)
        options = {"runOnly": {"type": "tag", "values": _RULES}}
        result = await self.page.evaluate("options => axe.run(document, options)", options)
        return [f"{found['id']}: {[node['target'] for node in found['nodes']]}" for found in result["violations"]]

    async def scrolls_sideways(self) -> bool:
        """Whether the page is wider than its window."""
        script = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(await self.page.evaluate(script))


@asynccontextmanager
async def opened(browser: Browser, origin: str, **options: Any) -> AsyncIterator[Opened]:  # noqa: ANN401  # playwright's
    """An empty page in a new context with ``options`` (``PHONE``, ``locale``, ``color_scheme``, ...).

    At the end it must have broken no policy, thrown no error, said nothing on the console, opened no dialog, and
    asked nothing of another origin than ``origin``.
    """
    context = await browser.new_context(**{"timezone_id": "Asia/Shanghai", "locale": "zh-CN", **options})
    try:
        await context.add_init_script(_TELL_OF_VIOLATIONS)
        watched = Opened(await context.new_page(), context)
        _watch(watched, origin)
        yield watched
        if not watched.page.is_closed():
            watched.complaints.extend(await watched.violations())
        assert not watched.complaints, watched.complaints
    finally:
        await context.close()


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
