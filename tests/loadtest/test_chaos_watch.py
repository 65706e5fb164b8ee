"""Chaos's look at how far the ledger is behind, while Redis answers late."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.engine import Engine
from engine.lanes.topology import Topology
from engine.settings import Settings
from loadtest.chaos import watch
from loadtest.chaos.history import History


class _Urls:
    """Where the engine's servers are."""

    def __init__(self, settings: Settings) -> None:
        self.redis_url, self.database_url = settings.redis_url, settings.database_url


@pytest.fixture
def watching(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[watch.Watch]:
    monkeypatch.setattr("loadtest.chaos.watch.embedded.urls", lambda _data_dir: _Urls(settings))
    with History(tmp_path / "history.jsonl") as history:
        yield watch.Watch(data_dir=tmp_path, history=history, lanes=len(engine.lanes))


async def test_a_look_that_takes_too_long_closes_its_connections_all_the_same(
    watching: watch.Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing takes longer than the whole look may: on a busy machine it was broken off in its middle."""
    closed, close = list[Topology](), Topology.aclose

    async def late(topology: Topology) -> None:
        await asyncio.sleep(2 * watch._ANSWER_S_MAX)
        await close(topology)
        closed.append(topology)

    monkeypatch.setattr(watch, "_ANSWER_S_MAX", 0.5)
    monkeypatch.setattr(Topology, "aclose", late)
    await watching.look()
    assert len(closed) == 1
    assert watching.behind == 0
