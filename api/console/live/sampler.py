"""Looks at the counters and the lanes once per second, and keeps what it saw in the ring."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import httpx
import structlog

from api.console.live.counted import Counted, grown
from api.console.live.folder import FolderReader
from api.console.live.points import Point, added, gap
from api.console.live.ring import STEP_MS, Ring
from api.console.live.scraping import Scraper, scrapers_of
from engine.errors import UnavailableError
from engine.observability.repeats import repeats
from engine.persisting.lag import LaneLag, Looked

LOG = structlog.get_logger()
LANES_APART_MAX = 16
"""So many lanes have a line of their own in the charts. Of more, all are in the table and in the sums."""
ADDRESSES_S = 5.0
"""How long the addresses of a name are believed."""
LOOK_S_MAX = 0.8
"""How long the lanes may take. What comes later is not of this second."""
Look = Callable[[], Awaitable[Looked]]


class Sources(Protocol):
    """Where counters come from."""

    @property
    def names(self) -> Sequence[str]:
        """What is asked."""

    async def read(self) -> Mapping[str, Counted]:
        """What each one says that has answered."""


class Folder:
    """The folder of one machine's processes."""

    def __init__(self, reader: FolderReader) -> None:
        self._reader = reader
        self.names: Sequence[str] = ("this machine",)

    async def read(self) -> Mapping[str, Counted]:
        """In a thread, so that pages are answered meanwhile."""
        counted = await asyncio.to_thread(self._reader.read)
        return {} if counted is None else {self.names[0]: counted}


class Urls:
    """Processes elsewhere, all asked at once. ``client`` is closed by its maker.

    A host with several addresses is as many processes. Addresses come and go, so they are looked up every few seconds.
    """

    def __init__(
        self, client: httpx.AsyncClient, urls: Sequence[str], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._clock_s = client, clock_s
        self._scrapers = {url: [Scraper(client, url)] for url in urls}
        self._due_s = -math.inf

    @property
    def names(self) -> Sequence[str]:
        """The URL of each process, with its address."""
        return tuple(scraper.url for of_url in self._scrapers.values() for scraper in of_url)

    async def read(self) -> Mapping[str, Counted]:
        """None of them is waited for longer than the others need at most."""
        if self._clock_s() >= self._due_s:
            self._due_s = self._clock_s() + ADDRESSES_S
            await self._look_up()
        scrapers = [scraper for of_url in self._scrapers.values() for scraper in of_url]
        found = await asyncio.gather(*(scraper.read() for scraper in scrapers))
        return {scraper.url: counted for scraper, counted in zip(scrapers, found, strict=True) if counted is not None}

    async def _look_up(self) -> None:
        """What cannot be looked up now is where it was."""
        found = await asyncio.gather(*(scrapers_of(self._client, url) for url in self._scrapers))
        for url, scrapers in zip(list(self._scrapers), found, strict=True):
            self._scrapers[url] = scrapers or self._scrapers[url]


class Sampler:
    """``ring``: what it saw. ``lanes``: as they were at the last look; empty if they could not be seen then.

    ``silent``: the sources that did not answer at the last look.
    """

    def __init__(self, sources: Sources, look: Look, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.sources, self._look, self._clock_s = sources, look, clock_s
        self._before: dict[str, Counted] = {}
        self._known_at_s: float | None = None
        self.ring = Ring()
        self.lanes: Sequence[LaneLag] = ()
        self.silent: Sequence[str] = ()

    async def run(self, stop: asyncio.Event) -> None:
        """Look once per second until ``stop`` is set. It outlives every error: a console without charts is blind."""
        due_s = self._clock_s()
        while not stop.is_set():
            try:
                await self.sample()
            except Exception as error:
                if times := repeats.times("not_sampled", f"{type(error).__name__} {error}"):
                    LOG.exception("not_sampled", times=times)
            due_s = max(due_s + STEP_MS / 1_000, self._clock_s())
            try:
                async with asyncio.timeout(due_s - self._clock_s()):
                    await stop.wait()
            except TimeoutError:
                pass

    async def sample(self) -> None:
        """Look once."""
        counted, lanes = await asyncio.gather(self.sources.read(), self._look_at_lanes())
        self.lanes = lanes
        self.silent = [name for name in self.sources.names if name not in counted]
        at_ms = max(int(time.time() * 1_000), self.ring.newest_ms + 1)
        now_s = self._clock_s()
        if not counted:
            self.ring.add(gap(at_ms))
            return
        point = self._point(at_ms, now_s, counted, lanes)
        names = set(self.sources.names)
        self._before = {name: known for name, known in self._before.items() if name in names} | dict(counted)
        self._known_at_s = now_s
        if point is not None:
            self.ring.add(point)

    def _point(
        self, at_ms: int, now_s: float, counted: Mapping[str, Counted], lanes: Sequence[LaneLag]
    ) -> Point | None:
        """What happened since the last time that somebody answered. None at the first look: who knows since when."""
        if self._known_at_s is None:
            return None
        counts: Counter[str] = Counter()
        buckets = []
        for name, after in counted.items():
            if (before := self._before.get(name)) is not None:
                deltas, of_source = grown(before, after)
                counts.update(deltas)
                buckets.append(of_source)
        return Point(
            at_ms=at_ms,
            elapsed_ms=max(1, round((now_s - self._known_at_s) * 1_000)),
            counts=dict(counts),
            gauges=gauges_of(lanes) | {"sources.silent": float(len(self.silent))},
            buckets=added(buckets),
        )

    async def _look_at_lanes(self) -> Sequence[LaneLag]:
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                return (await self._look()).lanes
        except (UnavailableError, TimeoutError):
            return ()


def gauges_of(lanes: Sequence[LaneLag]) -> dict[str, float]:
    """How far behind all lanes are together, and the first ones alone. What is not known is left out."""
    if not lanes:
        return {}
    known = [(lane.lane, lane.behind) for lane in lanes if lane.behind is not None]
    gauges: dict[str, float] = {
        "lanes.fenced": sum(lane.is_fenced for lane in lanes),
        "lanes.quarantined": sum(lane.quarantined for lane in lanes),
    }
    if known:
        gauges["lag.events"] = sum(behind.events for _, behind in known)
        gauges["lag.backlog"] = sum(behind.backlog for _, behind in known)
    seconds = {lane: behind.seconds for lane, behind in known if not math.isnan(behind.seconds)}
    if seconds:
        gauges["lag.seconds"] = max(seconds.values())
    for lane, behind in known:
        if lane < LANES_APART_MAX:
            gauges[f"lane.{lane}.events"] = behind.events
            if lane in seconds:
                gauges[f"lane.{lane}.seconds"] = seconds[lane]
    return gauges
