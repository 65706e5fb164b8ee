"""Display names: what a name may be, where others see it, and that nothing of it stays once it is deleted."""

from collections.abc import AsyncIterator

import pytest

from engine.engine import Engine
from engine.errors import InvalidFieldsError
from engine.people.displays import masked
from engine.settings import Settings
from tests.support.front import Client, open_front
from tests.support.scenes import persisting
from tests.support.waiting import wait_until

NAME = "小明🧧"


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


@pytest.mark.parametrize("name", ["", "x" * 33, " ", "\u200b", "a\nb", "\u202eevil", "🧧" * 33])
async def test_a_name_that_nobody_can_read_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        await engine.displays.put("bob", name)
    assert [problem.field for problem in caught.value.problems] == ["name"]


@pytest.mark.parametrize("name", ["x", "🧧" * 32, "Ada Lovelace", "阿依古丽·买买提", "<b>"])
async def test_a_name_is_kept_as_it_is_until_it_is_changed_or_deleted(engine: Engine, name: str) -> None:
    assert (await engine.displays.get("bob")).name is None
    await engine.displays.put("bob", "before")
    await engine.displays.put("bob", name)
    assert (await engine.displays.get("bob")).name == name
    assert await engine.displays.names_of(["bob", "carol"]) == {"bob": name}
    await engine.displays.delete("bob")
    await engine.displays.delete("bob")
    assert (await engine.displays.get("bob")).name is None
    assert await engine.pool.fetchval("SELECT count(*) FROM displays") == 0


@pytest.mark.parametrize(
    ("user_id", "shown"), [("alice", "a***e"), ("abc", "a***c"), ("ab", "a***"), ("a", "a***"), ("..x", ".***x")]
)
def test_a_masked_id_shows_two_characters_at_most(user_id: str, shown: str) -> None:
    assert masked(user_id) == shown


async def test_others_see_a_name_where_they_saw_the_id_and_no_longer_once_it_is_deleted(front: Client) -> None:
    packet_id = await front.send("alice")
    for user in ("alice", "bob"):
        path = f"/v1/users/{user}/display"
        answer = await front.http.put(path, json={"name": f"{NAME} {user}"}, headers=front.as_user(user))
        assert answer.json() == {"user_id": user, "name": f"{NAME} {user}", "masked_id": masked(user)}
    for user in ("bob", "carol"):
        await front.claim(packet_id, user)

    async def listed() -> list[tuple[str, str | None, str]]:
        answer = await front.http.get(f"/v1/packets/{packet_id}/claims", headers=front.as_user("carol"))
        return [(claim["user_id"], claim["display_name"], claim["masked_id"]) for claim in answer.json()["claims"]]

    async def sender() -> str | None:
        answer = await front.http.get(f"/v1/packets/{packet_id}", headers=front.as_user("carol"))
        name: str | None = answer.json()["sender_display_name"]
        return name

    assert await listed() == [("bob", f"{NAME} bob", "b***b"), ("carol", None, "c***l")]
    assert await sender() == f"{NAME} alice"
    for user in ("alice", "bob"):
        answer = await front.http.delete(f"/v1/users/{user}/display", headers=front.as_backend(user))
        assert (answer.status_code, answer.json()["name"]) == (200, None)
    assert await listed() == [("bob", None, "b***b"), ("carol", None, "c***l")]
    assert await sender() is None


async def test_no_other_table_and_no_key_holds_a_name(engine: Engine, settings: Settings) -> None:
    from tests.support.scenes import send

    for user in ("alice", "bob"):
        await engine.displays.put(user, NAME)
    packet_id = (await send(engine, count=1)).packet_id
    async with persisting(settings):
        await engine.claims.claim(packet_id, "bob")

        async def is_settled() -> bool:
            return (await engine.views.packet(packet_id)).settled_at_ms is not None

        await wait_until(is_settled, what="the settlement")
    tables = await engine.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    holding = [
        row["tablename"]
        for row in tables
        if await engine.pool.fetchval(
            f'SELECT count(*) FROM "{row["tablename"]}" AS held WHERE held::text LIKE $1', f"%{NAME}%"
        )
    ]
    assert holding == ["displays"]
    assert [key async for key in engine.redis.scan_iter(match="*") if NAME.encode() in (await dump(engine, key))] == []


async def dump(engine: Engine, key: bytes) -> bytes:
    return await engine.redis.dump(key) or b""
