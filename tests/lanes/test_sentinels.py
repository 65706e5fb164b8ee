"""Asking Sentinels: once for all who ask at a time, and what is wrong is said without a password."""

import asyncio
import gc
from asyncio import all_tasks
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.errors import OperatorError
from engine.lanes.clients import check_redis
from engine.lanes.sentinels import Sentinels
from engine.lanes.topology import reading
from engine.redis_servers import Watched
from tests.support.ports import held_port
from tests.support.waiting import wait_until


class Answers:
    """A server of loopback that says what it was given, and counts the connections."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.seen = answer, Counter[str]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen["connections"] += 1
        while data := await reader.read(1_000):
            writer.write(self.answer if b"SENTINEL" in data else b"+OK\r\n" * data.count(b"*"))
        writer.close()


@pytest.fixture
async def sentinel(port: int) -> AsyncIterator[tuple[Answers, int]]:
    said = Answers(b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n")
    async with await asyncio.start_server(said, "127.0.0.1", port):
        yield said, port


async def test_all_who_ask_at_the_same_time_get_one_answer(sentinel: tuple[Answers, int]) -> None:
    said, port = sentinel
    sentinels = Sentinels(Watched("main", (("127.0.0.1", port),), None), timeout_s=5.0)
    found = await asyncio.gather(*(sentinels.address() for _ in range(50)))
    assert set(found) == {("127.0.0.1", 7001)}
    assert said.seen["connections"] == 1


async def test_one_that_gives_up_does_not_take_the_answer_from_the_others(sentinel: tuple[Answers, int]) -> None:
    _, port = sentinel
    sentinels = Sentinels(Watched("main", (("127.0.0.1", port),), None), timeout_s=5.0)
    first, second = (asyncio.create_task(sentinels.address()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ("127.0.0.1", 7001)


async def test_none_that_answers_or_knows_the_name_is_an_error_that_names_each(sentinel: tuple[Answers, int]) -> None:
    said, port = sentinel
    said.answer = b"*-1\r\n"
    watched = Watched("main", (("127.0.0.1", 1), ("127.0.0.1", port)), "secret")
    with pytest.raises(RedisConnectionError) as raised:
        await Sentinels(watched, timeout_s=5.0).address()
    assert "no Sentinel names the master main (127.0.0.1:1: " in str(raised.value)
    assert f"127.0.0.1:{port}: it does not know this name" in str(raised.value)
    assert "secret" not in f"{raised.value} {watched}"


class Hanging:
    """A Sentinel that takes connections and says nothing."""

    def __init__(self, port: int) -> None:
        self.port, self.connections, self.ends = port, 0, asyncio.Event()

    async def __call__(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self.ends.wait()
        writer.close()


@pytest.fixture
async def hanging() -> AsyncIterator[Hanging]:
    with held_port() as port:
        server = Hanging(port)
        async with await asyncio.start_server(server, "127.0.0.1", port):
            yield server
            server.ends.set()


async def test_one_that_hangs_is_passed_over(hanging: Hanging, sentinel: tuple[Answers, int]) -> None:
    watched = Watched("main", (("127.0.0.1", hanging.port), ("127.0.0.1", sentinel[1])), None)
    assert await Sentinels(watched, timeout_s=1.0).address() == ("127.0.0.1", 7001)
    assert hanging.connections == 1


async def test_all_that_hang_are_not_waited_for_again_and_again(hanging: Hanging) -> None:
    """A client tries a lost connection four times, but a silent server once."""
    topology = reading(f"redis+sentinel://127.0.0.1:{hanging.port}/main", timeout_s=0.2)
    with pytest.raises(OperatorError, match="Redis does not answer: no Sentinel names the master main"):
        await check_redis(topology.nodes[0].client)
    assert hanging.connections == 1
    await topology.aclose()


async def test_nobody_complains_of_an_error_that_nobody_waited_for(hanging: Hanging) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: complaints.append(told))
    sentinels, tasks = Sentinels(Watched("main", (("127.0.0.1", hanging.port),), None), timeout_s=0.2), len(all_tasks())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sentinels.address()
    assert len(all_tasks()) > tasks
    hanging.ends.set()
    await wait_until(lambda: len(all_tasks()) == tasks, what="the question's end")
    del sentinels
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_an_operator_reads_one_sentence() -> None:
    topology = reading("redis+sentinel://:secret@127.0.0.1:1/main?sentinel_password=hidden", timeout_s=1.0)
    with pytest.raises(OperatorError) as raised:
        await check_redis(topology.nodes[0].client)
    assert str(raised.value).startswith("Redis does not answer: no Sentinel names the master main (127.0.0.1:1: ")
    assert "secret" not in str(raised.value)
    assert "hidden" not in str(raised.value)
    await topology.aclose()
