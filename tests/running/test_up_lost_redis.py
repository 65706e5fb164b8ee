"""`hongbao up` whose Redis is emptied, or killed: it serves again by itself, and gives nothing twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from engine.embedded import servers
from tests.running.test_up import credited, through_trouble
from tests.support.commands import Up, hongbao, upped
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    servers.remove(path)


def logged(up: Up, event: str) -> list[dict[str, object]]:
    return [line for line in up.log() if line["event"] == event]


async def test_an_emptied_redis_is_filled_again_and_a_killed_one_serves_again(data_dir: Path) -> None:
    with upped(data_dir) as up:
        client = up.client()
        async with client.http:
            packet_id = await client.send("alice", count=6, total_fen=600, split="equal")
            assert [await through_trouble(client, packet_id, user) for user in ("ada", "bob")] == [100, 100]
            await credited(client, "bob", 100)

            with Redis(unix_socket_path=servers.urls(data_dir).redis_url.removeprefix("unix://")) as redis:
                redis.flushall()
            assert [await through_trouble(client, packet_id, user) for user in ("ada", "eve")] == [100, 100]
            (recovered,) = logged(up, "lane_recovered")
            assert (recovered["packets"], recovered["claims"], recovered["shares_left"]) == (1, 2, 4)
            await credited(client, "eve", 100)

            os.kill(up.pids()["redis"], signal.SIGKILL)
            assert [await through_trouble(client, packet_id, user) for user in ("eve", "mia")] == [100, 100]
            assert len(logged(up, "lane_recovered")) == 1  # its log was whole: nothing had to be rebuilt

            async def is_ready() -> bool:
                return (await client.http.get("/readyz")).status_code == 200

            await wait_until(is_ready, timeout_s=10, what="being ready")
            for user in ("ada", "bob", "eve", "mia"):
                await credited(client, user, 100)
            audited = hongbao("audit", "--data-dir", data_dir)
            assert audited.returncode == 0, audited.stdout
