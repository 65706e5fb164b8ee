"""The gate: a Redis that was restarted serves nobody until its data was compared with the ledger.

In these tests Redis is really killed, started again, and set back to older data, as a lost log or an old snapshot does.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.engine import Engine
from engine.errors import OperatorError, RecoveringError
from engine.lanes import keys
from engine.lanes.clients import command, redis_connections
from engine.lanes.connections import lane_token_of
from engine.ledger.database import database_connection
from engine.ledger.posting import Applied, CheckpointMovedError, Ledger
from engine.persisting import persister
from engine.records import ClaimResult, Outcome
from engine.recovery import gate
from engine.recovery.fencing import LaneChangedError, run_id, set_lane_token, write_if
from engine.settings import Settings
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order, claim_until_served, mended
from tests.support.restartable_redis import RestartableRedis, redis_of_its_own
from tests.support.scenes import caught_up, changed, checkpoints, followed_lanes, persisting, send
from tests.support.waiting import wait_until

RESTARTED = "Lane 0 is fenced: Redis was restarted and is not compared with the ledger yet."


@pytest.fixture
async def logged(tmp_path: Path) -> AsyncIterator[RestartableRedis]:
    """A Redis that comes back as it was killed."""
    async with redis_of_its_own(tmp_path / "own", has_log=True) as server:
        yield server


@pytest.fixture
async def snapshotted(tmp_path: Path) -> AsyncIterator[RestartableRedis]:
    """A Redis that comes back as its last snapshot was."""
    async with redis_of_its_own(tmp_path / "own", has_log=False) as server:
        yield server


def on(server: RestartableRedis, settings: Settings, **values: object) -> Settings:
    """One lane on this server."""
    return changed(settings, redis_url=server.url, lanes=1, redis_timeout_s=2.0, **values)


async def claims(engine: Engine, packet_id: str, first: int, count: int) -> dict[str, int]:
    """Claim for so many users, who must win."""
    won = {}
    for number in range(first, first + count):
        result = await engine.claims.claim(packet_id, f"user{number}")
        assert result.outcome is Outcome.CLAIMED
        won[f"user{number}"] = result.amount_fen
    return won


async def served(engine: Engine, packet_id: str, user_id: str, timeout_s: float = 30.0) -> ClaimResult:
    """What a claim is answered once the lane serves."""

    async def answered() -> ClaimResult | None:
        return await claim_until_served(engine, packet_id, user_id)

    result = await wait_until(answered, timeout_s=timeout_s, what="being served")
    assert result is not None
    return result


async def test_a_kept_connection_speaks_the_word_of_the_server_it_talks_to(logged: RestartableRedis) -> None:
    kept = redis_connections(logged.url, connections_max=1, timeout_s=5.0)
    first = await kept.call("ECHO", "the-epoch", epoch_at=1)
    assert await kept.call("ECHO", "the-epoch") == b"the-epoch"
    logged.restart()
    # The connection was lost; the call is sent again on a new one, and says the lane token of the new server.
    second = await kept.call("ECHO", "the-epoch", epoch_at=1)
    info = await kept.call("INFO", "server")
    await kept.aclose()
    assert first != second
    assert f"run_id:{second.decode().removeprefix('the-epoch@')}".encode() in info


async def test_a_restarted_redis_with_all_its_data_waits_for_the_persister_and_loses_nothing(
    logged: RestartableRedis, settings: Settings
) -> None:
    settings = on(logged, settings)
    async with Engine.open(settings) as engine:
        sent = await send(engine, count=10)
        told = await claims(engine, sent.packet_id, 0, 4)
        async with persisting(settings):
            await caught_up(engine)
        told |= await claims(engine, sent.packet_id, 4, 2)  # these are in the stream only
        logged.restart()
        for user in ("user0", "user5", "stranger"):
            with pytest.raises(RecoveringError):
                await engine.claims.claim(sent.packet_id, user)
        assert await engine.ready() == [RESTARTED]
        async with persisting(settings):
            assert await served(engine, sent.packet_id, "user0") == ClaimResult(Outcome.ALREADY, told["user0"])
            assert await engine.ready() == []
            assert await served(engine, sent.packet_id, "user5") == ClaimResult(Outcome.ALREADY, told["user5"])
            told |= await claims(engine, sent.packet_id, 6, 4)
            await caught_up(engine)
        assert await amounts_in_ledger(engine) == {(sent.packet_id, user): fen for user, fen in told.items()}
        await assert_in_order(engine)


async def test_an_idle_persister_notices_a_restart_by_itself_and_soon(
    logged: RestartableRedis, settings: Settings
) -> None:
    settings = on(logged, settings)
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=10)
        await claims(engine, sent.packet_id, 0, 1)
        await caught_up(engine)
        for number in range(1, 4):
            logged.restart()
            # It takes some tenths of a second on an idle machine; the bound is a busy one's.
            assert (await served(engine, sent.packet_id, f"user{number}", timeout_s=10)).outcome is Outcome.CLAIMED
        await caught_up(engine)
        await assert_in_order(engine)


async def test_a_redis_that_was_set_back_refuses_though_nobody_has_looked_and_then_until_it_is_recovered(
    snapshotted: RestartableRedis, settings: Settings
) -> None:
    """Who has a share in the ledger is unknown to the old data; without the gate he would get a second one."""
    settings = on(snapshotted, settings)
    async with Engine.open(settings) as engine:
        sent = await send(engine, count=10)
        told = await claims(engine, sent.packet_id, 0, 3)
        await snapshotted.put_snapshot_aside()
        told |= await claims(engine, sent.packet_id, 3, 3)
        async with persisting(settings):
            await caught_up(engine)
        snapshotted.restart_set_back()
        assert await engine.redis.hexists(keys.claims(sent.packet_id), "user4") is False
        for user in ("user0", "user4", "stranger"):
            with pytest.raises(RecoveringError):
                await engine.claims.claim(sent.packet_id, user)
        with capture_logs() as logs:
            async with persisting(settings):  # which finds out, and is not told to rebuild
                await wait_until(lambda: logs, what="the alarm")
                for user in ("user0", "user4", "stranger"):
                    with pytest.raises(RecoveringError):
                        await engine.claims.claim(sent.packet_id, user)
                assert (await engine.ready())[0].startswith("Lane 0 is fenced")
        assert logs[0]["error_type"] == "LaneBrokenError"

        recovered = await mended(engine)
        assert (recovered.packets, recovered.claims, recovered.shares_left) == (1, 6, 4)
        for user, amount_fen in told.items():
            assert await served(engine, sent.packet_id, user) == ClaimResult(Outcome.ALREADY, amount_fen)
        async with persisting(settings):
            told |= await claims(engine, sent.packet_id, 6, 4)
            await caught_up(engine)
        assert sum(told.values()) == 1_000
        assert await amounts_in_ledger(engine) == {(sent.packet_id, user): fen for user, fen in told.items()}
        await assert_in_order(engine)


@pytest.mark.long
@pytest.mark.parametrize("retry_s", [persister.RETRY_S, 3.0], ids=["looked again", "read once"])
async def test_a_redis_that_lost_only_what_the_ledger_lacks_serves_again_and_says_how_much(
    snapshotted: RestartableRedis, settings: Settings, monkeypatch: pytest.MonkeyPatch, retry_s: float
) -> None:
    """Also if Redis is gone before the persister has looked at the lane again, after it had read them."""
    monkeypatch.setattr(persister, "RETRY_S", retry_s)
    settings = on(snapshotted, settings)

    async def fail(*_arguments: object, **_named: object) -> Applied:
        raise asyncpg.PostgresError("the ledger stands still")

    async with Engine.open(settings) as engine:
        sent = await send(engine, count=10)
        with capture_logs() as logs:
            async with persisting(settings):
                told = await claims(engine, sent.packet_id, 0, 3)
                await caught_up(engine)
                await snapshotted.put_snapshot_aside()
                with monkeypatch.context() as patch:
                    patch.setattr(Ledger, "apply", fail)
                    # It has looked at the lane, and will learn of what comes now by reading it.
                    await wait_until(lambda: followed_lanes(engine), what="the lanes being followed")
                    await claims(engine, sent.packet_id, 3, 2)  # the persister sees them, and cannot carry them over
                    await wait_until(lambda: [log for log in logs if "stands still" in str(log)], what="seeing them")
                    snapshotted.restart_set_back()
                    # What it has in its hands of the server before cannot be committed once it has verified this one.
                    lost = "changes_lost"
                    await wait_until(lambda: [log for log in logs if log["event"] == lost], 20, what="noticing")
                result = await served(engine, sent.packet_id, "user8")
                await caught_up(engine)
        assert result.outcome is Outcome.CLAIMED
        assert {log["changes"] for log in logs if log["event"] == "changes_lost"} <= {1, 2}
        assert len([log for log in logs if log["event"] == "changes_lost"]) == 1
        assert {log.get("error_type") for log in logs}.isdisjoint({"LaneBrokenError"})
        assert set(await amounts_in_ledger(engine)) == {(sent.packet_id, user) for user in (*told, "user8")}
        await assert_in_order(engine)


@pytest.mark.parametrize("recover_automatically", [None, True])
async def test_a_ledger_that_was_set_back_is_not_taken_for_a_redis_that_lost(
    engine: Engine, settings: Settings, recover_automatically: bool | None
) -> None:
    """Rebuilding from it would give again what its lost part had given: an operator must say so."""
    settings = changed(settings, recover_automatically=recover_automatically)
    sent = await send(engine, count=10)
    lane = int(sent.packet_id[2:5])
    await claims(engine, sent.packet_id, 0, 5)
    async with persisting(settings):
        await caught_up(engine)
    await engine.pool.execute("UPDATE lanes SET position = position - 2 WHERE lane = $1", lane)
    with capture_logs() as logs:
        async with persisting(settings):
            await wait_until(lambda: [log for log in logs if log.get("lane") == lane], what="the alarm")
            with pytest.raises(RecoveringError):
                await engine.claims.claim(sent.packet_id, "user7")
    assert {log["error_type"] for log in logs if log.get("lane") == lane} == {"LaneDoubtfulError"}
    assert await engine.redis.hlen(keys.claims(sent.packet_id)) == 5
    with pytest.raises(OperatorError, match=r"The ledger was set back\..*--force"):
        await mended(engine, lane)
    assert await engine.redis.hlen(keys.claims(sent.packet_id)) == 5


async def test_what_was_read_before_a_restart_cannot_be_committed_after_the_lane_was_verified(
    logged: RestartableRedis, settings: Settings
) -> None:
    """A persister that slept with events in its hands: the Redis of now may have given those positions to others."""
    settings = on(logged, settings)
    async with Engine.open(settings) as engine:
        connection = await database_connection(settings.database_url or "")
        position, lane_token = await gate.verify(connection, engine.store, engine.stream, 0)
        logged.restart()
        assert await gate.verify(connection, engine.store, engine.stream, 0) != (position, lane_token)
        with pytest.raises(CheckpointMovedError):
            await Ledger().apply(connection, 0, position, position + 1, [], lane_token=lane_token)
        await connection.close()
        assert await checkpoints(engine) == {0: 0}


async def test_verifying_what_is_verified_changes_nothing(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        await caught_up(engine)
    connection = await database_connection(settings.database_url or "")
    before = [await command(engine.redis, "HGETALL", keys.lane(lane)) for lane in engine.lanes]
    rows = await engine.pool.fetch("SELECT * FROM lanes ORDER BY lane")
    for lane in engine.lanes:
        await gate.verify(connection, engine.store, engine.stream, lane)
    await connection.close()
    assert [await command(engine.redis, "HGETALL", keys.lane(lane)) for lane in engine.lanes] == before
    assert await engine.pool.fetch("SELECT * FROM lanes ORDER BY lane") == rows


async def test_a_lane_of_a_release_without_run_ids_is_verified_like_any_other(
    engine: Engine, settings: Settings
) -> None:
    row = await engine.pool.fetchrow("SELECT epoch FROM lanes WHERE lane = 0")
    assert isinstance(row, asyncpg.Record)
    await engine.redis.hset(keys.lane(0), "epoch", row["epoch"])
    connection = await database_connection(settings.database_url or "")
    _, lane_token = await gate.verify(connection, engine.store, engine.stream, 0)
    await connection.close()
    assert lane_token == lane_token_of(row["epoch"], await run_id(engine.redis))
    assert await engine.ready() == []


class TestGuardedWrites:
    async def test_they_go_through_while_the_word_is_the_one_that_was_seen(self, engine: Engine) -> None:
        status = await engine.store.lane_status(0)
        assert status is not None
        await write_if(engine.redis, 0, status.lane_token, status.server, [("SET", "{hongbao:000}:a", 1), ("PING",)])
        assert await engine.redis.get("{hongbao:000}:a") == b"1"
        await set_lane_token(engine.redis, 0, status, "another")
        with pytest.raises(LaneChangedError):
            await write_if(engine.redis, 0, status.lane_token, status.server, [("SET", "{hongbao:000}:a", 2)])
        assert await engine.redis.get("{hongbao:000}:a") == b"1"

    async def test_not_on_another_server_nor_on_a_lane_that_is_gone(self, engine: Engine) -> None:
        status = await engine.store.lane_status(0)
        assert status is not None
        with pytest.raises(LaneChangedError):
            await write_if(engine.redis, 0, status.lane_token, "another", [("SET", "{hongbao:000}:a", 1)])
        await engine.redis.flushall()
        with pytest.raises(LaneChangedError):
            await write_if(engine.redis, 0, status.lane_token, status.server, [("SET", "{hongbao:000}:a", 1)])
        assert await engine.redis.dbsize() == 0
        await write_if(engine.redis, 0, None, status.server, [("SET", "{hongbao:000}:a", 1)])
        assert await engine.redis.get("{hongbao:000}:a") == b"1"
