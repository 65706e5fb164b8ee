"""Servers that hang: each request is answered in time, and told that nothing was decided only where nothing was."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import asyncpg
import httpx
import pytest

from engine.embedded.servers import EmbeddedPostgres
from engine.readiness import READY_S_MAX
from engine.settings import Settings
from tests.support.front import Client, new_key, open_front
from tests.support.own_redis import OwnRedis, own_redis, valkey
from tests.support.scenes import changed
from tests.support.waiting import wait_until

TIMEOUT_S = 1.0
AT_MOST_S = 1.9
"""Less than two time-outs: nobody waits for one after the other. More than one, for machines that are busy."""


@asynccontextmanager
async def stopped(server: OwnRedis) -> AsyncIterator[None]:
    """While it lasts, the server takes commands and does nothing; then it does all of them."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.fixture
async def front(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[Client, OwnRedis]]:
    with own_redis(valkey(), tmp_path / "redis") as server:
        await server.start()
        own = changed(settings, redis_url=server.url, redis_timeout_s=TIMEOUT_S, claims_per_call_max=10)
        async with open_front(own) as client:
            yield client, server


async def timed(client: Client, method: str, path: str, headers: dict[str, str], body: object = None) -> httpx.Response:
    started_s = monotonic()
    answer = await client.http.request(method, path, headers=headers, json=body)
    assert monotonic() - started_s < AT_MOST_S, path
    return answer


def problem_of(answer: httpx.Response) -> tuple[str, str]:
    assert answer.status_code == 503, answer.text
    return answer.json()["code"], answer.json()["detail"]


