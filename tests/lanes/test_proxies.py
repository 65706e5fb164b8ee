"""A proxy that hides which server answers is refused in one sentence; a server that was replaced is not one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from engine.errors import OperatorError
from engine.lanes import proxies
from engine.lanes.topology import reading
from tests.support.forwarder import Forwarder, forwarding
from tests.support.own_redis import OwnRedis, own_redis, valkey


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[OwnRedis, OwnRedis]]:
    with own_redis(valkey(), tmp_path / "first") as first, own_redis(valkey(), tmp_path / "second") as second:
        await first.start()
        await second.start()
        yield first, second


class Turns(Forwarder):
    """Each connection leads to the server after the one before."""

    others: tuple[int, ...] = ()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target, *others = self.others
        self.others = (*others, self.target)
        await super()._forward(reader, writer)


async def test_an_address_that_leads_to_two_servers_by_turns_is_refused(pair: tuple[OwnRedis, OwnRedis]) -> None:
    async with balancing(*pair) as balancer:
        url = f"redis://127.0.0.1:{balancer.port}"
        topology = reading(f"0={url} 1={pair[0].url}", timeout_s=2.0)
        with pytest.raises(OperatorError) as raised:
            await proxies.refuse(topology)
        await topology.aclose()
    assert str(raised.value).startswith(
        f"Redis at 127.0.0.1:{balancer.port} is a proxy: its answers come from 2 servers"
    )


async def test_a_server_that_is_replaced_meanwhile_is_no_proxy(
    pair: tuple[OwnRedis, OwnRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = proxies._run_ids

    async with forwarding(pair[0].port) as forwarder:

        async def replaced(node: object) -> set[str]:
            """It was another server before."""
            found = await real(node)  # type: ignore[arg-type]
            if forwarder.target == pair[0].port:
                forwarder.target = pair[1].port
                found |= await real(node)  # type: ignore[arg-type]
            return found

        monkeypatch.setattr(proxies, "_run_ids", replaced)
        topology = reading(forwarder.url, timeout_s=2.0)
        await proxies.refuse(topology)
        await topology.aclose()
        assert forwarder.taken[pair[1].port] > 0


async def test_a_server_that_is_away_is_not_judged(port: int) -> None:
    topology = reading(f"redis://127.0.0.1:{port}", timeout_s=1.0)
    await proxies.refuse(topology)
    await topology.aclose()


@asynccontextmanager
async def balancing(first: OwnRedis, second: OwnRedis) -> AsyncIterator[Turns]:
    """Between two servers."""
    balancer = Turns(first.port)
    balancer.others = (first.port, second.port)
    server = await asyncio.start_server(balancer._forward, "127.0.0.1", 0)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
        await balancer.end()
