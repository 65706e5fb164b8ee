"""What every answer carries, whichever part of the server gives it, and what never gets into a header."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from api.dispatch import Operation
from api.routes import ROUTES
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, serving
from tests.support.paths import path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
NEVER = ("strict-transport-security", "server", "set-cookie", "access-control-allow-origin", "x-powered-by", "location")
MARK = "<script>alert(7)</script>"
PACKET: Json = {"total_fen": 100, "count": 2, "split": "lucky"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_settings: Settings) -> AsyncIterator[Client]:
    async with serving(shared_settings) as (client, _):
        yield client


def assert_carries_all(answer: httpx.Response) -> None:
    told = (answer.request.method, answer.request.url, answer.status_code)
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS, told
    assert [name for name in NEVER if name in answer.headers] == [], told
    names = [name.lower() for name, _ in answer.headers.raw]
    assert len(names) == len(set(names)), told
    of_success = "text/csv; charset=utf-8" if answer.request.url.path.endswith(".csv") else "application/json"
    kind = of_success if answer.status_code < 400 else "application/problem+json"
    if answer.request.url.path != "/metrics":
        assert answer.headers["content-type"] == kind, told


async def raw_answer(client: Client, sent: bytes) -> bytes:
    """All the server says to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.http.base_url.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), timeout=20)
    writer.close()
    return answer


@pytest.mark.long
async def test_every_answer_carries_them(client: Client) -> None:
    packet_id = await client.send("alice")
    everyone = client.as_backend("alice", "admin")
    for row in ROUTES:
        path = path_of(row, packet_id)
        for headers in ({}, everyone, everyone | new_key(), {"authorization": "Bearer x"}):
            assert_carries_all(await client.http.request(row.method, path, headers=headers))
            assert_carries_all(await client.http.request("DELETE", path, headers=headers))
        if row.method == "GET":
            assert_carries_all(await client.http.head(path, headers=everyone))
    path = f"/v1/packets/{packet_id}/claims"
    for _ in range(4):  # the first by the long way, the rest by the short one
        assert_carries_all(await client.http.post(path, headers=client.as_user("bob")))
    large = b"x" * 1_000_000
    for answer in (
        await client.http.get("/nowhere"),
        await client.http.post("/v1/packets", content=large, headers=everyone | new_key()),
        await client.http.post("/v1/packets", content=b"{", headers=everyone | new_key()),
        await client.http.post("/v1/packets", json=PACKET, headers=everyone | new_key() | {"content-type": "text/xml"}),
    ):
        assert answer.status_code >= 400
        assert_carries_all(answer)


async def test_so_does_what_is_answered_to_no_request_at_all(client: Client) -> None:
    expected = [f"{name}: {value}".encode() for name, value in ALWAYS.items()]
    for sent in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n"):
        answer = await raw_answer(client, sent)
        assert answer.startswith(b"HTTP/1.1 4")
        assert [line for line in expected if line not in answer] == []


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.name)
async def test_what_a_client_sends_comes_back_in_json_only(client: Client, row: Operation) -> None:
    mark = MARK.replace("/", "%2F")
    path = path_of(row, mark, mark, mark)
    body = {MARK: MARK, "greeting": MARK, "recipients": [MARK], "claims": [{"packet_id": MARK, "user_id": MARK}]}
    everyone = client.as_backend("alice", "admin")
    for headers in (
        everyone | {"idempotency-key": MARK.replace(" ", "")},
        everyone | {"x-user-id": MARK},
        {"authorization": f"Bearer {MARK}"},
        everyone | {"content-type": MARK},
        everyone | {"x-request-id": MARK, "origin": f"https://{MARK}", "referer": MARK},
    ):
        query = {"after": MARK, "limit": MARK, "role": MARK, MARK: MARK}
        content = None if row.method == "GET" else body
        answer = await client.http.request(row.method, path, params=query, json=content, headers=headers)
        assert_carries_all(answer)
        assert not [value for value in answer.headers.values() if "script" in value]
        if row.path != "/metrics":
            answer.json()
