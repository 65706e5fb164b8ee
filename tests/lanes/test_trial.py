"""Each script tried on a lane of its own: what a server refuses is said with its remedy, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from engine.errors import ServerRefusesError
from engine.lanes import trial
from engine.lanes.clients import command, redis_client
from engine.lanes.topology import Topology
from engine.lanes.trial import try_scripts
from tests.support.own_redis import OwnRedis, own_redis, valkey
from tests.support.refusing_redis import LITERAL_KEYS, refusing


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    with own_redis(valkey(), tmp_path / "server") as server:
        await server.start()
        yield server


async def refusal(url: str) -> str:
    """What the trial says of a server."""
    async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
        with pytest.raises(ServerRefusesError) as caught:
            await try_scripts(client)
    return str(caught.value)


async def test_a_plain_server_runs_them_and_nothing_is_left(redis: Redis) -> None:
    before = await redis.dbsize()
    await try_scripts(redis)
    await try_scripts(redis)
    assert await redis.dbsize() == before


async def test_a_script_that_answers_otherwise_is_a_refusal(redis: Redis) -> None:
    told = await trial.answers(redis)
    trial.check(told)
    for place, otherwise in (
        (2, [b"FENCED"]),
        (5, [b"OK", b"E", [0], 1]),
        (6, [b"ENDED", b"open"]),
        (9, [b"MALFORMED"]),
    ):
        with pytest.raises(ServerRefusesError, match=r"does not run .* as it is written"):
            trial.check([*told[:place], otherwise, *told[place + 1 :]])


# What a script asks for in its middle, at its first write, at its end; scripts themselves; keys.
@pytest.mark.parametrize(
    "taken", ["-ltrim", "-xadd", "-unlink", "-eval", "-hmget", "-sadd", "-smismember", "-pexpire", "resetkeys"]
)
async def test_a_right_that_is_missing_is_named(server: OwnRedis, taken: str) -> None:
    await server.ask("ACL", "SETUSER", "claimer", "on", ">pw", "~{hongbao:*", "+@all")
    url = server.url.replace("://", "://claimer:pw@")
    async with redis_client(url, connections_max=1, timeout_s=5.0) as client:
        await try_scripts(client)
    await server.ask("ACL", "SETUSER", "claimer", taken)
    said = await refusal(url)
    assert said.startswith("Redis refuses: NOPERM ")
    assert said.endswith(
        "Allow its user EVALSHA, EVAL and all commands of the scripts on keys {hongbao:* (docs/operations.md)."
    )
    assert "Command #" not in said


async def test_a_full_server_is_said_to_be_full(server: OwnRedis) -> None:
    await server.ask("CONFIG", "SET", "maxmemory", "1")
    said = await refusal(server.url)
    assert said.startswith("Redis refuses: OOM command not allowed")
    assert said.endswith("It is at maxmemory: give it more memory.")


async def test_a_replica_is_said_to_be_one(server: OwnRedis) -> None:
    await server.ask("REPLICAOF", "127.0.0.1", "1")
    said = await refusal(server.url)
    assert said.startswith("Redis refuses: READONLY You can't write against a read only replica.")
    assert said.endswith("It is a replica: let HONGBAO_REDIS_URL name the primary.")


async def test_a_password_that_is_wanted_or_wrong_is_said(server: OwnRedis) -> None:
    await server.ask("CONFIG", "SET", "requirepass", "right")
    for url in (server.url, server.url.replace("://", "://:wrong@")):
        said = await refusal(url)
        assert said.startswith("Redis refuses: NOAUTH ")
        assert said.endswith("Put the right user and password into HONGBAO_REDIS_URL.")


async def test_a_node_of_a_cluster_is_said_to_be_one(tmp_path: Path) -> None:
    with own_redis(valkey(), tmp_path / "node", cluster_enabled="yes") as node:
        await node.start()
        said = await refusal(node.url)
        assert said.startswith("Redis refuses: CLUSTERDOWN ")
        assert said.endswith("look at CLUSTER INFO and CLUSTER SHARDS.")
        await node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 100)
        await node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")


async def test_replicas_that_are_missing_are_said(server: OwnRedis) -> None:
    await server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    assert (await refusal(server.url)).endswith("Its min-replicas-to-write is not reached: connect its replicas.")


async def test_an_edition_that_takes_only_literal_keys_is_named(server: OwnRedis) -> None:
    async with refusing(server.url, LITERAL_KEYS, b"EVAL", b"EVALSHA") as url:
        said = await refusal(url)
    assert "takes only scripts that name each key as KEYS[n]" in said
    assert "script_check_enable" in said


async def test_a_command_that_was_renamed_is_said(tmp_path: Path) -> None:
    with own_redis(valkey(), tmp_path / "renamed", rename_command="ltrim other") as server:
        await server.start()
        said = await refusal(server.url)
    assert said.endswith("or Valkey, without renamed commands.")


async def test_what_dies_in_the_middle_leaves_nothing(server: OwnRedis) -> None:
    """A right is missing for the last script: the transaction has run to its end all the same."""
    await server.ask("ACL", "SETUSER", "claimer", "on", ">pw", "~{hongbao:*", "+@all", "-zrem")
    await refusal(server.url.replace("://", "://claimer:pw@"))
    async with server.client() as client:
        assert await command(client, "DBSIZE") == 0


async def test_it_is_not_tried_again_soon_after_it_passed_and_never_twice_at_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = trial.try_scripts

    async def counted(client: Redis, lane: int | None) -> None:
        nonlocal asked
        asked += 1
        await real(client, lane)

    monkeypatch.setattr(trial, "try_scripts", counted)
    mine = trial.Trial(Topology.of_one(redis))
    await asyncio.gather(*(mine.run() for _ in range(50)))
    assert asked == 1
    monkeypatch.setattr(trial, "AGAIN_S", 0.0)
    await mine.run()
    assert asked == 2


async def test_what_is_refused_is_tried_each_time(server: OwnRedis) -> None:
    async with server.client() as client:
        mine = trial.Trial(Topology.of_one(client))
        await command(client, "CONFIG", "SET", "maxmemory", "1")
        for _ in range(2):
            with pytest.raises(ServerRefusesError):
                await mine.run()
        await command(client, "CONFIG", "SET", "maxmemory", "0")
        await mine.run()
