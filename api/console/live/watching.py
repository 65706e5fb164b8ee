"""The sampler of one console process, from its start to its end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from api.console.live.folder import FolderReader
from api.console.live.sampler import Folder, Look, Sampler, Sources, Urls
from engine.observability import metrics_directory
from engine.packets.hottest import Hottest
from engine.settings import Settings


@dataclass(frozen=True, slots=True)
class Live:
    """What the page shows."""

    sampler: Sampler
    hottest: Hottest

    def now_ms(self) -> int:
        """The clock of the points."""
        return int(time.time() * 1_000)


@asynccontextmanager
async def watching(settings: Settings, look: Look, hottest: Hottest) -> AsyncIterator[Live]:
    """Look once per second for as long as the block. ``look``: at the lanes."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        sampler = Sampler(await _sources(settings, stack), look)
        running = asyncio.create_task(sampler.run(stop))
        try:
            yield Live(sampler, hottest)
        finally:
            stop.set()
            await running


async def _sources(settings: Settings, stack: AsyncExitStack) -> Sources:
    urls = settings.console_metrics_urls.replace(",", " ").split()
    if not urls:
        return Folder(FolderReader(metrics_directory.directory(settings)))
    # No proxies or certificates from the environment: only the settings read that.
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    return Urls(client, urls)
