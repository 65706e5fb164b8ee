"""The embedded Redis Cluster: formed once, found again, and whole again after a node was killed."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, MovedError

from engine.embedded import cluster_forming, cluster_layout, servers
from engine.embedded.redis_cluster import EmbeddedRedisCluster
from engine.embedded.redis_node import RedisNode
from engine.embedded.servers import EmbeddedRedis
from engine.errors import OperatorError
from tests.support.supervised import is_alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    """In memory if there is room: its servers sync a file or two each."""
    path = quick_path / "data"
    yield path
    servers.remove(path)


@contextmanager
def clustered(data_dir: Path, *, nodes: int = 3, replicas: int = 0) -> Iterator[EmbeddedRedisCluster]:
    """One that is not started yet, and of which nothing runs after the block."""
    with servers.hold(data_dir) as held:
        cluster = EmbeddedRedisCluster(held, nodes=nodes, replicas=replicas)
        try:
            yield cluster
        finally:
            cluster.kill()


def test_its_servers_have_the_options_that_it_is_given(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        options = {"enable-debug-command": "local", "appendfsync": "no"}
        redis = servers.redis_of(held, nodes=3, options=options)
        assert isinstance(redis, EmbeddedRedisCluster)
        for node in redis.node_services:
            argv = node.command().argv
            for name, value in {**options, "cluster-node-timeout": "1000"}.items():
                assert argv[argv.index(f"--{name}") + 1] == value


def ask_owner(cluster: EmbeddedRedisCluster, *words: str | int) -> str:
    """Ask the node that holds the key's slot."""
    for node in cluster.node_services:
        with suppress(MovedError):
            return node.ask(*words)
    pytest.fail(f"no node took {words}")


def roles(cluster: EmbeddedRedisCluster) -> list[object]:
    """Each node's role, as it says itself."""
    return [node.info("replication")["role"] for node in cluster.node_services]


def whole(cluster: EmbeddedRedisCluster) -> bool:
    return cluster_forming.why_not_whole(cluster.node_services, cluster.layout) is None


def pid_of(node: RedisNode) -> int:
    assert node.process is not None
    return node.process.pid


