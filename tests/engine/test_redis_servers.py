"""The form of HONGBAO_REDIS_URL: what it means, and one sentence for whatever is wrong, never with a password."""

import pytest

from engine.errors import OperatorError
from engine.lanes.topology import reading
from engine.redis_servers import RedisServer, Watched, servers_in, why_unheld
from engine.settings import Settings

A, B = "redis://:secret@a:6379/0", "rediss://user:secret@b:6380/1?protocol=3"
NEEDED = "each of several servers needs its lanes and its URL, as in 0-3=redis://a:6379 4-7=redis://b:6379"

SCHEMES_NEEDED = (
    "it must begin with redis:// or rediss:// or unix:// or redis+sentinel:// or redis+cluster:// or rediss+cluster://"
)
CLUSTER_NEEDED = "it must name some of the cluster's servers and nothing else, as in redis+cluster://a:6379,b:6379"
SENTINEL_NEEDED = "it must name the Sentinels and their master, as in redis+sentinel://a:26379,b:26379,c:26379/main"


@pytest.mark.parametrize("url", [A, B, "unix:///run/a b/redis.sock?db=0", f"  {A}\n"])
def test_one_url_holds_all_lanes(url: str) -> None:
    (server,) = servers_in(url)
    assert (server.url, server.lanes) == (url.strip(), None)
    assert why_unheld(url, range(1_000)) is None


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\n", "\t ,\n"])
def test_several_urls_hold_the_lanes_before_them(separator: str) -> None:
    text = separator.join([f"0-2={A}", f"3={B}", f"4-4={A}", "5-6=unix:///run/a, b/redis.sock"])
    servers = servers_in(text)
    assert [(server.url, server.lanes) for server in servers] == [
        (A, (0, 1, 2, 4)),
        (B, (3,)),
        ("unix:///run/a, b/redis.sock", (5, 6)),
    ]
    assert [server.place for server in servers] == ["a:6379", "b:6380", "/run/a, b/redis.sock"]
    assert why_unheld(text, range(7)) is None
    assert why_unheld(text, range(8)) == "HONGBAO_REDIS_URL names no server for lane 7"
    assert "secret" not in repr(servers)


def test_servers_come_in_the_order_of_their_lanes_as_the_nodes_do() -> None:
    text = f"2-3={B} 0={A} 1={B}"
    assert [server.place for server in servers_in(text)] == ["a:6379", "b:6380"]
    assert [node.place for node in reading(text, timeout_s=1.0).nodes] == ["a:6379", "b:6380"]


def test_sentinels_know_where_a_master_is() -> None:
    url = "redis+sentinel://user:sec%40ret@a,b:5000,[::1]:5001/my%20main/2?sentinel_password=secret%26&protocol=3"
    for text in (url, f"0-3={url} 4={A}", f"4={A}, 0-3={url}"):
        server = servers_in(text)[0]
        assert server.place == "my main"
        assert server.watched == Watched("my main", (("a", 26_379), ("b", 5_000), ("::1", 5_001)), "secret&")
        assert server.client_url == "redis://user:sec%40ret@0.0.0.0/2?protocol=3"
    plain = RedisServer("redis+sentinel://a/main", None)
    assert (plain.client_url, plain.watched) == ("redis://0.0.0.0/", Watched("main", (("a", 26_379),), None))
    assert RedisServer(A, None).watched is None


def test_a_cluster_is_named_by_some_of_its_servers() -> None:
    url = "redis+cluster://user:sec%40ret@a,b:7000,[::1]:7001/0?protocol=3"
    for text in (url, f"0-3={url} 4={A}", f"4={A}, 0-3={url}"):
        server = servers_in(text)[0]
        assert server.place == "a,b:7000,[::1]:7001"
        assert server.cluster == (("a", 6_379), ("b", 7_000), ("::1", 7_001))
        assert server.client_url == "redis://user:sec%40ret@0.0.0.0/?protocol=3"
    assert RedisServer("rediss+cluster://a", None).client_url == "rediss://0.0.0.0/"
    assert RedisServer(A, None).cluster == ()


