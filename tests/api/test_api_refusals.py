"""Who is refused at every endpoint, and in what words. Nothing is changed, so all tests share one engine."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from api.dispatch import Operation
from api.routes import ROUTES
from engine.access.tokens import SCOPES
from engine.settings import Settings
from tests.support.access_table import rows, wrong_tokens
from tests.support.asking import NAMES_A_USER, ask
from tests.support.front import Client, open_front

pytestmark = pytest.mark.asyncio(loop_scope="module")
OF_SOMEBODY = (
    "get_withdrawal",
    "get_transfer",
    "get_coupon",
    "get_coupon_batch",
    "get_coupon_statement",
    "list_redemptions",
)
"""What a path without a user names, and somebody has."""
EVERY = [pytest.param(row, marks=pytest.mark.long) if row.name == "show_metrics" else row for row in ROUTES]
"""Hundreds of scrapes of what all tests before have counted take long."""
GUARDED = [row for row in ROUTES if row.access is not None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(shared_settings: Settings) -> AsyncIterator[Client]:
    async with open_front(shared_settings) as client:
        yield client


@pytest.mark.parametrize("row", [row for row in GUARDED if row.access and row.access.scopes], ids=lambda row: row.name)
async def test_a_scope_that_lacks_is_named(client: Client, row: Operation) -> None:
    assert row.access is not None
    for scope in set(SCOPES) - set(row.access.scopes) - {"act"}:
        answer = await ask(client, row, client.as_user("alice", scope))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), scope
        assert all(needed in answer.json()["detail"] for needed in row.access.scopes)


@pytest.mark.parametrize("row", GUARDED, ids=lambda row: row.name)
async def test_a_backend_must_name_the_user_where_one_is_needed(client: Client, row: Operation) -> None:
    answer = await ask(client, row, client.as_user("backend", "act", "send", "claim"))
    assert row.access is not None
    if row.access.for_user or row.name in (*NAMES_A_USER, *OF_SOMEBODY):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
        assert [error["field"] for error in answer.json()["errors"]] == ["X-User-Id"]
    else:
        assert "X-User-Id" not in answer.text


@pytest.mark.parametrize("operation", EVERY, ids=lambda operation: operation.name)
async def test_no_genuine_token_no_answer(client: Client, operation: Operation) -> None:
    (without,) = {row.without for row in rows() if row.operation == operation.name}
    assert without == (200 if operation.access is None else 401)
    packet_id = await client.send("alice")
    for kind, token in wrong_tokens(client.secret).items():
        for more in ({}, {"x-user-id": "alice"}):
            headers = more if token is None else {**more, "authorization": token}
            answer = await ask(client, operation, headers, packet_id)
            assert answer.status_code == without, (kind, answer.text)
            if without == 401:
                assert answer.json()["code"] == "unauthorized", kind
                assert answer.headers["www-authenticate"] == 'Bearer realm="hongbao"', kind


@pytest.mark.parametrize(
    "operation", [row for row in ROUTES if row.access is not None], ids=lambda operation: operation.name
)
async def test_a_user_cannot_speak_for_another(client: Client, operation: Operation) -> None:
    scopes = [scope for scope in SCOPES if scope != "act"]
    for speaks_for in ("bob", "alice"):
        headers = client.as_user("alice", *scopes) | {"x-user-id": speaks_for}
        answer = await ask(client, operation, headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "act" in answer.json()["detail"]
