"""The rights that docs/operations.md asks for are enough, for everything that an engine does."""

import re
from pathlib import Path

from structlog.testing import capture_logs

from engine.engine import Engine
from engine.records import Outcome
from engine.settings import Settings
from tests.support.own_redis import own_redis, valkey
from tests.support.repository import ROOT
from tests.support.scenes import caught_up, changed, persisting, send, settled


async def test_the_rights_on_redis_that_the_docs_name_are_enough(settings: Settings, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    matched = re.search(r"A user of Redis needs `([^`]+)` and `([^`]+)`", page)
    assert matched is not None
    with own_redis(valkey(), tmp_path / "server") as server:
        await server.start()
        await server.ask("ACL", "SETUSER", "engine", "on", ">pw", matched[1], *matched[2].split())
        limited = changed(settings, redis_url=server.url.replace("://", "://engine:pw@"))
        async with Engine.open(limited) as engine, persisting(limited):
            sent = await send(engine, count=3)
            for user in ("bob", "eve", "dan"):
                await engine.claims.claim(sent.packet_id, user)
            await settled(engine, sent.packet_id)
            await caught_up(engine)
            assert await engine.ready() == []


async def test_a_full_redis_does_not_keep_a_process_from_starting(settings: Settings, tmp_path: Path) -> None:
    """A persister makes room in it."""
    with own_redis(valkey(), tmp_path / "server") as server:
        await server.start()
        own = changed(settings, redis_url=server.url)
        async with Engine.open(own) as engine:
            sent = await send(engine, count=3)
        await server.ask("CONFIG", "SET", "maxmemory", "1")
        with capture_logs() as logs:
            async with Engine.open(own) as engine:
                (reason,) = await engine.ready()
        assert reason.startswith("Redis refuses: OOM ")
        assert ("server_refuses", "OOM") in [(log["event"], log.get("code")) for log in logs]
        await server.ask("CONFIG", "SET", "maxmemory", "0")
        async with Engine.open(own) as engine:
            assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.CLAIMED