def test_in_a_cluster_each_lane_is_a_node_of_its_own() -> None:
    topology = reading("redis+cluster://:secret@a,b", lanes=range(3), timeout_s=1.0)
    assert [node.lane for node in topology.nodes] == [0, 1, 2]
    assert [node.name for node in topology.nodes] == [
        f"Redis at the cluster (slot {slot})" for slot in (5936, 1809, 14194)
    ]


def test_a_password_may_look_like_lanes() -> None:
    url = "redis://:a,1=b@h:1"
    assert [server.url for server in servers_in(f"0-3={url} 4={A}")] == [url, A]
    assert [server.url for server in servers_in(url)] == [url]


WRONG = [
    (f"0-3={A} 3-5={B}", "lane 3 has two servers: name each lane once"),
    (f"0-3={A} 2={A}", "lane 2 is named twice: name each lane once"),
    (f"3-0={A}", "write the lanes 3-0 with the smaller number first"),
    (f"0-1000={A}", "lane 1000 is above 999, the largest lane there can be"),
    (f"{A} {B}", NEEDED),
    (f"{A},{B}", NEEDED),
    (f"{A} 4-7={B}", NEEDED),
    (f"0-3={A} {B}", NEEDED),
    (f"0-3={A} 4-7=b:6379", NEEDED),
    (f"0-3={A}, 4-x={B}", NEEDED),
    (f"0-3 = {A}", NEEDED),
    ("0-3=a:6379", NEEDED),
    ("0-3=", NEEDED),
    (f"0-3={A} 4=http://b", SCHEMES_NEEDED),
    ("valkey+cluster://:secret@a", SCHEMES_NEEDED),
    ("redis+cluster://:secret@a/1", CLUSTER_NEEDED),
    ("redis+cluster://:secret@a/main", CLUSTER_NEEDED),
    ("redis+cluster://:secret@a,,b", CLUSTER_NEEDED),
    ("redis+cluster://:secret@", CLUSTER_NEEDED),
    ("redis+cluster://:secret@a,b:no", "its port is not a number from 0 to 65535"),
    (f"0={A} 1=redis+cluster://:secret@a b", NEEDED),
    ("redis+sentinel://:secret@a", SENTINEL_NEEDED),
    ("redis+sentinel://:secret@a/", SENTINEL_NEEDED),
    ("redis+sentinel://:secret@a,,b/main", SENTINEL_NEEDED),
    ("redis+sentinel:///main", SENTINEL_NEEDED),
    (f"0={A} 1=redis+sentinel://:secret@a b/main", NEEDED),
    ("redis+sentinel://:secret@a,b:no/main", "its port is not a number from 0 to 65535"),
    (f"0-3={A} 4=redis://b:no", "its port is not a number from 0 to 65535"),
    ("0=redis://:sec#ret@b:1", "its user and password must be percent-encoded"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_what_is_wrong_is_said_in_one_sentence_without_a_password(text: str, why: str) -> None:
    with pytest.raises(OperatorError) as refused:
        Settings.load(redis_url=text, lanes=1)
    said = str(refused.value)
    assert said.startswith(f"HONGBAO_REDIS_URL cannot be used: {why}")
    assert "secret" not in said
    with pytest.raises(OperatorError) as refused:
        reading(text, timeout_s=1.0)
    assert str(refused.value) == said


def test_every_lane_of_the_setting_needs_a_server() -> None:
    with pytest.raises(OperatorError) as refused:
        Settings.load(redis_url=f"0-1={A} 3={B}", lanes=4)
    assert str(refused.value) == "HONGBAO_REDIS_URL names no server for lane 2, and HONGBAO_LANES is 4."
    assert Settings.load(redis_url=f"0-2={A} 3-9={B}", lanes=4).lanes == 4


def test_people_see_a_servers_place_and_not_its_password() -> None:
    topology = reading(f"0-1={A} 2={B} 3={A}".replace("3=", "4="), timeout_s=1.0)
    first, second = topology.nodes
    assert [node.name for node in topology.nodes] == ["Redis at a:6379", "Redis at b:6380"]
    assert topology.by_node([4, 2, 0]) == {first: [4, 0], second: [2]}
    assert "secret" not in f"{first.place}{second.place}"
    (alone,) = reading(A, timeout_s=1.0).nodes
    assert alone.name == "Redis"
