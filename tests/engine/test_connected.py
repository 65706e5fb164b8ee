"""Those who only read: the audit and the reconciliation as users of Postgres and Redis that may not write."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from engine.connected import Connected, urls_of
from engine.engine import Engine
from engine.errors import OperatorError
from engine.lanes.clients import command, redis_client
from engine.settings import Settings
from tests.support.commands import hongbao
from tests.support.scenes import caught_up, changed, followed_lanes, persisting, send
from tests.support.waiting import wait_until

_READER = "books_reader"
ALLOWED = ("+@read", "+@connection", "+@transaction", "+info", "+time")
LANES = 12


@pytest.fixture
async def reader(settings: Settings) -> AsyncIterator[dict[str, str]]:
    """The variables of a shell that may read both servers and change neither."""
    url, redis_url = str(settings.database_url), str(settings.redis_url)
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE ROLE {_READER} LOGIN IN ROLE pg_read_all_data")
    async with redis_client(redis_url, connections_max=1, timeout_s=5.0) as client:
        await command(client, "ACL", "SETUSER", _READER, "on", ">pw", "~*", *ALLOWED)
        yield {
            "HONGBAO_DATABASE_URL": url.replace("postgres@", f"{_READER}@"),
            "HONGBAO_REDIS_URL": _as_reader(redis_url),
            "HONGBAO_LANES": "7",  # of this shell: more than the ledger has
        }
        await command(client, "ACL", "DELUSER", _READER)
    await connection.execute(f"DROP ROLE {_READER}")
    await connection.close()


def _as_reader(redis_url: str) -> str:
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        separator = "&" if parts.query else "?"
        return f"{redis_url}{separator}username={_READER}&password=pw"
    return redis_url.replace("://", f"://{_READER}:pw@")


async def lanes_of(settings: Settings) -> list[int]:
    connection = await asyncpg.connect(settings.database_url)
    try:
        return [row["lane"] for row in await connection.fetch("SELECT lane FROM lanes ORDER BY lane")]
    finally:
        await connection.close()


async def test_the_books_are_examined_without_the_right_to_write(settings: Settings, reader: dict[str, str]) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine)
        await engine.claims.claim(sent.packet_id, "bob")
        await caught_up(engine)
    before = await lanes_of(settings)
    for words in (("audit",), ("reconcile", "--day", "2026-01-01")):
        ended = await asyncio.to_thread(hongbao, *words, "--data-dir", settings.data_dir, **reader)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert await lanes_of(settings) == before


@pytest.mark.long
async def test_lanes_do_not_wait_for_each_other(settings: Settings) -> None:
    """Following a lane that is idle keeps a connection: more lanes than connections of any other client."""
    settings = changed(settings, lanes=LANES)
    async with Engine.open(settings) as engine:
        waiting = [
            asyncio.create_task(engine.stream.read(lane, 0, entries_max=1, block_ms=2_000)) for lane in engine.lanes
        ]

        async def all_wait() -> bool:
            return await followed_lanes(engine) == LANES

        await wait_until(all_wait, what="all lanes being followed at once")
        await asyncio.gather(*waiting)


async def test_what_is_missing_is_said(settings: Settings) -> None:
    for name in ("redis_url", "database_url"):
        without = changed(settings, **{name: None})
        with pytest.raises(OperatorError, match="HONGBAO_REDIS_URL and HONGBAO_DATABASE_URL are not set"):
            urls_of(without)
        with pytest.raises(OperatorError, match="are not set"):
            async with Connected.open(without):
                pass
