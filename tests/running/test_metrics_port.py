"""What `hongbao persist` and `sweep` show on HONGBAO_METRICS_PORT; whatever a client sends there disturbs nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from engine.errors import OperatorError
from engine.running import metrics_port
from engine.running.processes import run_persister, run_sweeper
from engine.running.up import _variables
from engine.settings import Settings
from tests.support.ports import held_port


@asynccontextmanager
async def shown(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    with held_port() as port:
        async with (
            metrics_port.shown(settings.model_copy(update={"metrics_port": port})),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        ):
            yield http


async def test_it_shows_metrics_and_that_the_process_lives(settings: Settings) -> None:
    async with shown(settings) as http:
        live, scraped, other = [await http.get(path) for path in ("/livez", "/metrics?x=1", "/readyz")]
    assert (live.status_code, live.text) == (200, "live\n")
    assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE hongbao_persisted_events_total counter" in scraped.text
    assert other.status_code == 404


@pytest.mark.parametrize("sent", [b"", b"GET", b"\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n", b"x" * 100_000])
async def test_what_is_no_request_gets_no_metrics_and_stops_nothing(settings: Settings, sent: bytes) -> None:
    async with shown(settings) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(sent)
        writer.write_eof()
        try:
            answered = await reader.read()
        except ConnectionResetError:  # it does not read more than a head's length
            answered = b""
        writer.close()
        assert b"hongbao_" not in answered
        assert (await http.get("/livez")).status_code == 200


async def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    async with shown(settings) as http:
        taken = settings.model_copy(update={"metrics_port": http.base_url.port})
        with pytest.raises(OperatorError, match=r"^Cannot listen on 127\.0\.0\.1 port \d+, which HONGBAO_METRICS_PORT"):
            async with metrics_port.shown(taken):
                pass


@pytest.mark.parametrize(("process", "run"), [("persist", run_persister), ("sweep", run_sweeper)])
async def test_both_services_show_theirs_until_they_stop(
    settings: Settings, process: str, run: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    with held_port() as port:
        at = f"http://127.0.0.1:{port}"
        async with asyncio.TaskGroup() as group, httpx.AsyncClient() as http:
            group.create_task(run(settings.model_copy(update={"metrics_port": port}), stop, ready.set))
            await asyncio.wait_for(ready.wait(), 30)
            assert f'hongbao_process_starts_total{{process="{process}"}}' in (await http.get(f"{at}/metrics")).text
            stop.set()
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"{at}/livez")


def test_under_up_the_processes_do_not_meet_on_the_port(settings: Settings) -> None:
    """There the API shows the metrics of all."""
    assert _variables(settings.model_copy(update={"metrics_port": 9108}))["HONGBAO_METRICS_PORT"] == ""
