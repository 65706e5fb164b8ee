"""Workload A for a second, by our server and by the textbook peer, with the books; and books that are wrong."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.peers import availability
from benchmarks.rig import books, runs, servers, stage, world, wrk
from benchmarks.rig.answers import WrongAnswerError, check
from benchmarks.rig.runs import Trial
from benchmarks.rig.servers import GO_GROUP, OURS, TEXTBOOK, Server
from benchmarks.rig.stage import Stage
from benchmarks.rig.variants import ON
from benchmarks.rig.walks import Walk, claim_lua
from benchmarks.rig.world import World
from engine.lanes import keys
from tests.support.needs import skip_for_want_of

pytestmark = [pytest.mark.programs("wrk", "redis-server"), pytest.mark.long]
PACKETS, SHARES = 200, 100
_GO = pytest.mark.programs("go")


@pytest.fixture(scope="module")
def prepared(quick_tempdir: None) -> Iterator[tuple[Stage, World]]:
    """A stage and a small world, for all tests of this module."""
    with stage.stage() as made:
        yield made, world.build(made, "smoke", packets=PACKETS, shares=SHARES)


@pytest.fixture
def on_stage(prepared: tuple[Stage, World]) -> Iterator[tuple[Stage, World]]:
    """Both, with Redis freshly on the world's snapshot, and stopped afterwards."""
    made, small = prepared
    made.redis.start(small.snapshot)
    yield made, small
    made.redis.stop()


@pytest.mark.parametrize("server", [OURS, TEXTBOOK, pytest.param(GO_GROUP, marks=_GO)], ids=lambda server: server.name)
def test_a_run_counts_its_claims_and_keeps_its_books(prepared: tuple[Stage, World], server: Server) -> None:
    _built(server)
    made, small = prepared
    walk = Walk(packets=small.packets, hands=SHARES)
    trial = Trial(workload="A", walk=walk, connections=4, duration_s=1, warm_up_share=0.1, all_win=False)
    done = runs.run(made, small, server, trial, 1)
    assert done["void"] is None
    assert 0 < done["claims"] <= done["answers"]
    assert done["claims"] <= PACKETS * SHARES * 0.9, "a walk that comes round again finds repeats, not shares"
    assert done["cpu_us_per_answer"]["server"] > 0
    assert done["cpu_us_per_answer"]["redis"] > 0


def _built(server: Server) -> None:
    """Build a peer that has to be built. Skip the test if the machine lacks what it needs."""
    if server is not OURS and (missing := availability.check(server.name).missing):
        skip_for_want_of(f"the peer {server.name}: {missing}", "python -m benchmarks.peers --install")


@pytest.mark.parametrize("server", [OURS, pytest.param(GO_GROUP, marks=_GO)], ids=lambda server: server.name)
def test_with_everything_on_the_ledger_has_the_claims_already(prepared: tuple[Stage, World], server: Server) -> None:
    _built(server)
    made, small = prepared
    walk = Walk(packets=small.packets, hands=SHARES, at_once=8)
    trial = Trial(
        workload="A",
        walk=walk,
        connections=4,
        duration_s=1,
        warm_up_share=0.1,
        all_win=False,
        appendfsync=ON.appendfsync,
        variant=ON,
    )
    done = runs.run(made, small, server, trial, 1)
    assert (done["workload"], done["void"]) == ("A, everything on", None)
    assert done["claims"] > 0
    assert done["cpu_us_per_answer"].keys() == {"server", "redis", "persist", "sweep", "postgres", "wrk", "other"}
    assert done["cpu_us_per_answer"]["persist"] > 0


@_GO
def test_claims_of_go_with_group_commit_are_in_the_ledger_and_its_books_are_wrong_without_an_event(
    prepared: tuple[Stage, World],
) -> None:
    _built(GO_GROUP)
    made, small = prepared
    walk = Walk(packets=small.packets, hands=SHARES)
    with runs.serving(made, small, GO_GROUP, audited=False) as (server, database), made.redis.client() as client:
        wrk.run(server.base_url, claim_lua(replace(walk, end=walk.length), made.token), connections=16, duration_s=1)
        held = runs.settled(client, small)
        assert held > 1_000
        assert books.ours(made, database) == []
        assert world.positions(client, small.lanes) == (PACKETS + 1 + 2 + held, PACKETS + 1 + 2 + held)
        client.hset(keys.claims(small.packets[-1]), "somebody", b"0:1:1")
        assert any(small.packets[-1] in problem for problem in books.ours(made, database))


def test_a_walk_that_runs_out_of_winners_is_void(prepared: tuple[Stage, World]) -> None:
    made, small = prepared
    walk = Walk(packets=small.packets[:2], hands=SHARES)
    done = runs.run(made, small, OURS, Trial(workload="A", walk=walk, connections=4, duration_s=1), 1)
    assert "not every claim won" in done["void"]


def test_a_world_is_open_and_in_the_ledger(on_stage: tuple[Stage, World]) -> None:
    made, small = on_stage
    with made.redis.client() as client:
        emitted, applied = world.positions(client, small.lanes)
        assert emitted == applied == PACKETS + 1
        assert client.llen(keys.shares(small.packets[0])) == SHARES
        assert world.claims_held(client, small.packets) == 0


def test_books_of_a_peer_are_clean_before_anything_happened(on_stage: tuple[Stage, World]) -> None:
    made, small = on_stage
    assert books.peers(made, small) == []


def test_a_lost_share_an_invented_one_and_a_missing_event_are_found(on_stage: tuple[Stage, World]) -> None:
    made, small = on_stage
    lost, invented, untold, told = small.packets[:4]
    with made.redis.client() as client:
        client.lpop(keys.shares(lost))
        client.rpush(keys.shares(invented), "0:1")
        share = client.lpop(keys.shares(untold))
        assert isinstance(share, bytes)
        client.hset(keys.claims(untold), "somebody", share + b":1")
        client.xadd(keys.events(int(told[2:5])), {"packet": told, "user": "nobody", "share": "0:1"})
    assert books.peers(made, small) == [
        f"packet {lost}: given and left are not its shares",
        f"packet {invented}: given and left are not its shares",
        f"packet {untold}: somebody has a share and not one event",
        "1 events are about shares nobody has",
    ]


def test_a_server_that_answers_wrong_is_not_measured(on_stage: tuple[Stage, World]) -> None:
    made, small = on_stage
    with servers.started(made, TEXTBOOK, "") as running:
        with pytest.raises(WrongAnswerError, match="404"):
            check(running, "1000099999999999999", made.token)
        check(running, small.probe, made.token)
        with pytest.raises(WrongAnswerError, match="already_claimed"):
            check(running, small.probe, made.token)


def test_append_only_settings_are_those_asked_for(prepared: tuple[Stage, World]) -> None:
    made, small = prepared
    made.redis.start(small.snapshot, appendfsync="always")
    try:
        assert made.redis.info("persistence")["aof_enabled"] == 1
        with made.redis.client() as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}
            assert client.llen(keys.shares(small.packets[0])) == SHARES
    finally:
        made.redis.stop()
