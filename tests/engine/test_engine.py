"""One process's engine: what it needs to open, what keeps it from being ready, how it lets go."""

import asyncio
from collections import Counter

import pytest

from engine.engine import Engine
from engine.errors import OperatorError, UnavailableError
from engine.records import Outcome
from engine.settings import Settings
from tests.support.scenes import changed, send


@pytest.mark.parametrize("missing", ["redis_url", "database_url"])
async def test_without_a_server_to_use_it_names_the_settings(settings: Settings, missing: str) -> None:
    with pytest.raises(OperatorError, match=f"HONGBAO_{missing.upper()}"):
        async with Engine.open(changed(settings, **{missing: None})):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    ("setting", "url", "sentence"),
    [
        ("redis_url", "redis://127.0.0.1:{port}", "Redis does not answer"),
        ("database_url", "postgresql://127.0.0.1:{port}/x", "Postgres does not answer"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_an_operators_mistake(
    settings: Settings, port: int, setting: str, url: str, sentence: str
) -> None:
    with pytest.raises(OperatorError, match=sentence):
        async with Engine.open(changed(settings, **{setting: url.format(port=port)})):
            pytest.fail("it opened")


async def test_a_database_without_the_schema_is_refused(settings: Settings, empty_database_url: str) -> None:
    with pytest.raises(OperatorError, match="run `hongbao migrate`"):
        async with Engine.open(changed(settings, database_url=empty_database_url)):
            pytest.fail("it opened")


async def test_it_serves_every_lane_the_ledger_knows(settings: Settings) -> None:
    async with Engine.open(changed(settings, lanes=5)) as many:
        assert many.lanes == (0, 1, 2, 3, 4)
        sent = [await send(many) for _ in range(20)]
    async with Engine.open(changed(settings, lanes=1)) as fewer:
        assert fewer.lanes == (0, 1, 2, 3, 4)  # packets of the others are still about
        outcomes = [(await fewer.claims.claim(packet.packet_id, "bob")).outcome for packet in sent]
        assert set(outcomes) == {Outcome.CLAIMED}
        assert {(await send(fewer)).packet_id[2:5] for _ in range(5)} == {"000"}


async def test_it_is_ready_and_says_what_keeps_it_from_being(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        assert await engine.ready() == []
        await engine.store.fence(1)
        assert await engine.ready() == ["Lane 1 is fenced: Redis and the ledger disagree about its epoch."]
        await engine.redis.flushall()
        assert await engine.ready() == [f"Lane {lane} is fenced: Redis has lost it." for lane in (0, 1)]
        await engine.pool.execute("ALTER TABLE lanes RENAME TO elsewhere")
        (said,) = await engine.ready()
        assert said.startswith('Postgres refuses: relation "lanes" does not exist.')


async def test_claims_under_way_are_answered_before_it_lets_go(settings: Settings) -> None:
    async with Engine.open(changed(settings, claims_per_call_max=10)) as engine:
        sent, other = await send(engine, total_fen=1_000, count=50), await send(engine)
        asked = [asyncio.ensure_future(engine.claims.claim(sent.packet_id, f"user{number}")) for number in range(300)]
        await asyncio.sleep(0)  # they are queued
    results = await asyncio.gather(*asked)
    assert Counter(result.outcome for result in results) == {Outcome.CLAIMED: 50, Outcome.EMPTY: 250}
    with pytest.raises(UnavailableError, match="shutting down"):
        await engine.claims.claim(other.packet_id, "late")
