"""A real server process on a socket: crowds, large bodies, stopping, failing to start."""

import asyncio
import errno
import itertools
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import psutil
import pytest
from pydantic import SecretStr

from engine.engine import Engine
from engine.persisting.persister import persist
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, serving, spawn
from tests.support.waiting import wait_until
from tests.support.warm import Forked

Server = tuple[Client, Forked]


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with serving(settings) as started:
        yield started


@pytest.fixture
async def persisting(settings: Settings, server: Server) -> AsyncIterator[None]:
    """A persister at work beside the server."""
    stop = asyncio.Event()
    async with Engine.open(settings) as engine:
        task = asyncio.create_task(persist(settings, engine.store, engine.stream, engine.lanes, stop))
        yield
        stop.set()
        await task


@pytest.mark.long
async def test_two_hundred_claims_at_once_by_one_user_are_one_share(server: Server) -> None:
    client, _ = server
    packet_id = await client.send("alice", total_fen=10_000, count=300)
    results = await asyncio.gather(*(client.claim(packet_id, "bob") for _ in range(200)))
    assert Counter(result["outcome"] for result in results) == {"claimed": 1, "already_claimed": 199}
    assert len({result["amount_fen"] for result in results}) == 1
    claims = await client.http.get(f"/v1/packets/{packet_id}/claims", headers=client.as_user("bob"))
    assert [claim["amount_fen"] for claim in claims.json()["claims"]] == [results[0]["amount_fen"]]


@pytest.mark.long
async def test_five_hundred_users_on_ten_shares_are_ten_winners(server: Server, persisting: None) -> None:
    client, _ = server
    packet_id = await client.send("alice", total_fen=1_000, count=10)
    results = await asyncio.gather(*(client.claim(packet_id, f"user{number}") for number in range(500)))
    won = {result["user_id"]: result["amount_fen"] for result in results if result["outcome"] == "claimed"}
    assert Counter(result["outcome"] for result in results) == {"claimed": 10, "sold_out": 490}
    assert (len(won), sum(won.values())) == (10, 1_000)

    async def all_credited() -> bool:
        return all([await _balance_fen(client, user) == amount_fen for user, amount_fen in won.items()])

    await wait_until(all_credited, what="every winner's wallet being credited")
    (loser,) = [result["user_id"] for result in results if result["outcome"] != "claimed"][:1]
    assert await _balance_fen(client, loser) == 0


async def _balance_fen(client: Client, user: str) -> int:
    answer = await client.http.get(f"/v1/wallets/{user}", headers=client.as_user(user))
    return int(answer.json()["balance_fen"])


async def test_a_megabyte_is_refused_and_the_connection_lives_on(server: Server) -> None:
    client, _ = server
    headers = client.as_user("alice") | new_key()
    body: Json = {"total_fen": 100, "count": 1, "split": "lucky", "greeting": "x" * 1_000_000}

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    for _ in range(5):
        whole = await client.http.post("/v1/packets", json=body, headers=headers)
        assert (whole.status_code, whole.json()["code"]) == (413, "too_large")
        chunked = await client.http.post("/v1/packets", content=chunks(), headers=headers)
        assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")
        unwanted = await client.http.post("/v1/packets", json=body)
        assert unwanted.status_code == 401
        assert (await client.http.get("/livez")).status_code == 200


@pytest.mark.long
async def test_more_than_is_ever_read_closes_the_connection_after_the_answer(server: Server) -> None:
    client, _ = server
    port = client.http.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/claims HTTP/1.1\r\nhost: x\r\ncontent-length: {10**9}\r\n\r\n"
    writer.write(head.encode() + b"x" * 1_000)
    answer = await asyncio.wait_for(reader.read(), timeout=10)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer.lower()
    writer.close()


async def test_what_is_not_http_does_no_harm(server: Server) -> None:
    client, process = server
    for raw in (b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.http.base_url.port)
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(200), timeout=10)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
        writer.close()
    assert (await client.http.get("/livez")).status_code == 200
    assert process.returncode is None


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_told_to_stop_answers_what_it_began(server: Server, number: signal.Signals) -> None:
    client, process = server
    port = client.http.base_url.port
    packet_id = await client.send("alice", total_fen=10_000, count=1_000)
    body = orjson.dumps({"claims": [{"packet_id": packet_id, "user_id": f"user{user}"} for user in range(1_000)]})
    token = client.as_backend()["authorization"]
    head = f"POST /v1/claims HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\ncontent-length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}expect: 100-continue\r\n\r\n".encode())
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"  # the endpoint waits for the body

    process.send_signal(number)

    async def is_closed() -> bool:
        try:
            _, knocking = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return True
        knocking.close()
        return False

    await wait_until(is_closed, what="the door being closed")
    assert process.returncode is None
    writer.write(body)
    answer = await reader.read()
    assert answer.startswith(b"\r\nHTTP/1.1 200 OK\r\n")
    results = orjson.loads(answer[answer.index(b"{") :])
    assert sum(result["amount_fen"] for result in results["results"]) == 10_000
    assert await asyncio.wait_for(process.wait(), timeout=10) == 0
    errors = process.said()
    assert "Traceback" not in errors
    assert '"event":"stopped"' in errors
    writer.close()