def test_nodes_become_one_cluster_that_only_its_password_opens(data_dir: Path) -> None:
    with clustered(data_dir, replicas=1) as cluster:
        cluster.start()
        nodes = cluster.node_services
        assert [node.name for node in nodes] == [f"redis-{number}" for number in range(1, 7)]
        assert roles(cluster) == ["master"] * 3 + ["slave"] * 3
        assert all("cluster_state:ok\r" in node.ask("CLUSTER", "INFO") for node in nodes)
        assert [node.info("replication")["master_port"] for node in nodes[3:]] == [node.port for node in nodes[:3]]
        for node in nodes:
            for name, value in [("appendonly", "yes"), ("maxmemory-policy", "noeviction"), ("bind", "127.0.0.1")]:
                assert node.ask("CONFIG", "GET", name) == str([name.encode(), value.encode()])
            stranger = RedisNode("", node.folder, ports=(node.port, 0), password="wrong", options={})
            with pytest.raises(AuthenticationError):
                stranger.ask("PING")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        assert re.fullmatch(rf"redis\+cluster://:[0-9a-f]{{64}}@{re.escape(hosts)}", cluster.url)
        password = cluster.layout.password
        assert password not in repr(cluster.layout)
        holding = [path for path in data_dir.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
        assert len(holding) == 7
        assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
        cluster.stop()


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_second_start_finds_the_cluster_with_its_data(data_dir: Path, is_killed: bool) -> None:
    with clustered(data_dir, replicas=1) as cluster:
        cluster.start()
        ids = [node.ask("CLUSTER", "MYID") for node in cluster.node_services]
        for number in range(30):
            ask_owner(cluster, "SET", f"key-{number}", number)
        if is_killed:
            cluster.kill()
        else:
            cluster.stop()
    with clustered(data_dir, replicas=1) as again:
        assert again.url == cluster.url
        again.start()
        assert [node.ask("CLUSTER", "MYID") for node in again.node_services] == ids
        assert roles(again) == ["master"] * 3 + ["slave"] * 3
        assert [ask_owner(again, "GET", f"key-{number}") for number in range(30)] == list(map(str, range(30)))
        again.stop()


async def test_a_replica_takes_over_from_a_killed_master_which_comes_back_as_its_replica(data_dir: Path) -> None:
    with clustered(data_dir, replicas=1) as cluster:
        cluster.start()
        first, *others = cluster.node_services
        key = next(f"key-{number}" for number in range(100) if is_held_by(first, f"key-{number}"))
        first.ask("SET", key, "kept")
        assert first.ask("WAIT", 1, 5_000) == "1"
        first.kill()
        await wait_until(lambda: others[2].info("replication")["role"] == "master", what="the failover")
        assert others[2].ask("GET", key) == "kept"
        first.start()
        await wait_until(lambda: whole(cluster), what="the cluster being whole again")
        expected = ["slave", "master", "master", "master", "slave", "slave"]
        assert roles(cluster) == expected
        cluster.stop()
        cluster.start()
        assert roles(cluster) == expected
        assert ask_owner(cluster, "GET", key) == "kept"
        cluster.stop()


def is_held_by(node: RedisNode, key: str) -> bool:
    try:
        node.ask("GET", key)
    except MovedError:
        return False
    return True


def test_a_dead_master_without_replicas_stops_its_own_slots_alone(data_dir: Path) -> None:
    with clustered(data_dir) as cluster:
        cluster.start()
        first, second, _ = cluster.node_services
        key = next(f"key-{number}" for number in range(100) if is_held_by(second, f"key-{number}"))
        first.kill()
        assert second.ask("INCR", key) == "1"
        first.start()
        cluster.stop()


def test_a_start_that_was_killed_while_the_cluster_was_formed_is_continued(data_dir: Path) -> None:
    with clustered(data_dir, replicas=1) as cluster:
        for node in cluster.node_services[:4]:
            node.start()
        cluster_forming.form(cluster.node_services[:4], cluster.layout)
        assert "cluster_known_nodes:1\r" not in cluster.node_services[0].ask("CLUSTER", "INFO")
        cluster.kill()
    assert cluster_layout.kept(data_dir) == cluster.layout
    with clustered(data_dir, replicas=1) as again:
        again.start()
        assert roles(again) == ["master"] * 3 + ["slave"] * 3
        again.stop()


async def test_nodes_that_an_earlier_supervisor_left_behind_are_stopped_first(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        cluster, again = (EmbeddedRedisCluster(held, nodes=2) for _ in range(2))
        cluster.start()
        try:
            left = [pid_of(node) for node in cluster.node_services]
            again.start()
            await wait_until(lambda: not any(map(is_alive, left)), what="the old nodes ending")
            assert whole(again)
        finally:
            again.kill()
            cluster.kill()


def test_a_taken_port_is_named(data_dir: Path) -> None:
    with clustered(data_dir, nodes=2) as cluster, socket.socket() as stranger:
        port = cluster.node_services[1].port
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with pytest.raises(OperatorError) as refused:
            cluster.start()
        assert str(refused.value) == (
            f"redis-2 did not start: another program has taken its port {port} of 127.0.0.1: "
            "stop that program, and start again."
        )
        assert all(node.process is None for node in cluster.node_services)


def test_another_kind_of_redis_in_the_data_directory_is_refused(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        EmbeddedRedis(held).prepare()
        with pytest.raises(OperatorError, match=r"holds a single Redis, not a cluster: start it without --redis-nodes"):
            EmbeddedRedisCluster(held, nodes=3)
        assert cluster_layout.kept(data_dir) is None
        EmbeddedRedis(held).folder.rmdir()
        EmbeddedRedisCluster(held, nodes=2, replicas=1)
        for nodes, replicas in [(3, 1), (2, 0)]:
            with pytest.raises(OperatorError, match="holds a Redis Cluster of 2 masters with 1 replica each: start"):
                EmbeddedRedisCluster(held, nodes=nodes, replicas=replicas)


def test_a_damaged_file_is_named(data_dir: Path) -> None:
    with servers.hold(data_dir) as held:
        EmbeddedRedisCluster(held, nodes=2)
        (data_dir / "redis-cluster" / "cluster.json").write_text("{}", encoding="utf-8")
        with pytest.raises(OperatorError, match=r"cluster\.json is damaged: restore it, or start with an empty"):
            EmbeddedRedisCluster(held, nodes=2)
