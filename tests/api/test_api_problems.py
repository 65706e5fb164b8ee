"""The table of problems, and the ones that need a server to be down, behind or busy."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import httpx
import orjson
import pytest
from redis.asyncio import Redis

from api.problems import FIELDS_MAX, INTERNAL, KINDS, answer_to, kind_of
from engine.embedded.servers import EmbeddedPostgres
from engine.engine import Engine
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError, OperatorError
from engine.ids import lane_of
from engine.lanes import keys
from engine.lanes.clients import command
from engine.settings import Settings
from tests.support.front import Client, new_key, open_front
from tests.support.waiting import wait_until


def all_errors(root: type[HongbaoError]) -> list[type[HongbaoError]]:
    return [root, *(error for child in root.__subclasses__() for error in all_errors(child))]


def assert_unavailable(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


def test_every_error_made_on_purpose_has_its_own_status_and_code() -> None:
    # Errors that other modules define stay within the engine's own loops.
    known = [error for error in all_errors(HongbaoError) if error.__module__ in ("engine.errors", "api.problems")]
    errors = [error for error in known if error not in (HongbaoError, OperatorError)]
    assert len(errors) > 15
    assert [error.__name__ for error in errors if error not in KINDS] == []
    assert [code for code, count in Counter(error.code for error in errors).items() if count > 1] == []
    assert all(kind_of(error) is not INTERNAL for error in errors)


def test_an_unexpected_error_tells_nothing() -> None:
    for error in (ValueError("postgresql://u:hush@h"), OperatorError("hush"), KeyError("hush")):
        answer = answer_to(error)
        assert (answer.status, orjson.loads(answer.body)["code"]) == (500, "internal")
        assert b"hush" not in answer.body


def test_an_answer_with_very_many_bad_fields_is_bounded() -> None:
    answer = answer_to(InvalidFieldsError([FieldProblem(f"field{number}", "is bad") for number in range(10_000)]))
    problem = orjson.loads(answer.body)
    assert (answer.status, len(problem["errors"])) == (422, FIELDS_MAX)
    assert len(problem["detail"]) < 100


async def test_claims_past_the_queues_bound_are_refused_at_once(settings: Settings) -> None:
    async with open_front(settings.model_copy(update={"claim_queue_max": 2, "claims_per_call_max": 1})) as client:
        packet_id = await client.send("alice", total_fen=10_000, count=1_000)
        path = f"/v1/packets/{packet_id}/claims"
        answers = await asyncio.gather(
            *(client.http.post(path, headers=client.as_user(f"user{number}")) for number in range(100))
        )
        refused = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(refused) < 100
        for answer in refused:
            assert_unavailable(answer, "overloaded")
        for number, answer in enumerate(answers):
            expected = "claimed" if answer in refused else "already_claimed"
            assert (await client.claim(packet_id, f"user{number}"))["outcome"] == expected


async def test_claims_wait_for_a_ledger_that_is_behind(settings: Settings) -> None:
    async with open_front(settings.model_copy(update={"backlog_max": 5})) as client:
        packet_id = await client.send("alice", count=10)
        results = [
            await client.http.post(f"/v1/packets/{packet_id}/claims", headers=client.as_user(f"user{number}"))
            for number in range(10)
        ]
        statuses = [answer.status_code for answer in results]
        assert statuses == sorted(statuses)
        assert 200 in statuses
        assert_unavailable(results[-1], "busy")
        ready = await client.http.get("/readyz")
        assert_unavailable(ready, "not_ready")
        assert ready.json()["reasons"] == [f"Lane {lane_of(packet_id)} is full: 5 changes wait for the ledger."]
        batch = {"claims": [{"packet_id": packet_id, "user_id": user} for user in ("user0", "late")]}
        answer = await client.http.post("/v1/claims", json=batch, headers=client.as_backend())
        assert [result.get("outcome", result.get("code")) for result in answer.json()["results"]] == [
            "already_claimed",
            "busy",
        ]


async def test_a_packet_that_is_not_open_yet_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.packets.opening.INLINE_COUNT_MAX", 0)
    async with open_front(settings) as client:
        await client.deposit("alice", 10)
        body = {"total_fen": 10, "count": 2, "split": "lucky"}
        sent = await client.http.post("/v1/packets", json=body, headers=client.as_user("alice") | new_key())
        assert (sent.status_code, sent.json()["state"]) == (201, "funded")
        path = f"/v1/packets/{sent.json()['packet_id']}"
        assert_unavailable(await client.http.post(f"{path}/claims", headers=client.as_user("bob")), "opening")
        for viewer, remaining_fen in (("alice", 10), ("bob", None)):
            view = (await client.http.get(path, headers=client.as_user(viewer))).json()
            assert (view["state"], view["remaining_fen"]) == ("funded", remaining_fen)


@asynccontextmanager
async def closed_database(server: EmbeddedPostgres, url: str) -> AsyncIterator[None]:
    """While it lasts, the test's database lets nobody in."""
    name = urlsplit(url).path.removeprefix("/")
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        await connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await connection.close()


