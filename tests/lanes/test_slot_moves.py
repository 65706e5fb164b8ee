"""One slot of a cluster is moved at once: only its own job counts, and nothing goes on once its mover has given up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine.errors import OperatorError
from engine.lanes import keys, slot_moves
from engine.lanes.clients import command
from engine.lanes.cluster import Cluster
from engine.lanes.locating import Address
from engine.lanes.slot_moves import Master, masters_of, move_slot
from engine.lanes.topology import cluster_of
from engine.redis_servers import servers_in
from tests.support.clustered import Clustered, clustered
from tests.support.waiting import wait_until

SLOT = keys.slot(0)


@pytest.fixture
async def cluster(quick_path: Path) -> AsyncIterator[Clustered]:
    async with clustered(quick_path / "cluster", replicas=0) as found:
        yield found


@pytest.fixture
async def masters(cluster: Clustered) -> AsyncIterator[list[Master]]:
    """The one that holds lane 0 first."""
    (server,) = servers_in(cluster.url)
    known: Cluster = cluster_of(server, timeout_s=5.0)
    found = await masters_of(server, known, timeout_s=5.0)
    holder = await known.master_of(SLOT)
    yield sorted(found, key=lambda master: master.address != holder)
    for master in found:
        await master.client.aclose()


async def no_step() -> None:
    """Nothing to do in between."""


@pytest.mark.long
async def test_the_job_of_another_slot_is_not_taken_for_its_own(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = slot_moves._jobs, 0

    async def with_another(source: Master) -> list[dict[bytes, Any]]:
        nonlocal asked
        asked += 1
        others = [{b"name": b"other", b"slot_ranges": b"1-1", b"state": b"success", b"message": b""}]
        return (await real(source) if asked > 2 else []) + others * (asked > 1)

    monkeypatch.setattr(slot_moves, "_jobs", with_another)
    with pytest.raises(OperatorError, match="no longer knows"):
        await move_slot(SLOT, masters[0], masters[1], last=keys.lane(0), between=no_step)


@pytest.mark.long
@pytest.mark.parametrize("error", [OperatorError("It is enough."), asyncio.CancelledError()])
async def test_what_is_broken_off_does_not_move_later(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    jobs = slot_moves._jobs
    asked: list[tuple[object, ...]] = []

    async def under_way(source: Master) -> list[dict[bytes, Any]]:
        return [job | {b"state": b"replicating"} for job in await jobs(source)]

    async def noted(client: Redis, *words: str | bytes | int) -> Any:  # noqa: ANN401  # as in redis-py
        asked.append(words)
        return await command(client, *words)

    async def fails() -> None:
        raise error

    monkeypatch.setattr(slot_moves, "_jobs", under_way)
    monkeypatch.setattr(slot_moves, "command", noted)
    with pytest.raises(type(error)):
        await move_slot(SLOT, masters[0], masters[1], last=keys.lane(0), between=fails)
    assert asked[-1] == ("CLUSTER", "CANCELSLOTMIGRATIONS")


@pytest.mark.long
async def test_what_was_begun_without_an_answer_does_not_move_later(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    async def unanswered(client: Redis, *words: str | bytes | int) -> Any:  # noqa: ANN401  # as in redis-py
        asked.append(words)
        answer = await command(client, *words)
        if "MIGRATESLOTS" in words:
            raise RedisTimeoutError("no answer")
        return answer

    monkeypatch.setattr(slot_moves, "command", unanswered)
    with pytest.raises(RedisTimeoutError):
        await move_slot(SLOT, masters[0], masters[1], last=keys.lane(0), between=no_step)
    assert asked[-1] == ("CLUSTER", "CANCELSLOTMIGRATIONS")


@pytest.mark.long
async def test_a_server_that_has_forgotten_the_job_is_not_waited_for(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_source: Master) -> list[dict[bytes, Any]]:
        return []

    monkeypatch.setattr(slot_moves, "_jobs", none)
    async with asyncio.timeout(10):
        with pytest.raises(OperatorError, match="was it restarted"):
            await move_slot(SLOT, masters[0], masters[1], last=keys.lane(0), between=no_step)


@pytest.mark.long
async def test_a_slot_that_is_half_moved_goes_only_where_its_other_half_is(
    masters: list[Master], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(slot_moves, "_move_at_once", never)
    source, half, other = masters
    for name in (keys.events(0), keys.lane(0)):
        await command(source.client, "HSET", name, "field", "value")

    async def breaks_off() -> None:
        await slot_moves._move_keys([keys.events(0).encode()], source, half)
        raise OperatorError("It is enough.")

    with pytest.raises(OperatorError, match="enough"):
        await move_slot(SLOT, source, half, last=keys.lane(0), between=breaks_off)
    with pytest.raises(OperatorError, match=f"finish that first, --to {await half.name()}"):
        await move_slot(SLOT, source, other, last=keys.lane(0), between=no_step)
    await move_slot(SLOT, source, half, last=keys.lane(0), between=no_step)
    assert await command(half.client, "EXISTS", keys.events(0), keys.lane(0)) == 2


@pytest.mark.long
async def test_servers_that_are_called_by_their_names(cluster: Clustered) -> None:
    (server,) = servers_in(cluster.url)
    for node in cluster.masters:
        node.ask("CONFIG", "SET", "cluster-announce-hostname", f"localhost{'' if node is cluster.masters[2] else '.'}")
        node.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")

    async def addresses() -> set[Address]:
        found = await masters_of(server, cluster_of(server, timeout_s=2.0), timeout_s=2.0)
        for master in found:
            await master.client.aclose()
        return {master.address for master in found}

    async def are_those_of_the_map() -> bool:
        wanted = {*await cluster_of(server, timeout_s=2.0).masters()}
        return len({host for host, _ in wanted}) > 1 and await addresses() == wanted

    await wait_until(are_those_of_the_map, timeout_s=20, what="the servers' names being known")


@pytest.mark.long
async def test_a_master_that_is_away_is_not_the_only_one_that_is_asked(cluster: Clustered) -> None:
    (server,) = servers_in(cluster.url)
    first = cluster.masters[0]
    first.kill()
    known = cluster_of(server, timeout_s=2.0)
    assert next(iter(await known.masters())) == ("127.0.0.1", first.port)
    found = await masters_of(server, known, timeout_s=2.0)
    for master in found:
        await master.client.aclose()
    assert {master.address[1] for master in found} >= {node.port for node in cluster.masters[1:]}
