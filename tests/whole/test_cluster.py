"""A cluster: whatever moves a lane's slot, the process finds the server that holds it, and nothing is lost."""

import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from engine.auditing.audit import audit
from engine.doctor.doctor import examine
from engine.doctor.lines import Level
from engine.embedded.redis_node import RedisNode
from engine.engine import Engine
from engine.errors import OperatorError
from engine.lanes import keys
from engine.records import Ack, Outcome
from engine.settings import Settings
from tests.support.clustered import Clustered, clustered
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order, claim_until_served
from tests.support.scenes import caught_up, changed, persisting
from tests.support.two_servers import answers, one_in_each_lane
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

LANES = 3
"""By their hashes, one on each master."""
Answered = dict[tuple[str, str], int]


@pytest.fixture
async def cluster(quick_path: Path) -> AsyncIterator[Clustered]:
    async with clustered(quick_path / "cluster") as found:
        yield found


@pytest.fixture
def settings(settings: Settings, cluster: Clustered) -> Settings:
    """Claims are acknowledged once the ledger has them, so that none may be lost whatever a replica lacked."""
    return changed(settings, redis_url=cluster.url, lanes=LANES, ack=Ack.LEDGER, redis_timeout_s=1.0)


async def told(engine: Engine, packets: dict[int, str], users: Sequence[str]) -> Answered:
    """What each user was told to have won in each lane; each asks until the lane serves."""
    found = {}
    for user in users:
        for packet_id in packets.values():
            result = await wait_until(
                lambda packet_id=packet_id, user=user: claim_until_served(engine, packet_id, user),  # type: ignore[misc]
                timeout_s=60,
                what=f"an answer to {user}",
            )
            assert result is not None
            assert result.outcome in (Outcome.CLAIMED, Outcome.ALREADY)
            found[packet_id, user] = result.amount_fen
    return found


async def assert_sound(engine: Engine, answered: Answered) -> None:
    """Each amount that a user was told is in the ledger, once, and nothing else is wrong."""
    await caught_up(engine)
    assert await amounts_in_ledger(engine) == answered
    await assert_in_order(engine)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [finding for finding in findings if not finding.holds] == []
    assert await engine.ready() == []


