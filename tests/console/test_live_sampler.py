"""The sampler: against real processes' files, real scrapes, and a source that comes and goes."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from api.console.live import scraping
from api.console.live.counted import Counted
from api.console.live.folder import FolderReader
from api.console.live.points import ELAPSED
from api.console.live.sampler import Folder, Sampler, Urls
from engine.engine import Engine
from engine.observability import metrics_directory
from engine.packets.hottest import Hottest
from engine.persisting import lag
from engine.persisting.lag import Looked
from engine.settings import Settings
from tests.support.front import serving
from tests.support.scenes import caught_up, persisting, send
from tests.support.waiting import wait_until

STAYS = """
import sys
from engine.observability import metrics
metrics.PROCESS_STARTS.labels("serve").inc()
for line in sys.stdin:
    outcome, count = line.split()
    metrics.CLAIMS.labels(outcome).inc(int(count))
    metrics.HTTP_SECONDS.labels("POST", "/v1/packets/{packet_id}/claims").observe_counted([int(count)] + [0] * 13, 0.1)
    metrics.CLAIM_BATCH_SIZE.observe(int(count))
    print("counted", flush=True)
"""


class Process:
    """A process that counts what it is told, and shares it through the folder."""

    def __init__(self, folder: Path) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", STAYS],
            env=metrics_directory.environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def count(self, outcome: str, count: int) -> None:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(f"{outcome} {count}\n")
        self.popen.stdin.flush()
        assert self.popen.stdout.readline() == "counted\n"

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "metrics"
    metrics_directory.prepare(path)
    return path


async def no_lanes() -> Looked:
    return Looked([], None)


def column(sampler: Sampler, name: str) -> list[float | None]:
    window = sampler.ring.window(900)
    return window.series.get(name, [0.0] * len(window.at_ms))


async def test_the_folder_is_added_up_over_processes_and_their_ends(folder: Path) -> None:
    first, second = Process(folder), Process(folder)
    try:
        first.count("claimed", 5)
        second.count("empty", 7)
        sampler = Sampler(Folder(FolderReader(folder)), no_lanes)
        await sampler.sample()
        assert sampler.ring.newest_ms == 0  # nobody knows since when
        first.count("claimed", 2)
        second.count("claimed", 3)
        await sampler.sample()
        assert column(sampler, "claims.claimed") == [5]
        assert column(sampler, "batch.claims") == [5]
        assert column(sampler, "batch.calls") == [2]
        assert column(sampler, "p99_ms") == [pytest.approx(0.495)]
        second.end()
        first.count("empty", 1)
        await sampler.sample()
        assert column(sampler, "claims.empty") == [0, 1]
        assert column(sampler, ELAPSED)[-1] is not None
        first.end()
        await sampler.sample()
        assert column(sampler, "claims.claimed") == [5, 0, None]
        assert sampler.silent == ["this machine"]
    finally:
        first.end()
        second.end()


async def test_what_was_counted_in_a_gap_is_not_lost(folder: Path) -> None:
    dies, comes = Process(folder), None
    try:
        dies.count("claimed", 1)
        sampler = Sampler(Folder(FolderReader(folder)), no_lanes)
        await sampler.sample()
        dies.count("claimed", 4)
        dies.end()
        await sampler.sample()
        comes = Process(folder)
        comes.count("claimed", 10)
        await sampler.sample()
        assert column(sampler, "claims.claimed") == [None, 14]
    finally:
        dies.end()
        if comes is not None:
            comes.end()


class Turns:
    """Sources that say what they are told to, look by look."""

    def __init__(self, *looks: Mapping[str, float]) -> None:
        self._looks = list(looks)
        self.names: Sequence[str] = ("a", "b")

    async def read(self) -> Mapping[str, Counted]:
        return {name: Counted({"claims.claimed": value}) for name, value in self._looks.pop(0).items()}


async def test_one_of_several_that_is_away_or_begins_anew_spoils_nothing() -> None:
    turns = Turns({"a": 100, "b": 50}, {"a": 110, "b": 55}, {"a": 120}, {"a": 130, "b": 4}, {}, {"a": 131, "b": 4})
    sampler = Sampler(turns, no_lanes)
    for _ in range(6):
        await sampler.sample()
    assert column(sampler, "claims.claimed") == [15, 10, 14, None, 1]
    assert column(sampler, "sources.silent") == [0, 1, 0, None, 0]


@pytest.mark.long
async def test_it_goes_on_after_an_error_and_stops_when_told() -> None:
    class Breaks(Turns):
        async def read(self) -> Mapping[str, Counted]:
            found = await super().read()
            if not found:
                raise RuntimeError("a test")
            return found

    sampler = Sampler(Breaks({"a": 1}, {}, {"a": 3}, *[{"a": 3} for _ in range(100)]), no_lanes)
    stop = asyncio.Event()
    running = asyncio.create_task(sampler.run(stop))
    await wait_until(
        lambda: column(sampler, "claims.claimed")[:1] == [2], timeout_s=10, what="the point after the error"
    )
    stop.set()
    await running


async def test_scrapes_of_a_real_process_and_of_one_that_is_away(settings: Settings) -> None:
    async with serving(settings) as (client, _), httpx.AsyncClient(trust_env=False) as asking:
        url = f"{str(client.http.base_url).rstrip('/')}/metrics"
        sampler = Sampler(Urls(asking, [url, "http://127.0.0.1:9/metrics"]), no_lanes)
        await sampler.sample()
        packet_id = await client.send("alice", total_fen=100, count=2)
        for user in ("bob", "carol", "dave"):
            await client.claim(packet_id, user)
        await sampler.sample()
        assert column(sampler, "claims.claimed") == [2]
        assert column(sampler, "claims.empty") == [1]
        assert sampler.silent == ["http://127.0.0.1:9/metrics"]
        assert (column(sampler, "p99_ms")[0] or 0) > 0


async def test_a_name_with_several_addresses_is_as_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose's containers and a headless service's pods. Each counts on its own, and one may come or go."""
    claimed, hosts = {"127.0.0.1": 5, "127.0.0.2": 1_000}, list[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        hosts.append(head.partition("host: ")[2].partition("\r\n")[0])
        count = claimed[writer.get_extra_info("sockname")[0]]
        body = f'# TYPE hongbao_claims_total counter\nhongbao_claims_total{{outcome="claimed"}} {count}\n'
        writer.write(f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    resolved = {"127.0.0.1", "127.0.0.2"}

    async def addresses_of(host: str) -> set[str]:
        if not resolved:
            raise OSError("no such name")
        return resolved if host == "api.test" else {host}

    monkeypatch.setattr(scraping, "addresses_of", addresses_of)
    one = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = one.sockets[0].getsockname()[1]
    async with one, await asyncio.start_server(answer, "127.0.0.2", port), httpx.AsyncClient(trust_env=False) as asking:
        now_s = iter(range(0, 10_000, 3))
        urls = Urls(asking, [f"http://api.test:{port}/metrics"], clock_s=lambda: float(next(now_s)))
        sampler = Sampler(urls, no_lanes)
        await sampler.sample()
        claimed |= {"127.0.0.1": 7, "127.0.0.2": 1_001}
        await sampler.sample()
        assert column(sampler, "claims.claimed") == [3]
        assert sampler.silent == []
        assert set(hosts) == {f"api.test:{port}"}
        resolved.clear()  # the name server is away: they are where they were
        claimed["127.0.0.2"] = 1_003
        for _ in range(3):
            await sampler.sample()
        assert sum(count or 0 for count in column(sampler, "claims.claimed")) == 5
        resolved.add("127.0.0.1")  # the other has ended: nobody waits for it
        for _ in range(3):
            await sampler.sample()
        assert urls.names == (f"http://127.0.0.1:{port}/metrics",)
        assert sampler.silent == []


async def test_addresses_are_of_one_kind() -> None:
    """A machine with both kinds has each process twice, else."""
    assert await scraping.addresses_of("localhost") == {"127.0.0.1"}
    assert await scraping.addresses_of("::1") == {"::1"}


async def test_lanes_are_looked_at_and_the_hottest_packets_come_from_the_ledger(
    engine: Engine, settings: Settings
) -> None:
    async def look() -> Looked:
        return await lag.look(engine.pool, engine.store, engine.stream)

    sampler = Sampler(Turns({"a": 1}, {"a": 1}, {"a": 1}), look)
    hot, cool = [await send(engine, total_fen=1_000, count=100) for _ in range(2)]
    claims = [(hot.packet_id, f"user{number}") for number in range(30)]
    await engine.claims.claim_many([*claims, (cool.packet_id, "user0")])
    await sampler.sample()
    await sampler.sample()
    assert column(sampler, "lag.events") == [33]
    assert sum(lane.behind.events for lane in sampler.lanes if lane.behind is not None) == 33
    async with persisting(settings):
        await caught_up(engine)
    await sampler.sample()
    assert column(sampler, "lag.events") == [33, 0]
    hottest = Hottest(engine.pool)
    found = await hottest.packets()
    assert [packet.packet_id for packet in found] == [hot.packet_id, cool.packet_id]
    assert [packet.claims for packet in found] == [30, 1]
    assert found[0].part == pytest.approx(30 / 31)
    await engine.claims.claim(cool.packet_id, "user1")
    assert await hottest.packets() is found  # asked again at once: what is known


async def test_a_ledger_without_claims_has_no_hot_packet(engine: Engine) -> None:
    assert await Hottest(engine.pool).packets() == []