@pytest.mark.long
async def test_a_claim_that_was_under_way_may_be_decided(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    packet_id = await client.send("alice", count=10)
    await client.claim(packet_id, "early")  # so that there is a connection by which it can leave
    path = f"/v1/packets/{packet_id}/claims"
    async with stopped(server):
        code, detail = problem_of(await timed(client, "POST", path, client.as_user("bob")))
    assert (code, "ecided nothing" in detail, "othing was decided" in detail) == ("undecided", False, False)

    async def outcome() -> str:
        answer = await client.http.post(path, headers=client.as_user("bob"))
        return str(answer.json().get("outcome")) if answer.status_code == 200 else ""

    await wait_until(outcome, what="an answer")
    assert await outcome() == "already_claimed"


async def test_a_batch_that_was_under_way_may_be_decided(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    packet_id = await client.send("alice", count=10)
    await client.claim(packet_id, "early")
    body = {"claims": [{"packet_id": packet_id, "user_id": user} for user in ("bob", "eve")]}
    async with stopped(server):
        answer = await timed(client, "POST", "/v1/claims", client.as_backend(), body)
    assert [result["code"] for result in answer.json()["results"]] == ["undecided", "undecided"]
    await wait_until(lambda: _is_ready(client), what="claims going on")
    answer = await client.http.post("/v1/claims", json=body, headers=client.as_backend())
    assert [result["outcome"] for result in answer.json()["results"]] == ["already_claimed", "already_claimed"]


async def test_claims_that_wait_behind_a_silent_call_do_not_wait_one_after_the_other(
    front: tuple[Client, OwnRedis],
) -> None:
    """With ten in a call, sixty would have waited for three time-outs; they were never sent."""
    client, server = front
    packet_id = await client.send("alice", count=1_000, total_fen=100_000)
    await client.claim(packet_id, "early")
    path = f"/v1/packets/{packet_id}/claims"
    async with stopped(server):
        answers = await asyncio.gather(
            *(timed(client, "POST", path, client.as_user(f"user{number}")) for number in range(60))
        )
        codes = [problem_of(answer)[0] for answer in answers]
    assert set(codes) == {"undecided", "unavailable"}
    await wait_until(lambda: _is_ready(client), what="claims going on")
    for number, code in enumerate(codes):
        expected = {"already_claimed"} if code == "undecided" else {"claimed"}
        assert {(await client.claim(packet_id, f"user{number}"))["outcome"]} == expected, code


async def test_probes_are_answered_sooner(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    async with stopped(server):
        started_s = monotonic()
        assert (await client.http.get("/livez")).status_code == 200
        assert monotonic() - started_s < READY_S_MAX
        ready = await client.http.get("/readyz")
        assert monotonic() - started_s < TIMEOUT_S
    assert (ready.status_code, ready.json()["reasons"]) == (503, [f"Redis has not answered within {READY_S_MAX:g} s."])


async def _is_ready(client: Client) -> bool:
    return (await client.http.get("/readyz")).status_code == 200


async def test_a_retraction_that_was_under_way_may_be_decided(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    kept, taken = await client.send("alice", count=10), await client.send("alice", count=10)
    headers = client.as_user("alice")
    assert (await client.http.post(f"/v1/packets/{taken}/retraction", json={}, headers=headers)).status_code == 200
    async with stopped(server):
        code, _ = problem_of(await timed(client, "POST", f"/v1/packets/{kept}/retraction", headers, {}))
    assert code == "undecided"
    await wait_until(lambda: _is_ready(client), what="going on")
    assert (await client.http.get(f"/v1/packets/{kept}", headers=headers)).json()["state"] == "retracted"


async def test_a_sending_that_cannot_begin_says_that_it_did_not(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    await client.deposit("alice", 100)
    body = {"total_fen": 100, "count": 2, "split": "lucky"}
    async with stopped(server):
        code, detail = problem_of(await timed(client, "POST", "/v1/packets", client.as_user("alice") | new_key(), body))
    assert (code, "This try decided nothing" in detail) == ("unavailable", True)
    assert (await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))).json()["balance_fen"] == 100


@pytest.mark.long
async def test_a_redis_that_is_gone_was_not_asked(front: tuple[Client, OwnRedis]) -> None:
    client, server = front
    packet_id = await client.send("alice", count=10)
    server.kill()
    path = f"/v1/packets/{packet_id}/claims"
    codes = [problem_of(await timed(client, "POST", path, client.as_user("bob")))[0] for _ in range(3)]
    assert codes[-1] == "unavailable"  # the first one may have left by the connection that was there


@asynccontextmanager
async def commits_hang(server: EmbeddedPostgres) -> AsyncIterator[None]:
    """While it lasts every COMMIT waits for a standby that is not there; the change itself is made."""
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await connection.execute("SELECT pg_reload_conf()")

        async def is_set() -> bool:
            return bool(await connection.fetchval("SHOW synchronous_standby_names") == "nobody")

        await wait_until(is_set, what="the setting")
        yield
    finally:
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()


@pytest.mark.long
async def test_a_commit_that_hangs_may_be_decided(settings: Settings, postgres_server: EmbeddedPostgres) -> None:
    async with open_front(changed(settings, database_timeout_s=TIMEOUT_S)) as client:
        await client.deposit("alice", 100)
        alice, root = client.as_user("alice") | new_key(), client.as_user("root", "admin") | new_key()
        sending, path = {"total_fen": 100, "count": 2, "split": "lucky"}, "/v1/wallets/bob/deposits"
        await client.http.get("/v1/wallets/alice", headers=alice)
        async with commits_hang(postgres_server):
            deposit = await client.http.post(path, json={"amount_fen": 7}, headers=root)
            sent = await client.http.post("/v1/packets", json=sending, headers=alice)
        for answer in (deposit, sent):
            code, detail = problem_of(answer)
            assert (code, "decided nothing" in detail) == ("undecided", False)

        async def is_done(url: str, body: dict[str, object], headers: dict[str, str]) -> bool:
            answer = await client.http.post(url, json=body, headers=headers)
            return answer.status_code == 201

        await wait_until(lambda: is_done(path, {"amount_fen": 7}, root), what="the deposit's answer")
        await wait_until(lambda: is_done("/v1/packets", sending, alice), what="the sending's answer")
        for user, balance_fen in (("bob", 7), ("alice", 0)):
            wallet = await client.http.get(f"/v1/wallets/{user}", headers=client.as_user(user))
            assert wallet.json()["balance_fen"] == balance_fen
