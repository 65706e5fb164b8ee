"""The ledger stopped, or Redis out of room: claims go on as far as they may, are refused, and nothing is lost."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import psutil
import pytest
from redis.asyncio import Redis

from engine.auditing.audit import audit
from engine.embedded.servers import EmbeddedPostgres
from engine.engine import Engine
from engine.errors import BusyError, ServerRefusesError, UnavailableError
from engine.lanes.clients import command
from engine.records import Outcome, PacketState, SplitKind
from engine.settings import Settings
from tests.support.front import open_front
from tests.support.scenes import caught_up, changed, claimed, lag, persisting, send, sweeping
from tests.support.waiting import wait_until

BACKLOG_MAX = 300
MORE_MEMORY_BYTES = 1_500_000


@dataclass
class Crowd:
    """Users who claim one packet, one after the other in a few lines, until they are told to stop."""

    engine: Engine
    packet_id: str
    lines: int = 8
    told: dict[str, int] = field(default_factory=dict)
    refused: Counter[type[Exception]] = field(default_factory=Counter)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Claim in all lines."""
        await asyncio.gather(*(self._line(number) for number in range(self.lines)))

    async def _line(self, line: int) -> None:
        number = 0
        while not self.stopping.is_set():
            user = f"user-{line}-{number}"
            try:
                result = await self.engine.claims.claim(self.packet_id, user)
            except UnavailableError as error:
                self.refused[type(error)] += 1
                await asyncio.sleep(0.01)  # so long does who was refused wait here, and asks again
                continue
            assert result.outcome in (Outcome.CLAIMED, Outcome.ALREADY)
            self.told[user] = result.amount_fen
            number += 1
            await asyncio.sleep(0.001)


@asynccontextmanager
async def crowd_on(engine: Engine, packet_id: str) -> AsyncIterator[Crowd]:
    """A crowd that claims until the end of the block."""
    crowd = Crowd(engine, packet_id)
    task = asyncio.create_task(crowd.run())
    try:
        yield crowd
    finally:
        crowd.stopping.set()
        await task


