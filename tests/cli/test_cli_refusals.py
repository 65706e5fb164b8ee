"""Servers that would refuse what every process asks of them: each start says so in one sentence."""

from pathlib import Path

import pytest

from engine.settings import Settings
from tests.support.commands import hongbao, sentence
from tests.support.own_redis import own_redis, valkey


@pytest.mark.parametrize("command", ["serve", "persist", "sweep"])
async def test_a_replica_stops_the_start(settings: Settings, tmp_path: Path, command: str) -> None:
    with own_redis(valkey(), tmp_path / "server") as server:
        await server.start()
        await server.ask("REPLICAOF", "127.0.0.1", "1")
        variables = {"HONGBAO_REDIS_URL": server.url, "HONGBAO_DATABASE_URL": str(settings.database_url)}
        said = sentence(hongbao(command, "--data-dir", tmp_path / "data", **variables))
    assert said.startswith("Redis refuses: READONLY ")
    assert said.endswith("It is a replica: let HONGBAO_REDIS_URL name the primary.")
