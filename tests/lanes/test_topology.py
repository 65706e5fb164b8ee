"""Which server holds a lane, and that each is closed with its clients."""

import pytest
from redis.asyncio import Redis

from engine.errors import UnavailableError
from engine.lanes.topology import Node, Topology


def node(name: str) -> Node:
    client = Redis.from_url("redis://127.0.0.1:1")
    return Node(fixed_place=name, client=client, streams=client)


def test_one_server_holds_every_lane() -> None:
    alone = node("alone")
    topology = Topology.of_one(alone)
    assert topology.nodes == (alone,)
    assert {topology.node_of(lane) for lane in (0, 7, 999)} == {alone}


def test_lanes_are_split_by_their_servers_in_their_order() -> None:
    first, second = node("first"), node("second")
    topology = Topology({2: second, 0: first, 3: second, 1: first})
    assert topology.nodes == (first, second)
    assert topology.by_node([3, 1, 0, 2]) == {second: [3, 2], first: [1, 0]}
    assert topology.by_node([]) == {}


def test_a_lane_without_a_server_is_named() -> None:
    topology = Topology({0: node("first")})
    with pytest.raises(UnavailableError, match="names no server for lane 1") as caught:
        topology.by_node([0, 1])
    assert caught.value.is_undone
