"""An answer in pieces: made as fast as the client reads, ended if it hangs up, and never taken for whole when cut."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from api.wire.connection import UNREAD_S_MAX
from engine.settings import Settings
from engine.wallets.statement import PAGE
from tests.support.scenes import fund
from tests.support.served import Served, Watched, serving_here
from tests.support.waiting import wait_until
from tests.support.wire import Wire, request

ROWS = 40_000
_BUFFERED_BYTES_MAX = 200_000
"""What the server holds for a client that does not read: its high water mark, a page, and some more."""


@pytest.fixture
async def served(settings: Settings) -> AsyncIterator[Served]:
    """A server whose alice has a statement of some megabytes."""
    async with serving_here(settings) as served:
        engine = served.front.engine
        await fund(engine, "alice", 100)
        await engine.pool.execute(
            "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) "
            "SELECT kind, from_account, to_account, 1, at_ms FROM transfers, generate_series(1, $1)",
            ROWS,
        )
        yield served


def statement(served: Served, method: str = "GET") -> bytes:
    return request("/v1/wallets/alice/statement.csv", served.authorized("alice"), method=method)


async def head_of(wire: Wire[Watched]) -> bytes:
    async with asyncio.timeout(20):
        return await wire.reader.readuntil(b"\r\n\r\n")


async def body_of(wire: Wire[Watched]) -> bytes:
    """All chunks, the last one included."""
    chunks = []
    async with asyncio.timeout(60):
        while size := int(await wire.reader.readuntil(b"\r\n"), 16):
            chunks.append(await wire.reader.readexactly(size))
            await wire.reader.readexactly(2)
        assert await wire.reader.readexactly(2) == b"\r\n"
    return b"".join(chunks)


async def waits(served: Served, wire: Wire[Watched]) -> None:
    """The client does not read, and the server has sent what it may."""
    await wait_until(lambda: wire.there.flow.write_paused, what="the server waiting for its client")


@pytest.mark.long
async def test_a_client_that_reads_slowly_has_all_of_it_and_little_of_it_at_once(served: Served) -> None:
    pool = served.front.engine.pool
    async with served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        await wire.send(statement(served))
        await waits(served, wire)
        for _ in range(200):  # turns in which a server that did not wait would send on
            await asyncio.sleep(0)
            assert wire.there.transport.get_write_buffer_size() < _BUFFERED_BYTES_MAX
        # Nor is a connection to Postgres kept while the client takes its time.
        await wait_until(lambda: pool.get_idle_size() == pool.get_size(), what="no connection being used")
        assert served.front.in_flight == 1
        wire.read_on()
        assert b"transfer-encoding: chunked" in await head_of(wire)
        body = await body_of(wire)
        assert body.count(b"\r\n") == ROWS + 1 + 3
        # The connection is as good as before.
        assert (await wire.ask(request("/livez", method="GET"))).status == 200


async def test_a_client_that_goes_on_reading_is_not_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; one that has stopped is."""
    ahead_s = 0.0

    def clock() -> float:
        return monotonic() + ahead_s

    monkeypatch.setattr("api.wire.connection.monotonic", clock)
    monkeypatch.setattr("api.server.monotonic", clock)
    async with served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        await wire.send(statement(served))
        for _ in range(3):
            await waits(served, wire)
            ahead_s += UNREAD_S_MAX - 1
            await served.server.on_tick(0)
            assert wire.there in served.connections()
            wire.read_on()
            async with asyncio.timeout(20):
                await wire.reader.readexactly(400_000)
            wire.stop_reading()
        await waits(served, wire)
        ahead_s += UNREAD_S_MAX + 1
        await served.server.on_tick(0)
        await wait_until(lambda: wire.there not in served.connections(), what="the connection being dropped")
    await wait_until(lambda: served.front.in_flight == 0, what="its request being over")


async def test_a_client_that_hangs_up_ends_it(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async with served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        await wire.send(statement(served))
        await waits(served, wire)
    await wait_until(lambda: served.front.in_flight == 0, what="its request being over")
    assert caplog.records == []


async def test_an_answer_that_cannot_be_ended_is_cut_off(served: Served) -> None:
    """Before its last chunk, so that nobody takes a part for the whole."""
    async with served.connected(is_narrow=True) as wire:
        wire.stop_reading()
        await wire.send(statement(served))
        await waits(served, wire)
        await served.front.engine.pool.execute("ALTER TABLE transfers RENAME TO transfers_away")
        wire.read_on()
        await head_of(wire)
        with pytest.raises(asyncio.IncompleteReadError):
            await body_of(wire)
    await wait_until(lambda: served.front.in_flight == 0, what="its request being over")


async def test_an_error_before_the_first_piece_is_a_problem(served: Served) -> None:
    await served.front.engine.pool.execute("ALTER TABLE transfers RENAME TO transfers_away")
    reply = await served.ask_one(statement(served))
    assert (reply.status, dict(reply.headers)[b"content-type"]) == (503, b"application/problem+json")


async def test_a_head_has_no_body(served: Served) -> None:
    reply = await served.ask_one(statement(served, method="HEAD"))
    assert (reply.status, reply.body) == (200, b"")
    assert b"attachment" in dict(reply.headers)[b"content-disposition"]


def test_a_page_is_small() -> None:
    """The loop answers claims between two pages."""
    assert PAGE <= 500
