"""`hongbao up --redis-nodes`: its own Redis Cluster, found again at the next start, and whole after a kill."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from engine.embedded import cluster_layout, servers
from engine.embedded.cluster_forming import SLOTS, slots_of
from engine.embedded.cluster_layout import Layout
from engine.lanes import keys
from engine.running.cluster_lanes import lanes_for
from tests.running.test_up import credited, hanging, through_trouble
from tests.support.commands import hongbao, sentence, upped
from tests.support.waiting import wait_until


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    path = quick_path / "data"
    yield path
    if path.exists():
        servers.remove(path)


@pytest.mark.long
async def test_up_runs_a_cluster_that_survives_a_killed_master_and_the_next_start_finds_it(data_dir: Path) -> None:
    with upped(data_dir, "--redis-nodes", "3", "--replicas", "1", HONGBAO_ACK="replica") as up:
        nodes = [f"redis-{number}" for number in range(1, 7)]
        assert sorted(up.pids()) == ["persist", "postgres", *nodes, "serve-1", "sweep"]
        client = up.client()
        async with client.http:
            packets: list[str] = []
            while {packet_id[2:5] for packet_id in packets} != {"000", "001", "002"}:  # chance decides of each
                assert len(packets) < 100
                packets.append(await client.send("alice", count=6, total_fen=600, split="equal"))
            for packet_id in packets:
                assert await through_trouble(client, packet_id, "bob") == 100
            killed = up.pids()["redis-1"]
            os.kill(killed, signal.SIGKILL)
            for packet_id in packets:
                assert await through_trouble(client, packet_id, "eve") == 100
            await wait_until(lambda: up.pids().get("redis-1", killed) != killed, what="another redis-1")
            layout = cluster_layout.kept(data_dir)
            assert layout is not None
            with hanging(up, "redis-2"):  # so that it is not started again, and its replica takes over
                await wait_until(lambda: role_of(layout, 5) == "master", what="the failover")
            await wait_until(lambda: role_of(layout, 2) == "slave", what="the former master being a replica")
            for packet_id in packets:
                assert await through_trouble(client, packet_id, "ida") == 100
            for user in ("bob", "eve", "ida"):
                await credited(client, user, 100 * len(packets))
        for command in ("lanes", "doctor", "audit"):
            finished = hongbao(command, "--data-dir", data_dir, HONGBAO_ACK="replica")
            assert finished.returncode == 0, finished.stdout + finished.stderr
        assert up.end() == (0, "")
    with upped(data_dir) as up:
        assert {name for name in up.pids() if name.startswith("redis")} == set(nodes)
        assert (role_of(layout, 2), role_of(layout, 5)) == ("slave", "master")
        client = up.client()
        async with client.http:
            for packet_id in packets:
                assert await through_trouble(client, packet_id, "eve") == 100
                assert await through_trouble(client, packet_id, "mia") == 100
            await credited(client, "mia", 100 * len(packets))
        assert up.end() == (0, "")
    audited = hongbao("audit", "--data-dir", data_dir)  # nothing runs: it starts the cluster itself
    assert audited.returncode == 0, audited.stdout + audited.stderr


def role_of(layout: Layout, number: int) -> str:
    """What a node says that it is."""
    with Redis(port=layout.ports[number - 1][0], password=layout.password) as client:
        return str(client.info("replication")["role"])


def test_another_number_of_nodes_is_refused(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        servers.EmbeddedRedisCluster(held, nodes=3, replicas=1)
    for words in (("--redis-nodes", "2"), ("--redis-nodes", "1"), ("--redis-nodes", "3")):
        said = sentence(hongbao("up", "--port", "0", "--data-dir", data_dir, *words))
        assert "holds a Redis Cluster of 3 masters with 1 replica each: start it without --redis-nodes" in said


def test_a_cluster_is_refused_where_a_single_redis_is(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        servers.EmbeddedRedis(held).prepare()
    said = sentence(hongbao("up", "--port", "0", "--data-dir", data_dir, "--redis-nodes", "3"))
    assert "holds a single Redis, not a cluster: start it without --redis-nodes" in said
    assert cluster_layout.kept(data_dir) is None


def test_options_that_contradict_each_other_are_refused(data_dir: Path) -> None:
    words = ("up", "--port", "0", "--data-dir", data_dir)
    said = sentence(hongbao(*words, "--redis-nodes", "3", HONGBAO_REDIS_URL="redis://127.0.0.1:1"))
    assert said.startswith("--redis-nodes is about the embedded Redis, and HONGBAO_REDIS_URL names your own")
    assert sentence(hongbao(*words, "--replicas", "1")).endswith("add --redis-nodes, the number of these.")
    assert not data_dir.exists()


def test_each_master_gets_a_lane() -> None:
    assert [lanes_for(masters) for masters in range(1, 5)] == [1, 3, 3, 4]
    for masters in range(1, 10):
        parts = [slots_of(index, masters) for index in range(masters)]
        assert [slot for part in parts for slot in part] == list(range(SLOTS))
        slots = [keys.slot(lane) for lane in range(lanes_for(masters))]
        assert all(any(slot in part for slot in slots) for part in parts)
