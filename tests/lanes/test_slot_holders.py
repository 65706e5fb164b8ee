"""Asking a cluster's servers who holds a slot: once for all who ask at a time, and not the one that knows less."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.errors import OperatorError, ServerRefusesError
from engine.lanes import keys
from engine.lanes.clients import check_redis, redis_connection
from engine.lanes.cluster import Cluster, SlotHolder
from engine.lanes.failures import UnansweredError, redis_errors
from engine.lanes.locating import Address, MovedAwayError
from engine.lanes.topology import serving
from tests.support.ports import held_port

HOST = "127.0.0.1"


class Server:
    """A server of a cluster that says what it was given, and counts what it was asked."""

    def __init__(self, port: int) -> None:
        self.port, self.asked = port, Counter[str]()
        self.is_healthy, self.is_silent = True, False
        self.slots = b"*0\r\n"
        self.said = b"+OK\r\n"

    @property
    def address(self) -> Address:
        return HOST, self.port

    def names(self, *masters: Address, host: bytes = b"$9\r\n127.0.0.1\r\n") -> None:
        """As holders of the slots in equal parts."""
        part = 16_384 // len(masters)
        ranges = [
            b"*3\r\n:%d\r\n:%d\r\n*2\r\n%s:%d\r\n" % (number * part, (number + 1) * part - 1, host, port)
            for number, (_, port) in enumerate(masters)
        ]
        self.slots = b"*%d\r\n" % len(ranges) + b"".join(ranges)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked["connections"] += 1
        while data := await reader.read(10_000):
            if self.is_silent:
                continue
            for words in (part.split(b"\r\n")[2::2] for part in data.split(b"*")[1:]):
                if not (answer := self.answer([word.decode() for word in words])):
                    return writer.close()
                writer.write(answer)
        return writer.close()

    def answer(self, words: list[str]) -> bytes:
        self.asked[" ".join(words[:2])] += 1
        match words[:2]:
            case ["CLUSTER", "INFO"]:
                state = b"cluster_state:%s" % (b"ok" if self.is_healthy else b"fail")
                return b"$%d\r\n%s\r\n" % (len(state), state)
            case ["CLUSTER", "SLOTS"]:
                return self.slots
            case ["INFO", "server"]:
                run_id = b"# Server\r\nrun_id:%040d\r\n" % self.port
                return b"$%d\r\n%s\r\n" % (len(run_id), run_id)
            case ["GET", _]:
                return self.said
            case _:
                return b"+OK\r\n"


@asynccontextmanager
async def served(count: int) -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(count):
            server = Server(stack.enter_context(held_port()))
            await stack.enter_async_context(await asyncio.start_server(server, HOST, server.port))
            servers.append(server)
        yield servers


def cluster_of(*servers: Server, timeout_s: float = 5.0) -> Cluster:
    def connection(address: Address) -> Connection:
        return redis_connection("redis://0.0.0.0/", address, timeout_s=timeout_s)

    return Cluster([server.address for server in servers], connection, timeout_s=timeout_s)


async def test_all_who_ask_at_the_same_time_share_one_question() -> None:
    async with served(2) as (first, second):
        first.names(first.address, second.address)
        cluster = cluster_of(first, second)
        found = await asyncio.gather(*(cluster.master_of(slot) for slot in (0, 8_191, 8_192, 16_383) * 20))
        assert found == [first.address, first.address, second.address, second.address] * 20
        assert first.asked["CLUSTER SLOTS"] == 1
        assert second.asked["connections"] == 0
        assert await cluster.masters() == {first.address: 8_192, second.address: 8_192}


async def test_one_that_is_cut_off_from_the_majority_is_not_believed() -> None:
    async with served(2) as (first, second):
        first.names(first.address)
        second.names(second.address)
        first.is_healthy = False
        assert await cluster_of(first, second).master_of(1) == second.address
        second.is_healthy = False
        with pytest.raises(RedisConnectionError, match=f"{HOST}:{first.port}: its cluster_state is not ok"):
            await cluster_of(first, second).master_of(1)


async def test_one_that_is_silent_leaves_time_for_the_others() -> None:
    async with served(2) as (first, second):
        first.is_silent = True
        second.names(second.address)
        cluster = cluster_of(first, second, timeout_s=0.4)
        assert await cluster.master_of(1) == second.address
        second.is_silent = True
        cluster.doubt(1)
        with pytest.raises(RedisTimeoutError):
            await cluster.master_of(1)


async def test_a_slot_nobody_holds_is_said() -> None:
    async with served(1) as (server,):
        with pytest.raises(RedisConnectionError, match="its cluster has no slots"):
            await cluster_of(server).master_of(1)
        server.names(server.address, server.address, server.address)
        with pytest.raises(RedisConnectionError, match="no server of the cluster holds slot 16383"):
            await cluster_of(server).master_of(16_383)


@pytest.mark.parametrize("host", [b"$-1\r\n", b"$0\r\n\r\n", b"$1\r\n?\r\n"], ids=["null", "empty", "unknown"])
async def test_one_that_does_not_know_its_host_is_where_it_was_asked(host: bytes) -> None:
    async with served(1) as (server,):
        server.names(server.address, host=host)
        assert await cluster_of(server).master_of(1) == server.address


async def test_a_redirection_is_believed_more_than_the_map_and_an_address_that_leads_nowhere_is_doubted() -> None:
    async with served(2) as (first, second):
        first.names(first.address)
        second.names(second.address)
        cluster = cluster_of(first, second)
        holder = SlotHolder(cluster, 7)
        assert await holder.address() == first.address
        holder.moved("", second.port)
        assert (await holder.address(), holder.place) == (second.address, f"{HOST}:{second.port}")
        assert await cluster.master_of(8) == first.address  # no other slot was moved
        holder.doubt()
        assert await holder.address() == second.address  # the other one is asked now
        assert second.asked["CLUSTER SLOTS"] == 1


async def test_servers_that_the_setting_does_not_name_are_asked_once_they_are_known() -> None:
    async with served(2) as (first, second):
        first.names(first.address, second.address)
        second.names(second.address)
        cluster = cluster_of(first)
        assert await cluster.master_of(1) == first.address
        first.is_healthy = False
        cluster.doubt(1)
        assert await cluster.master_of(1) == second.address


async def test_a_call_follows_a_slot_that_changes_hands_and_gives_up_in_the_end() -> None:
    """While two servers send it to each other, it goes on for a moment; no server has done anything."""
    async with served(2) as (first, second):
        slot = keys.slot(0)
        for server, other in ((first, second), (second, first)):
            server.names(first.address)
            server.said = b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, other.port)
        url = f"redis+cluster://{HOST}:{first.port},{HOST}:{second.port}"
        topology = serving(url, lanes=1, calls_per_lane_max=1, timeout_s=5.0)
        (node,) = topology.nodes
        assert node.changing is not None
        with pytest.raises(MovedAwayError):
            await node.changing.call("GET", "a")
        assert first.asked["GET a"] + second.asked["GET a"] == 7
        assert min(first.asked["GET a"], second.asked["GET a"]) >= 3
        said = r"Redis refuses: MOVED .*is being moved to another server"
        with pytest.raises(ServerRefusesError, match=said), redis_errors(of_change=True):
            await node.changing.call("GET", "a")
        second.said = b"$1\r\n1\r\n"
        assert await node.changing.call("GET", "a") == b"1"
        assert await node.client.get("a") == b"1"
        await topology.aclose()


async def test_a_call_of_which_no_answer_came_may_have_been_done_wherever_its_repeat_is_sent() -> None:
    """The server hangs up on the call. Then it sends the repeat to one that is away, as during a failover."""
    async with served(1) as (server,):
        server.names(server.address)
        server.said = b""
        real = server.answer

        def leaves(words: list[str]) -> bytes:
            answer = real(words)
            if words[0] == "GET":
                server.said = b"-MOVED 5936 127.0.0.1:1\r\n"
            return answer

        server.answer = leaves  # type: ignore[method-assign]
        topology = serving(f"redis+cluster://{HOST}:{server.port}", lanes=1, calls_per_lane_max=1, timeout_s=5.0)
        (node,) = topology.nodes
        assert node.changing is not None
        with pytest.raises(UnansweredError):
            await node.changing.call("GET", "a")
        assert server.asked["GET a"] > 1
        await topology.aclose()


async def test_a_cluster_of_which_nobody_answers_is_said_without_its_password() -> None:
    topology = serving("redis+cluster://:hidden@127.0.0.1:1", lanes=1, calls_per_lane_max=1, timeout_s=1.0)
    with pytest.raises(OperatorError, match="no server of the cluster knows its slots") as raised:
        await check_redis(topology.nodes[0].client)
    assert "hidden" not in str(raised.value)
    await topology.aclose()