@contextmanager
def stopped(server: EmbeddedPostgres) -> Iterator[None]:
    """Postgres, each of its processes, does nothing until the end of the block."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in family:
            process.suspend()
        yield
    finally:
        for process in family:
            os.kill(process.pid, signal.SIGCONT)


async def assert_clean(engine: Engine) -> None:
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding.line() for finding in findings if not finding.holds] == []


@pytest.mark.long
async def test_postgres_stopped_under_load_loses_nothing(settings: Settings, postgres_server: EmbeddedPostgres) -> None:
    """Claims go on until the backlog is at its bound, are refused as busy, and go on when the ledger has caught up."""
    settings = changed(settings, backlog_max=BACKLOG_MAX, lanes=1)
    async with Engine.open(settings) as engine, persisting(settings):
        packet_id = (await send(engine, total_fen=500_000, count=50_000, split=SplitKind.EQUAL)).packet_id

        async def is_open() -> bool:
            return await engine.store.states([packet_id]) == ["open"]

        async with sweeping(settings):
            await wait_until(is_open, timeout_s=20, what="the packet's opening")
        await caught_up(engine)
        async with crowd_on(engine, packet_id) as crowd:
            await wait_until(lambda: len(crowd.told) > 100, timeout_s=20, what="a hundred claims")
            with stopped(postgres_server):
                before = len(crowd.told)
                await wait_until(lambda: crowd.refused[BusyError] > 20, timeout_s=20, what="claims being refused")
                at_the_bound = len(crowd.told)
                assert at_the_bound > before, "claims go on without Postgres"
                status = await engine.store.lane_status(0)
                assert status is not None
                assert status.position - status.applied == BACKLOG_MAX
                await wait_until(lambda: crowd.refused[BusyError] > 200, timeout_s=20, what="more being refused")
                assert len(crowd.told) == at_the_bound, "no more is given than the bound allows"
            await wait_until(lambda: len(crowd.told) > at_the_bound + 1_000, timeout_s=20, what="claims going on")
        assert set(crowd.refused) == {BusyError}
        await caught_up(engine)
        assert await lag(engine) == 0
        assert await claimed(engine.pool, packet_id) == crowd.told
        await assert_clean(engine)


@asynccontextmanager
async def out_of_memory_soon(client: Redis) -> AsyncIterator[None]:
    """Redis may use little more than it does, until the end of the block."""
    info = await client.info("memory")
    await command(client, "CONFIG", "SET", "maxmemory", info["used_memory"] + MORE_MEMORY_BYTES)
    try:
        yield
    finally:
        await command(client, "CONFIG", "SET", "maxmemory", 0)


async def fill_memory(client: Redis) -> None:
    """Leave Redis no room at all, not even when a client's buffers are let go."""
    info = await client.info("memory")
    await command(client, "CONFIG", "SET", "maxmemory", max(1, info["used_memory"] // 2))


async def test_redis_out_of_memory_refuses_and_leaves_nothing_half_done(settings: Settings, redis: Redis) -> None:
    """And lets go of what the ledger has, so that it has room again."""
    settings = changed(settings, backlog_max=1_000_000, lanes=1)
    async with Engine.open(settings) as engine:
        packet_id = (await send(engine, total_fen=500_000, count=5_000, split=SplitKind.EQUAL)).packet_id
        async with out_of_memory_soon(redis), crowd_on(engine, packet_id) as crowd:
            await wait_until(lambda: len(crowd.told) > 100, timeout_s=20, what="a hundred claims")
            await fill_memory(redis)
            await wait_until(lambda: crowd.refused[ServerRefusesError] > 50, timeout_s=20, what="refusals")
            given = len(crowd.told)
            await wait_until(lambda: crowd.refused[ServerRefusesError] > 100, timeout_s=20, what="more refusals")
            assert len(crowd.told) == given
            counts = await engine.store.counts(packet_id)
            assert counts is not None
            assert 5_000 - counts.remaining_count == given, "what was refused was not given"
            sent = await send(engine, "ben", total_fen=100, count=1)
            assert sent.state is PacketState.FUNDED, "paid for, and opened later"
            assert await engine.store.states([sent.packet_id]) == [None]
            async with persisting(settings):

                async def is_trimmed() -> bool:
                    return int(await redis.xlen("{hongbao:000}:events")) == 0

                await wait_until(is_trimmed, timeout_s=20, what="the ledger's having everything, and Redis no more")
        async with persisting(settings), sweeping(settings):

            async def is_open() -> bool:
                return await engine.store.states([sent.packet_id]) == ["open"]

            await wait_until(is_open, timeout_s=20, what="the packet's opening")
            assert (await engine.claims.claim(sent.packet_id, "ada")).outcome is Outcome.CLAIMED
            await caught_up(engine)
        assert await claimed(engine.pool, packet_id) == crowd.told
        await assert_clean(engine)


@pytest.mark.parametrize("kind", ["claim", "claims", "send"])
async def test_redis_out_of_memory_is_told_as_a_refusal(settings: Settings, redis: Redis, kind: str) -> None:
    async with open_front(settings) as client:
        packet_id = await client.send("alice", total_fen=1_000, count=10)
        async with out_of_memory_soon(redis):
            await fill_memory(redis)
            if kind == "send":
                assert await client.send("ben", total_fen=100, count=1)  # paid, and opened when there is room
                return
            if kind == "claim":
                answer = await client.http.post(f"/v1/packets/{packet_id}/claims", headers=client.as_user("bob"))
                problem, headers = answer.json(), answer.headers
                assert (answer.status_code, headers["retry-after"]) == (503, "5")
            else:
                body = {"claims": [{"packet_id": packet_id, "user_id": "bob"}]}
                answer = await client.http.post("/v1/claims", json=body, headers=client.as_backend())
                if answer.status_code == 503:
                    problem = answer.json()
                else:
                    (problem,) = answer.json()["results"]
            assert problem["code"] == "server_refuses", answer.text
            assert "OOM" not in answer.text, "what a server says is no client's business"
        assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"
