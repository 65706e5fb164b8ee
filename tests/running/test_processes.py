"""Several persisters share the lanes, and none follows another's."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.engine import Engine
from engine.errors import OperatorError
from engine.lanes import proxies
from engine.running.processes import Share, run_persister, run_sweeper
from engine.settings import Settings
from tests.support.commands import hongbao
from tests.support.scenes import positions, send_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long


@given(of=st.integers(1, 9), lanes=st.integers(0, 40))
def test_each_lane_is_one_persisters(of: int, lanes: int) -> None:
    shares = [Share(number, of).lanes(range(lanes)) for number in range(1, of + 1)]
    assert sorted(lane for share in shares for lane in share) == list(range(lanes))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/", "/2", "1/0", "a/b", "-1/2", "1.0/2", "1/2/3"])
def test_a_share_that_is_none_is_said(text: str) -> None:
    finished = hongbao("persist", "--share", text)
    assert finished.returncode == 2
    assert "write it as 1/3, 2/3 or 3/3" in " ".join(finished.stderr.replace("│", " ").split())


async def test_a_persister_follows_its_own_lanes_alone(engine: Engine, settings: Settings) -> None:
    for lane in (0, 1):
        await send_in(engine, lane, count=3)
    given = await positions(engine)

    async def applied() -> dict[int, int]:
        statuses = {lane: await engine.store.lane_status(lane) for lane in (0, 1)}
        return {lane: status.applied for lane, status in statuses.items() if status is not None}

    stop = asyncio.Event()
    second = asyncio.create_task(run_persister(settings, stop, share=Share(2, 2)))

    async def is_done() -> bool:
        return (await applied())[1] == given[1]

    await wait_until(is_done, what="lane 1 being followed")
    assert (await applied())[0] < given[0]
    stop.set()
    await second
    assert (await applied())[0] < given[0]


@pytest.mark.parametrize("run", [run_persister, run_sweeper], ids=["persist", "sweep"])
async def test_a_proxy_is_refused_in_one_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Coroutine[None, None, None]]
) -> None:
    async def by_turns(_node: object) -> set[str]:
        return {"first", "second"}

    monkeypatch.setattr(proxies, "_run_ids", by_turns)
    monkeypatch.setattr(proxies, "_AGAIN_S", 0.0)
    with pytest.raises(OperatorError, match="Redis is a proxy: its answers come from 2 servers by turns"):
        await run(settings, asyncio.Event())
