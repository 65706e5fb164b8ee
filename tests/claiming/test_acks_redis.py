"""Acknowledging once a claim is on the disk of Redis, or on its replicas: real servers, killed and brought back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.claiming.acks import Decided
from engine.engine import Engine
from engine.errors import InvalidFieldsError, OperatorError, UnconfirmedError
from engine.lanes.connections import WAITS_MAX
from engine.lanes.durability import FsyncBy, fsync_by
from engine.records import Ack, ClaimResult, Outcome
from engine.settings import Settings
from tests.support.commands import hongbao, sentence
from tests.support.own_redis import OwnRedis, in_step, own_redis, redis_without_waitaof, skip_if_it_has_waitaof, valkey
from tests.support.scenes import changed, persisting, send
from tests.support.waiting import wait_until

SOON_S = 0.3
"""A timeout for those who wait in vain."""
ALWAYS = {"appendfsync": "always"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    """A Valkey that has everything on its disk before it answers."""
    with own_redis(valkey(), tmp_path / "first", repl_diskless_sync_delay="0", **ALWAYS) as started:
        await started.start()
        yield started


@pytest.fixture
async def old_server(tmp_path: Path) -> AsyncIterator[OwnRedis]:
    """A Redis without WAITAOF, set as it must be."""
    with own_redis(redis_without_waitaof(), tmp_path / "old", **ALWAYS) as started:
        await started.start()
        await skip_if_it_has_waitaof(started)
        yield started


@pytest.fixture
async def replica(server: OwnRedis, tmp_path: Path) -> AsyncIterator[OwnRedis]:
    """A replica of ``server`` that is in step with it."""
    with own_redis(valkey(), tmp_path / "second", replicaof=f"127.0.0.1 {server.port}") as started:
        await started.start()
        await in_step(server)
        yield started


def on(settings: Settings, server: OwnRedis, ack: Ack, timeout_s: float = 20.0) -> Settings:
    return changed(settings, redis_url=server.url, lanes=1, ack=ack, ack_timeout_s=timeout_s)


async def claims(engine: Engine, packet_id: str, users: range) -> list[ClaimResult]:
    return await asyncio.gather(*(engine.claims.claim(packet_id, f"user{number}") for number in users))


async def claimed_when_it_serves_again(settings: Settings, packet_id: str, users: range) -> list[ClaimResult]:
    """What the users are told by a process that begins after the servers came back."""
    async with Engine.open(settings) as engine, persisting(settings):

        async def serves() -> bool:
            return not await engine.ready()

        await wait_until(serves, what="the lane being verified")
        return await claims(engine, packet_id, users)


class TestFsync:
    async def test_what_is_acknowledged_survives_the_server(self, settings: Settings, server: OwnRedis) -> None:
        settings = on(settings, server, Ack.FSYNC)
        async with Engine.open(settings) as engine:
            await engine.acks.check()
            packet_id = (await send(engine, count=60)).packet_id
            told = await claims(engine, packet_id, range(50))
            server.kill()
        assert {result.outcome for result in told} == {Outcome.CLAIMED}
        await server.start()
        again = await claimed_when_it_serves_again(settings, packet_id, range(50))
        assert again == [ClaimResult(Outcome.ALREADY, result.amount_fen) for result in told]

    async def test_what_is_not_on_the_disk_is_not_acknowledged(self, settings: Settings, server: OwnRedis) -> None:
        async with Engine.open(on(settings, server, Ack.FSYNC, SOON_S)) as engine:
            packet_id = (await send(engine)).packet_id
            await confirmed(engine, packet_id, "ada")
            await server.ask("CONFIG", "SET", "appendfsync", "no")  # from now on the kernel decides
            for user in ("bob", "bob", "eve"):  # a repeat, which writes nothing itself, is told no sooner
                with pytest.raises(UnconfirmedError):
                    await engine.claims.claim(packet_id, user)
            held = {row.user_id: row.amount_fen for row in await engine.store.claims(packet_id)}
            await server.ask("CONFIG", "SET", "appendfsync", "always")
            for user in ("bob", "eve"):
                assert await confirmed(engine, packet_id, user) == ClaimResult(Outcome.ALREADY, held[user])

    async def test_a_packet_may_ask_for_it(self, settings: Settings, server: OwnRedis) -> None:
        async with Engine.open(on(settings, server, Ack.MEMORY, SOON_S)) as engine:
            strong, plain = (await send(engine, ack=Ack.FSYNC)).packet_id, (await send(engine)).packet_id
            await server.ask("CONFIG", "SET", "appendfsync", "no")
            assert (await engine.claims.claim(plain, "ada")).outcome is Outcome.CLAIMED
            with pytest.raises(UnconfirmedError):
                await engine.claims.claim(strong, "ada")
            await server.ask("CONFIG", "SET", "appendfsync", "always")
            assert (await confirmed(engine, strong, "ada")).outcome is Outcome.ALREADY

    async def test_a_claim_whose_server_went_away_is_not_acknowledged_by_another(
        self, settings: Settings, server: OwnRedis
    ) -> None:
        """It dies between the claim and its word on its disk: what the next one says is not about the claim."""
        async with Engine.open(on(settings, server, Ack.FSYNC)) as engine:
            packet_id = (await send(engine)).packet_id
            await claims(engine, packet_id, range(1))
            lent = engine.store.lend(0)
            assert lent is not None
            reply = await engine.store.claim(0, {packet_id: ["ada"]}, backlog_max=100, lent=lent)
            server.kill()
            await server.start()
            told: list[object] = []
            waiting = engine.acks.waiting({packet_id: ["ada"]}, reply)
            decided = Decided(0, reply, lent)
            await engine.acks.confirm(decided, waiting, lambda _places, failed: told.append(failed))
            assert [type(failed) for failed in told] == [UnconfirmedError]

    async def test_without_an_append_only_file_it_does_not_start(
        self, settings: Settings, database_url: str, tmp_path: Path
    ) -> None:
        with own_redis(valkey(), tmp_path / "forgetful", appendonly="no") as server:
            await server.start()
            variables = {"HONGBAO_REDIS_URL": server.url, "HONGBAO_DATABASE_URL": database_url, "HONGBAO_ACK": "fsync"}
            words = ("serve", "--port", "0", "--data-dir", tmp_path / "data")
            said = sentence(await asyncio.to_thread(hongbao, *words, **variables))
            assert "set to appendonly yes and appendfsync always" in said
            async with Engine.open(on(settings, server, Ack.MEMORY)) as engine:
                with pytest.raises(InvalidFieldsError, match="ack: cannot be fsync"):
                    await send(engine, ack=Ack.FSYNC)

    async def test_a_server_without_waitaof_must_always_sync(
        self, settings: Settings, old_server: OwnRedis, database_url: str, tmp_path: Path
    ) -> None:
        async with Engine.open(on(settings, old_server, Ack.FSYNC)) as engine:
            await engine.acks.check()
            assert await engine.ready() == []
            packet_id = (await send(engine)).packet_id
            assert (await engine.claims.claim(packet_id, "ada")).outcome is Outcome.CLAIMED
            for setting, wrong in (
                ("appendfsync", "everysec"),
                ("no-appendfsync-on-rewrite", "yes"),
                ("appendonly", "no"),
            ):
                await old_server.ask("CONFIG", "SET", setting, wrong)
                (reason,) = await engine.ready()
                right = {"appendfsync": "always", "no-appendfsync-on-rewrite": "no", "appendonly": "yes"}[setting]
                assert reason.endswith(f"Redis must be set to {setting} {right}.")
                with pytest.raises(UnconfirmedError):
                    await engine.claims.claim(packet_id, "ada")
                with pytest.raises(OperatorError, match=setting):
                    await engine.acks.check()
                await old_server.ask("CONFIG", "SET", setting, right)
                assert await engine.ready() == []
                assert (await engine.claims.claim(packet_id, "ada")).outcome is Outcome.ALREADY
        await old_server.ask("CONFIG", "SET", "appendfsync", "everysec")
        variables = {"HONGBAO_REDIS_URL": old_server.url, "HONGBAO_DATABASE_URL": database_url, "HONGBAO_ACK": "fsync"}
        words = ("serve", "--port", "0", "--data-dir", tmp_path / "data")
        assert "appendfsync always" in sentence(await asyncio.to_thread(hongbao, *words, **variables))

    async def test_a_server_that_does_not_tell_how_it_is_set_is_refused(self, tmp_path: Path) -> None:
        with own_redis(redis_without_waitaof(), tmp_path / "shut", rename_command="CONFIG ", **ALWAYS) as server:
            await server.start()
            await skip_if_it_has_waitaof(server)
            async with server.client() as client:
                with pytest.raises(OperatorError, match="does not report its configuration"):
                    await fsync_by(client)

    async def test_once_a_second_is_not_enough_whatever_the_server_says(self, server: OwnRedis) -> None:
        async with server.client() as client:
            await server.ask("CONFIG", "SET", "appendfsync", "everysec")
            with pytest.raises(OperatorError, match="appendfsync always"):
                await fsync_by(client)

    async def test_a_user_who_may_not_ask_is_believed_by_the_settings_or_refused(self, server: OwnRedis) -> None:
        async with server.client() as client:
            assert await fsync_by(client) is FsyncBy.WAITAOF
            await server.ask("ACL", "SETUSER", "default", "-waitaof")
            assert await fsync_by(client) is FsyncBy.ALWAYS  # by its settings, which may be read
            await server.ask("ACL", "SETUSER", "default", "-config")
            with pytest.raises(OperatorError, match="does not report its configuration"):
                await fsync_by(client)


class TestReplica:
    async def test_what_is_acknowledged_survives_the_master(
        self, settings: Settings, server: OwnRedis, replica: OwnRedis
    ) -> None:
        async with Engine.open(on(settings, server, Ack.REPLICA)) as engine:
            assert await engine.ready() == []
            packet_id = (await send(engine, count=60)).packet_id
            told = await claims(engine, packet_id, range(50))
            server.kill()
        assert {result.outcome for result in told} == {Outcome.CLAIMED}
        await replica.ask("REPLICAOF", "NO", "ONE")
        again = await claimed_when_it_serves_again(on(settings, replica, Ack.MEMORY), packet_id, range(51))
        assert again[:50] == [ClaimResult(Outcome.ALREADY, result.amount_fen) for result in told]
        assert again[50].outcome is Outcome.CLAIMED

    @pytest.mark.long
    async def test_what_no_replica_has_is_not_acknowledged(
        self, settings: Settings, server: OwnRedis, replica: OwnRedis
    ) -> None:
        async with Engine.open(on(settings, server, Ack.REPLICA, SOON_S)) as engine:
            packet_id = (await send(engine)).packet_id
            await confirmed(engine, packet_id, "ada")
            replica.signal(signal.SIGSTOP)
            for user in ("bob", "bob"):  # a repeat, which writes nothing itself, is told no sooner
                with pytest.raises(UnconfirmedError):
                    await engine.claims.claim(packet_id, user)
            replica.signal(signal.SIGCONT)
            held = {row.user_id: row.amount_fen for row in await engine.store.claims(packet_id)}
            assert (await confirmed(engine, packet_id, "bob")) == ClaimResult(Outcome.ALREADY, held["bob"])

    async def test_a_packet_that_asks_for_it_does_not_keep_others_waiting(
        self, settings: Settings, server: OwnRedis, replica: OwnRedis
    ) -> None:
        async with Engine.open(on(settings, server, Ack.MEMORY, timeout_s=30)) as engine:
            strong = (await send(engine, count=50, ack=Ack.REPLICA)).packet_id
            plain = (await send(engine)).packet_id
            replica.signal(signal.SIGSTOP)
            waiting = [await in_a_call_of_its_own(engine, strong, number) for number in range(WAITS_MAX + 5)]
            for number in range(10):
                result = await asyncio.wait_for(engine.claims.claim(plain, f"user{number}"), 15)
                assert result.outcome is Outcome.CLAIMED
            refused = [task for task in waiting if task.done()]
            assert [type(task.exception()) for task in refused] == [UnconfirmedError] * 5
            replica.signal(signal.SIGCONT)
            told = await asyncio.gather(*(task for task in waiting if task not in refused))
            assert {result.outcome for result in told} == {Outcome.CLAIMED}

    async def test_a_packet_cannot_ask_for_it_where_there_are_too_few(
        self, settings: Settings, server: OwnRedis
    ) -> None:
        async with Engine.open(on(settings, server, Ack.MEMORY)) as engine:
            with pytest.raises(InvalidFieldsError, match="ack: cannot be replica"):
                await send(engine, ack=Ack.REPLICA)

    async def test_too_few_replicas_are_told_and_not_a_reason_not_to_start(
        self, settings: Settings, server: OwnRedis
    ) -> None:
        async with Engine.open(on(settings, server, Ack.REPLICA, SOON_S)) as engine:
            await engine.acks.check()
            (reason,) = await engine.ready()
            assert reason == "Redis has 0 of the 1 replicas that a claim must reach."
            packet_id = (await send(engine)).packet_id
            with pytest.raises(UnconfirmedError):
                await engine.claims.claim(packet_id, "ada")


async def in_a_call_of_its_own(engine: Engine, packet_id: str, number: int) -> asyncio.Task[ClaimResult]:
    """A claim that is decided when this returns."""
    task = asyncio.create_task(engine.claims.claim(packet_id, f"user{number}"))

    async def is_decided() -> bool:
        return len(await engine.store.claims(packet_id)) == number + 1

    await wait_until(is_decided, what="the claim being decided")
    return task


async def confirmed(engine: Engine, packet_id: str, user_id: str) -> ClaimResult:
    async def told() -> ClaimResult | None:
        try:
            return await engine.claims.claim(packet_id, user_id)
        except UnconfirmedError:
            return None

    result = await wait_until(told, what="the claim being confirmed")
    assert result is not None
    return result
