"""Asking Sentinels: once for all who ask at a time, and what is wrong is said without a password."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.errors import OperatorError
from engine.lanes.clients import check_redis
from engine.lanes.sentinels import Sentinels
from engine.lanes.topology import reading
from engine.redis_servers import Watched


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
    found = await asyncio.gather(*(sentinels.master() for _ in range(50)))
    assert set(found) == {("127.0.0.1", 7001)}
    assert said.seen["connections"] == 1


async def test_one_that_gives_up_does_not_take_the_answer_from_the_others(sentinel: tuple[Answers, int]) -> None:
    _, port = sentinel
    sentinels = Sentinels(Watched("main", (("127.0.0.1", port),), None), timeout_s=5.0)
    first, second = (asyncio.create_task(sentinels.master()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ("127.0.0.1", 7001)


async def test_none_that_answers_or_knows_the_name_is_an_error_that_names_each(sentinel: tuple[Answers, int]) -> None:
    said, port = sentinel
    said.answer = b"*-1\r\n"
    watched = Watched("main", (("127.0.0.1", 1), ("127.0.0.1", port)), "secret")
    with pytest.raises(RedisConnectionError) as raised:
        await Sentinels(watched, timeout_s=5.0).master()
    assert "no Sentinel names the master main (127.0.0.1:1: " in str(raised.value)
    assert f"127.0.0.1:{port}: it does not know this name" in str(raised.value)
    assert "secret" not in f"{raised.value} {watched}"


async def test_an_operator_reads_one_sentence() -> None:
    topology = reading("redis+sentinel://:secret@127.0.0.1:1/main?sentinel_password=hidden", timeout_s=1.0)
    with pytest.raises(OperatorError) as raised:
        await check_redis(topology.nodes[0].client)
    assert str(raised.value).startswith("Redis does not answer: no Sentinel names the master main (127.0.0.1:1: ")
    assert "secret" not in str(raised.value)
    assert "hidden" not in str(raised.value)
    await topology.aclose()
