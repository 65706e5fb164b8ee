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
    begun, ended, close = list[Topology](), list[Topology](), Topology.aclose

    async def late(topology: Topology) -> None:
        begun.append(topology)
        await asyncio.sleep(2 * watch._ANSWER_S_MAX)
        await close(topology)
        ended.append(topology)

    monkeypatch.setattr(watch, "_ANSWER_S_MAX", 0.5)
    with monkeypatch.context() as patched:
        patched.setattr(Topology, "aclose", late)
        await watching.look()
    for topology in begun:
        await topology.aclose()  # what was left open would be waited for
    assert len(ended) == len(begun) == 1
    assert watching.behind == 0
