"""A master that Sentinels watch: whatever becomes of it, the process finds the next one, and nothing is lost."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.errors import OperatorError
from engine.records import Ack, Outcome
from engine.settings import Settings
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order, claim_until_served
from tests.support.scenes import caught_up, changed, persisting, send
from tests.support.waiting import wait_until
from tests.support.watched import WatchedPair, watched_pair

pytestmark = pytest.mark.long

ONE = pytest.mark.parametrize("pair", [1], indirect=True, ids=["one Sentinel"])
"""Where none has to be outvoted, and so none has to be found by the others."""


@pytest.fixture
async def pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[WatchedPair]:
    async with watched_pair(tmp_path, sentinels=getattr(request, "param", 3)) as pair:
        yield pair


@pytest.fixture
def settings(settings: Settings, pair: WatchedPair) -> Settings:
    """Claims are acknowledged once the ledger has them, so that none may be lost whatever a replica lacked."""
    return changed(settings, redis_url=pair.url, lanes=2, ack=Ack.LEDGER, redis_timeout_s=1.0)


async def told(engine: Engine, packet_id: str, *users: str) -> dict[tuple[str, str], int]:
    """What each user was told to have won; each asks until the lane serves."""
    found = {}
    for user in users:
        result = await wait_until(
            lambda user=user: claim_until_served(engine, packet_id, user),  # type: ignore[misc]
            timeout_s=60,
            what=f"an answer to {user}",
        )
        assert result is not None
        assert result.outcome in (Outcome.CLAIMED, Outcome.ALREADY)
        found[packet_id, user] = result.amount_fen
    return found


async def assert_sound(engine: Engine, answered: dict[tuple[str, str], int]) -> None:
    """Each amount that a user was told is in the ledger, once, and nothing else is wrong."""
    await caught_up(engine)
    assert await amounts_in_ledger(engine) == answered
    await assert_in_order(engine)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding for finding in findings if not finding.holds] == []


async def test_a_master_that_is_killed_is_followed_by_its_replica(pair: WatchedPair, settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=40, total_fen=4_000)
        answered = await told(engine, sent.packet_id, *(f"user{number}" for number in range(5)))
        pair.first.kill()
        answered |= await told(engine, sent.packet_id, *(f"user{number}" for number in range(3, 10)))
        assert await pair.master_port() == pair.second.port
        # The old one comes back as a replica, and is not believed.
        await pair.first.start()
        answered |= await told(engine, sent.packet_id, "user10")
        await assert_sound(engine, answered)
        assert await engine.ready() == []


async def test_an_ordered_failover_leaves_the_old_master_alive_and_alone(pair: WatchedPair, settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=40, total_fen=4_000)
        answered = await told(engine, sent.packet_id, "user0", "user1")
        await pair.fail_over()

        async def is_done() -> bool:
            return await pair.master_port() == pair.second.port

        await wait_until(is_done, timeout_s=60, what="the failover")
        answered |= await told(engine, sent.packet_id, *(f"user{number}" for number in range(1, 6)))
        await assert_sound(engine, answered)


async def test_a_master_that_hangs_is_left_and_not_believed_when_it_wakes(
    pair: WatchedPair, settings: Settings
) -> None:
    """The old connections stand all the time, and the old master still believes that it is one when it goes on."""
    async with Engine.open(settings) as engine, persisting(settings):
        sent = await send(engine, count=40, total_fen=4_000)
        answered = await told(engine, sent.packet_id, "user0", "user1")
        pair.first.signal(signal.SIGSTOP)
        answered |= await told(engine, sent.packet_id, "user2")
        pair.first.signal(signal.SIGCONT)
        answered |= await told(engine, sent.packet_id, *(f"user{number}" for number in range(1, 6)))
        await assert_sound(engine, answered)


@ONE
async def test_a_process_starts_whatever_sentinel_is_away(pair: WatchedPair, settings: Settings) -> None:
    """The first that is named does not answer, and another does."""
    silent = pair.url.replace("://", "://127.0.0.1:1,")
    async with Engine.open(changed(settings, redis_url=silent, ack=Ack.MEMORY)) as engine:
        sent = await send(engine, count=2)
        assert (await engine.claims.claim(sent.packet_id, "ann")).outcome is Outcome.CLAIMED


@ONE
async def test_some_lanes_may_be_on_a_watched_master(pair: WatchedPair, settings: Settings, redis_url: str) -> None:
    """Each lane's server is found in its own way."""
    both = changed(settings, redis_url=f"0={redis_url} 1={pair.url}", lanes=2, ack=Ack.MEMORY)
    async with Engine.open(both) as engine:
        assert [node.place for node in engine.topology.nodes][1] == "main"
        assert await engine.ready() == []
        names = {str((await node.client.info("server"))["run_id"]) for node in engine.topology.nodes}
        assert len(names) == 2


@ONE
async def test_sentinels_may_have_a_password_of_their_own(tmp_path: Path, settings: Settings) -> None:
    (folder := tmp_path / "others").mkdir()
    async with watched_pair(folder, sentinels=1, password="hidden") as pair:
        async with Engine.open(changed(settings, redis_url=pair.url, ack=Ack.MEMORY)) as engine:
            assert await engine.ready() == []
        wrong = pair.url.replace("hidden", "other")
        with pytest.raises(OperatorError, match="no Sentinel names the master main") as raised:
            async with Engine.open(changed(settings, redis_url=wrong)):
                pass
    assert "other" not in str(raised.value)