async def test_each_lane_is_on_its_slots_master(cluster: Clustered, settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        assert set((await answers(engine, packets, "ann")).values()) == {"claimed"}
        for lane, node in enumerate(engine.topology.nodes):
            holder = await cluster.holder_of(lane)
            assert node.place == f"127.0.0.1:{holder.port}"
            assert holder.ask("EXISTS", keys.lane(lane)) == "1"
        assert len({node.place for node in engine.topology.nodes}) == LANES
        assert await engine.ready() == []


async def test_a_master_that_is_killed_takes_only_its_own_lanes_with_it(cluster: Clustered, settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        answered = await told(engine, packets, ["ann", "bob"])
        victim = await cluster.holder_of(0)
        others = {lane: packet_id for lane, packet_id in packets.items() if lane != 0}
        victim.kill()
        answered |= await told(engine, others, ["cat"])
        readiness = await engine.readiness()
        assert readiness.reasons == []
        answered |= await told(engine, packets, ["bob", "cat", "dan"])
        # The old one comes back as a replica, and is not believed.
        victim.start()
        assert await cluster.holder_of(0) is not victim
        answered |= await told(engine, packets, ["eve"])
        await assert_sound(engine, answered)


async def test_a_master_that_hangs_is_left_and_not_believed_when_it_wakes(
    cluster: Clustered, settings: Settings
) -> None:
    """The old connections stand all the time, and the old master still believes that it is one when it goes on."""
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        answered = await told(engine, packets, ["ann", "bob"])
        victim = await cluster.holder_of(0)
        assert victim.process is not None
        victim.process.signal(signal.SIGSTOP)
        try:
            answered |= await told(engine, packets, ["cat"])
        finally:
            victim.process.signal(signal.SIGCONT)
        answered |= await told(engine, packets, ["bob", "dan"])
        await assert_sound(engine, answered)


async def test_an_ordered_failover_loses_nothing(cluster: Clustered, settings: Settings) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        answered = await told(engine, packets, ["ann", "bob"])
        for replica in cluster.replicas:
            replica.ask("CLUSTER", "FAILOVER")
        for lane in range(LANES):
            assert await cluster.holder_of(lane) in cluster.replicas
        answered |= await told(engine, packets, ["bob", "cat"])
        await assert_sound(engine, answered)


async def test_a_slot_that_is_moved_behind_its_back_is_compared_before_it_serves(
    cluster: Clustered, settings: Settings
) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        answered = await told(engine, packets, ["ann", "bob"])
        target = await cluster.holder_of(1)
        await cluster.moved(0, target)
        answered |= await told(engine, packets, ["bob", "cat"])
        assert engine.topology.node_of(0).place == f"127.0.0.1:{target.port}"
        await assert_sound(engine, answered)


async def test_while_a_slot_is_moved_key_by_key_its_lane_is_refused_and_the_others_serve(
    cluster: Clustered, settings: Settings
) -> None:
    """As clusters before Valkey 9 and Redis 8.4 do it: ASK and TRYAGAIN until the last key is moved."""
    async with Engine.open(settings) as engine, persisting(settings):
        packets = await one_in_each_lane(engine)
        answered = await told(engine, packets, ["ann", "bob"])
        source, target, slot = await cluster.holder_of(0), await cluster.holder_of(1), keys.slot(0)
        there = target.ask("CLUSTER", "MYID")
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        move_keys(cluster, source, target, [keys.packet(packets[0])])
        assert (await answers(engine, packets, "cat"))[0] in ("unavailable", "server_refuses")
        answered |= await told(engine, {lane: packets[lane] for lane in packets if lane}, ["cat"])
        names = await cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1_000)
        assert isinstance(names, list)
        move_keys(cluster, source, target, [name.decode() for name in names])
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", there)
        answered |= await told(engine, packets, ["bob", "cat", "dan"])
        await assert_sound(engine, answered)


def move_keys(cluster: Clustered, source: RedisNode, target: RedisNode, names: list[str]) -> None:
    """As ``redis-cli --cluster reshard`` does."""
    for name in names:
        words = ("MIGRATE", "127.0.0.1", target.port, name, 0, 5_000, "REPLACE", "AUTH", cluster.password)
        assert source.ask(*words) == "OK"


async def test_the_doctor_examines_each_master_that_holds_lanes(cluster: Clustered, settings: Settings) -> None:
    one = changed(settings, lanes=6, ack=Ack.MEMORY)
    async with Engine.open(one), persisting(one):
        found = {line.name: line for line in await examine(one, is_embedded=False)}
        places = [f"127.0.0.1:{(await cluster.holder_of(lane)).port}" for lane in range(3)]
        assert found[f"redis {places[0]}"].found == f"{places[0]}, lanes 0, 3, 4"
        assert [found[f"redis scripts {place}"].level for place in places] == [Level.OK] * 3
        assert [found[f"redis replicas {place}"].found for place in places] == ["1 would take over"] * 3
        assert found[f"redis coverage {places[0]}"].level is Level.OK
        assert found[f"redis node timeout {places[0]}"].level is Level.OK
        assert found[f"redis cut off {places[0]}"].level is Level.WARNING
        assert [found[f"lane {lane}"].level for lane in range(6)] == [Level.OK] * 6
        lost, kept = await cluster.holder_of(0), await cluster.holder_of(1)
        kept.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes", "cluster-node-timeout", 20_000)
        for server in (lost, cluster.replicas[cluster.masters.index(lost)]):
            server.kill()
        found = {line.name: line for line in await examine(one, is_embedded=False)}
        assert found[f"redis {places[0]}"].level is Level.PROBLEM
        assert [found[f"lane {lane}"].level for lane in (0, 3, 4)] == [Level.PROBLEM] * 3
        assert found[f"redis coverage {places[1]}"].level is Level.PROBLEM
        assert found[f"redis node timeout {places[1]}"].level is Level.WARNING
        assert cluster.password not in repr(found)


async def test_a_process_starts_though_servers_of_the_setting_are_away(cluster: Clustered, settings: Settings) -> None:
    """It asks the others, and they name those that the setting does not."""
    cluster.replicas[0].kill()
    ports = (1, cluster.replicas[0].port, cluster.masters[2].port)
    some = f"redis+cluster://:{cluster.password}@" + ",".join(f"127.0.0.1:{port}" for port in ports)
    async with Engine.open(changed(settings, redis_url=some, ack=Ack.MEMORY)) as engine:
        packets = await one_in_each_lane(engine)
        assert set((await answers(engine, packets, "ann")).values()) == {"claimed"}


async def test_a_url_of_one_server_of_a_cluster_is_refused_with_what_to_write(
    cluster: Clustered, settings: Settings
) -> None:
    with pytest.raises(OperatorError, match=r"let HONGBAO_REDIS_URL name the cluster, as in redis\+cluster://"):
        async with Engine.open(changed(settings, redis_url=cluster.url_of(cluster.masters[0]))):
            pass