async def test_while_postgres_refuses_claims_go_on_and_the_rest_says_so(
    settings: Settings, postgres_server: EmbeddedPostgres, database_url: str
) -> None:
    async with open_front(settings) as client:
        packet_id = await client.send("alice", count=10)
        alice, root = client.as_user("alice"), client.as_user("root", "admin")
        async with closed_database(postgres_server, database_url):
            assert (await client.claim(packet_id, "bob"))["outcome"] == "claimed"
            assert (await client.claim(packet_id, "bob"))["outcome"] == "already_claimed"
            await _is_unavailable(client, "GET", "/v1/wallets/alice", alice)
            await _is_unavailable(client, "GET", "/v1/users/alice/packets?role=sent", alice)
            await _is_unavailable(client, "GET", f"/v1/packets/{packet_id}", alice)
            await _is_unavailable(client, "POST", "/v1/wallets/alice/deposits", root | new_key())
            ready = await client.http.get("/readyz")
            assert_unavailable(ready, "not_ready")
            assert len(ready.json()["reasons"]) == 1
            assert (await client.http.get("/livez")).status_code == 200

        async def is_ready() -> bool:
            return (await client.http.get("/readyz")).status_code == 200

        await wait_until(is_ready, what="being ready again")


async def _is_unavailable(client: Client, method: str, path: str, headers: dict[str, str]) -> None:
    body = {"amount_fen": 1} if method == "POST" else None
    answer = await client.http.request(method, path, headers=headers, json=body)
    assert_unavailable(answer, "server_refuses")
    assert "database" not in answer.json()["detail"]


@pytest.mark.long
async def test_without_redis_nothing_is_decided(settings: Settings, redis: Redis) -> None:
    async with open_front(settings.model_copy(update={"redis_timeout_s": 0.5})) as client:
        packet_id = await client.send("alice", count=10)
        path = f"/v1/packets/{packet_id}/claims"
        await command(redis, "CLIENT", "PAUSE", 3_000, "ALL")
        claimed, ready = await asyncio.gather(
            client.http.post(path, headers=client.as_user("bob")), client.http.get("/readyz")
        )
        assert_unavailable(claimed, "unavailable")
        assert_unavailable(ready, "not_ready")

        async def is_decided() -> bool:
            return (await client.http.post(path, headers=client.as_user("bob"))).status_code == 200

        await wait_until(is_decided, what="claims going on")
        assert (await client.claim(packet_id, "bob"))["outcome"] == "already_claimed"


async def test_metrics_are_scraped_whatever_stands_in_a_stream(settings: Settings) -> None:
    """An alarm can only fire if they are: before, one entry that was no event made each scrape a 500."""
    async with open_front(settings) as client, Engine.open(settings) as engine:
        await command(engine.redis, "XADD", keys.events(0), "1-0", "garbage", "x")
        answer = await client.http.get("/metrics")
        assert (answer.status_code, 'hongbao_lane_bad_entry{lane="0"} 1.0' in answer.text) == (200, True)
        assert 'hongbao_lane_bad_entry{lane="1"} 0.0' in answer.text
        await command(engine.redis, "DEL", keys.events(0))
        await command(engine.redis, "SET", keys.events(0), "no stream")
        answer = await client.http.get("/metrics")
        assert (answer.status_code, 'hongbao_lane_bad_entry{lane="1"} 0.0' in answer.text) == (200, True)
