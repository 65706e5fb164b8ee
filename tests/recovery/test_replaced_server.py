"""A primary that was replaced and still answers on old connections: what is told there is not in the ledger."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import HongbaoError, RecoveringError, UndecidedError
from engine.ids import lane_of
from engine.lanes import connections, keys
from engine.records import ClaimResult, Outcome, SplitKind
from engine.recovery import epochs
from engine.settings import Settings
from tests.support.forwarder import Forwarder, forwarding
from tests.support.own_redis import OwnRedis, own_redis, valkey
from tests.support.scenes import assert_books_balance, caught_up, changed, persisting, send
from tests.support.waiting import wait_until


@dataclass
class Scene:
    """Two servers in step behind one address, and settings for whoever goes by that address."""

    address: Forwarder
    first: OwnRedis
    second: OwnRedis
    settings: Settings
    told: dict[str, int] = field(default_factory=dict)
    _users: "itertools.count[int]" = field(default_factory=itertools.count)

    async def promote_second(self) -> None:
        """Give the address to the second. The first does not hear of it."""
        await wait_until(self.is_level, timeout_s=10, what="the second having all of the first")
        await self.second.ask("REPLICAOF", "NO", "ONE")
        self.address.target = self.second.port

    async def is_level(self) -> bool:
        """Whether the second has all that the first has."""
        ours, theirs = [await server.ask("INFO", "replication") for server in (self.first, self.second)]
        assert isinstance(ours, dict)
        assert isinstance(theirs, dict)
        is_up = theirs.get("master_link_status") == "up"
        return is_up and theirs["slave_repl_offset"] == ours["master_repl_offset"]

    async def claim(self, engine: Engine, packet_id: str) -> ClaimResult | HongbaoError:
        """One user's claim; what is acknowledged is kept in ``told``."""
        user = f"user{next(self._users)}"
        (answer,) = await engine.claims.claim_many([(packet_id, user)])
        if isinstance(answer, ClaimResult) and answer.outcome is Outcome.CLAIMED:
            self.told[user] = answer.amount_fen
        return answer

    async def is_served(self, engine: Engine, packet_id: str) -> bool:
        """Whether a claim wins."""
        return isinstance(await self.claim(engine, packet_id), ClaimResult)


@pytest.fixture
async def scene(settings: Settings, tmp_path: Path) -> AsyncIterator[Scene]:
    with (
        own_redis(valkey(), tmp_path / "first", repl_diskless_sync_delay="0") as first,
        own_redis(valkey(), tmp_path / "second", replicaof=f"127.0.0.1 {first.port}") as second,
    ):
        await first.start()
        await second.start()
        async with forwarding(first.port) as address:
            yield Scene(address, first, second, changed(settings, redis_url=address.url))


async def in_ledger(engine: Engine) -> dict[str, int]:
    rows = await engine.pool.fetch(
        "SELECT owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account "
        "WHERE transfers.kind = 'claim'"
    )
    return {row["owner"]: row["amount_fen"] for row in rows}


async def test_nothing_is_acknowledged_by_a_server_that_the_ledger_has_replaced(scene: Scene) -> None:
    async with Engine.open(scene.settings) as engine:
        async with persisting(scene.settings):
            packet_id = (await send(engine, total_fen=2_000, count=2_000, split=SplitKind.EQUAL)).packet_id
            assert await scene.is_served(engine, packet_id)
            await caught_up(engine)
        await scene.promote_second()
        async with persisting(scene.settings):  # a process that starts now reaches the second alone
            info = await scene.second.ask("INFO", "server")
            assert isinstance(info, dict)

            async def is_replaced() -> bool:
                return bool(await engine.pool.fetchval("SELECT run_id = $1 FROM lanes", info["run_id"]))

            await wait_until(is_replaced, timeout_s=10, what="the ledger vouching for the second server")
            run_id = str(info["run_id"])
            await wait_until(
                lambda: engine.store.servers.get(lane_of(packet_id)) == run_id, timeout_s=10, what="learning of it"
            )
            scene.told.clear()
            # From now on: to the second, or not at all.
            await wait_until(lambda: scene.is_served(engine, packet_id), timeout_s=10, what="being served again")
            for _ in range(20):
                await scene.claim(engine, packet_id)
            assert len(scene.told) >= 20
        assert scene.told.items() <= (await in_ledger(engine)).items()
        held = await scene.first.ask("HKEYS", keys.claims(packet_id))
        assert isinstance(held, list)
        assert {user.decode() for user in held}.isdisjoint(scene.told)
        await assert_books_balance(engine.pool)