@dataclass
class Crowd:
    """Clients who claim over kept connections, each as fast as it is answered, until an answer says it is the last."""

    port: int
    head: str
    answered: int = 0
    told_to_go: int = 0
    cut_off: list[tuple[int, str]] = field(default_factory=list)
    """Of each client that was: how often it had been answered, and what it saw."""

    async def run(self, count: int) -> None:
        """All clients, to their end."""
        await asyncio.gather(*(self._client(number) for number in range(count)))

    async def _client(self, client: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for number in itertools.count():
                writer.write(f"{self.head}x-user-id: user-{client}-{number}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")), head
                self.answered += 1
                if b"connection: close" in head:
                    self.told_to_go += 1
                    break
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.cut_off.append((number, repr(error)))
        finally:
            writer.close()


async def test_a_client_that_asks_late_after_a_stop_is_answered_too(server: Server) -> None:
    client, process = server
    port = client.http.base_url.port or 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    writer.write(request)
    assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(len(b'{"status":"live"}'))
    process.send_signal(signal.SIGTERM)

    async def is_stopping() -> bool:
        try:
            _, other = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        other.close()
        return False

    await wait_until(is_stopping, what="new connections being refused")
    await asyncio.sleep(0.3)  # the client is busy elsewhere
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head
    writer.close()
    assert await asyncio.wait_for(process.wait(), timeout=10) == 0


@pytest.mark.long
async def test_a_client_that_is_connected_and_not_accepted_at_a_stop_is_answered(server: Server) -> None:
    client, process = server
    process.send_signal(signal.SIGSTOP)
    await wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, what="its standing still")
    port = client.http.base_url.port or 0
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    for _, writer in connections:
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in connections))
    assert {head.split(b"\r\n")[0] for head in heads} == {b"HTTP/1.1 200 OK"}
    for _, writer in connections:
        writer.close()
    assert await asyncio.wait_for(process.wait(), timeout=10) == 0


@pytest.mark.long
async def test_a_stop_under_load_cuts_nobody_off(server: Server) -> None:
    client, process = server
    packet_id = await client.send("alice", total_fen=100_000, count=5_000)
    token = client.as_backend()["authorization"]
    head = f"POST /v1/packets/{packet_id}/claims HTTP/1.1\r\nhost: x\r\nauthorization: {token}\r\n"
    crowd = Crowd(client.http.base_url.port or 0, head)
    task = asyncio.create_task(crowd.run(200))
    await wait_until(lambda: crowd.answered > 1_000, timeout_s=20, what="a thousand answers")
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(task, timeout=20)
    assert (crowd.cut_off, crowd.told_to_go) == ([], 200)
    assert await asyncio.wait_for(process.wait(), timeout=10) == 0
    assert "Traceback" not in process.said()


@pytest.mark.long
async def test_a_stop_is_told_before_it_begins(settings: Settings) -> None:
    """So that a balancer that asks /readyz sends requests elsewhere while they can still be answered here."""
    async with serving(settings.model_copy(update={"drain_delay_s": 1.0})) as (client, process):
        packet_id = await client.send("alice", total_fen=100, count=1)
        process.send_signal(signal.SIGTERM)

        async def says_so() -> bool:
            answer = await client.http.get("/readyz")
            return answer.status_code == 503 and "stopping" in answer.json()["detail"]

        await wait_until(says_so, what="/readyz saying that it stops")
        assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"
        assert (await client.http.get("/livez")).status_code == 200
        assert process.returncode is None
        assert await asyncio.wait_for(process.wait(), timeout=10) == 0


async def test_a_second_signal_does_not_wait_for_the_delay(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"drain_delay_s": 300.0})) as (client, process):
        process.send_signal(signal.SIGTERM)

        async def says_so() -> bool:
            return (await client.http.get("/readyz")).status_code == 503

        await wait_until(says_so, what="/readyz saying that it stops")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), timeout=10) == 0


@pytest.mark.long
async def test_connections_without_a_request_do_not_hold_a_stop(server: Server) -> None:
    client, process = server
    _, writer = await asyncio.open_connection("127.0.0.1", client.http.base_url.port)
    await client.http.get("/livez")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), timeout=10) == 0
    writer.close()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"redis_url": "redis://127.0.0.1:1"}, "Redis"),
        ({"database_url": "postgresql://127.0.0.1:1/none"}, "Postgres"),
        ({"auth_secret": SecretStr("short")}, "HONGBAO_AUTH_SECRET"),
        ({"host": "192.0.2.1"}, "Cannot listen on 192.0.2.1 port"),
        ({"host": "nonsense"}, "HONGBAO_HOST must be an IP address"),
    ],
    ids=["redis", "postgres", "secret", "address", "name"],
)
async def test_a_process_that_cannot_start_says_why_in_one_sentence(
    settings: Settings, port: int, wrong: Json, named: str
) -> None:
    process = spawn(settings.model_copy(update={"port": port, **wrong}))
    assert await asyncio.wait_for(process.wait(), timeout=20) == 1
    lines = [line for line in process.said().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, lines
    assert named in lines[0]


async def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = spawn(settings.model_copy(update={"port": port}))
        assert await asyncio.wait_for(process.wait(), timeout=20) == 1
        why = os.strerror(errno.EADDRINUSE)
        assert process.said() == f"Cannot listen on 127.0.0.1 port {port}: {why}.\n"


@pytest.mark.long
async def test_two_processes_share_a_port(settings: Settings) -> None:
    async with serving(settings) as (client, _):
        port = client.http.base_url.port
        second = spawn(settings.model_copy(update={"port": port}))
        try:
            await wait_until(lambda: "serving" in second.said().partition("\n")[0], timeout_s=20, what="its serving")
            assert (await client.http.get("/readyz")).status_code == 200
        finally:
            second.terminate()
            assert await asyncio.wait_for(second.wait(), timeout=20) == 0