@pytest.mark.long
async def test_a_claim_on_its_way_as_the_server_is_replaced_is_not_said_to_stand(scene: Scene) -> None:
    async with Engine.open(scene.settings) as engine:
        async with persisting(scene.settings):
            packet_id = (await send(engine, count=10)).packet_id
            lane = lane_of(packet_id)
            await wait_until(lambda: engine.store.servers.get(lane), what="knowing the server")
        await scene.first.ask("CLIENT", "PAUSE", 1_500, "ALL")
        asking = asyncio.create_task(scene.claim(engine, packet_id))
        await engine.pool.execute("UPDATE lanes SET run_id = 'another'")
        await wait_until(lambda: engine.store.servers[lane] == "another", what="learning of the other")
        answer = await asking
        assert isinstance(answer, UndecidedError), answer
        held = await scene.first.ask("HLEN", keys.claims(packet_id))
        assert (held, scene.told) == (1, {})


async def test_a_replaced_server_is_learnt_of_while_every_connection_to_the_ledger_is_lent(settings: Settings) -> None:
    """Payments that wait for a wallet's row hold them, and more wait for each. Claims need none of them."""
    async with Engine.open(settings) as engine, AsyncExitStack() as lent:
        ledger = await asyncpg.connect(settings.database_url)
        lent.push_async_callback(ledger.close)
        for _ in range(settings.database_pool_max):
            await lent.enter_async_context(engine.pool.acquire())
        await ledger.execute("UPDATE lanes SET run_id = 'another'")
        await wait_until(
            lambda: set(engine.store.servers.values()) == {"another"}, timeout_s=5, what="learning of the other"
        )


async def test_a_storm_of_refused_claims_makes_no_storm_of_connections(scene: Scene) -> None:
    async with Engine.open(scene.settings) as engine:
        async with persisting(scene.settings):
            packet_id = (await send(engine, count=10)).packet_id
            lane = lane_of(packet_id)
            await wait_until(lambda: engine.store.servers.get(lane), what="knowing the server")
        await engine.pool.execute("UPDATE lanes SET run_id = 'another'")
        await wait_until(lambda: engine.store.servers[lane] == "another", what="learning of the other")
        before, began_s = sum(scene.address.taken.values()), monotonic()
        for _ in range(300):
            assert isinstance(await scene.claim(engine, packet_id), RecoveringError)
        made, took_s = sum(scene.address.taken.values()) - before, monotonic() - began_s
        with pytest.raises(RecoveringError):  # its page says so, too, and not that Redis does not answer
            await engine.store.counts(packet_id)
        assert made <= 10 * (1 + took_s / connections._RECONNECT_S), took_s
        assert scene.told == {}


@pytest.mark.long
async def test_a_primary_that_became_a_replica_is_left(scene: Scene) -> None:
    async with Engine.open(scene.settings) as engine, persisting(scene.settings):
        packet_id = (await send(engine, total_fen=2_000, count=2_000, split=SplitKind.EQUAL)).packet_id
        assert await scene.is_served(engine, packet_id)
        await caught_up(engine)
        await scene.promote_second()
        await scene.first.ask("REPLICAOF", "127.0.0.1", scene.second.port)
        await wait_until(lambda: scene.is_served(engine, packet_id), timeout_s=10, what="being served by the second")
        await wait_until(lambda: ready(engine), timeout_s=10, what="being ready")
        for _ in range(20):
            await scene.claim(engine, packet_id)
        await caught_up(engine)
        assert scene.told.items() <= (await in_ledger(engine)).items()


async def ready(engine: Engine) -> bool:
    return await engine.ready() == []


async def test_the_ledger_is_read_though_redis_is_silent(scene: Scene) -> None:
    async with Engine.open(scene.settings) as engine:
        await scene.first.ask("CLIENT", "PAUSE", 5_000, "ALL")
        await engine.pool.execute("UPDATE lanes SET epoch = 'new', run_id = 'another'")
        assert epochs._LEDGER_S <= 0.5  # so often it looks; how long a look takes is the machine's
        await wait_until(lambda: engine.store.servers.get(0) == "another", timeout_s=4, what="learning of the change")
        assert engine.store.epochs[0] == "new"
