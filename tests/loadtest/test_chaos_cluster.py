"""Chaos on a cluster: its schedule, what its faults may undo, how long lanes pause; and one short run of every kind."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ids import lane_of
from engine.settings import Settings
from loadtest import nodes
from loadtest.chaos import schedule
from loadtest.chaos.__main__ import main
from loadtest.chaos.books import Books, Packet, Share
from loadtest.chaos.checker import check
from loadtest.chaos.findings import Findings
from loadtest.chaos.history import Claim, Record, Send, Struck
from loadtest.chaos.host import routes
from loadtest.chaos.plan import CLUSTER_MODES, Plan
from loadtest.chaos.promise import FORGOTTEN_S_MAX, FSYNC_S_MAX, Promise
from loadtest.chaos.schedule import CLUSTER, CUTS, LINKS, PROCESSES, Kind
from loadtest.chaos.serving import OTHERS, pauses

IN_LANE_3, IN_LANE_4 = "1000300000000000001", "1000400000000000001"
KILL, STOP, PARTITION = Kind.KILL, Kind.STOP, Kind.PARTITION


@given(st.integers(), st.integers(0, 120), st.integers(1, 12))
def test_a_seed_gives_one_schedule_with_each_kind_as_often(seed: int, number: int, lanes: int) -> None:
    faults = schedule.make_for_cluster(seed, number, lanes)
    assert schedule.make_for_cluster(seed, number, lanes) == faults
    struck = [fault for fault in faults if schedule.lane_in(fault.target) is not None]
    assert len(struck) == number
    times = [sum(fault.kind is kind for fault in struck) for kind in CLUSTER]
    assert max(times) - min(times) <= 1
    assert {schedule.lane_in(fault.target) for fault in struck} <= {*range(lanes)}
    for fault in struck:
        assert bool(fault.lasts_s) == (fault.kind in (STOP, PARTITION))
        assert not 0 < fault.lasts_s < 1.5  # the node timeout is 1 s
    for fault in (fault for fault in faults if fault not in struck):
        assert fault.target in (PROCESSES if fault.kind is KILL else [link for link in LINKS if "postgres" in link])
        assert fault.kind in (KILL, *CUTS)


def test_what_is_no_lane_is_none() -> None:
    assert schedule.lane_in(schedule.lane_name(11)) == 11
    assert [schedule.lane_in(name) for name in (*PROCESSES, *LINKS)] == [None] * len(PROCESSES + LINKS)


def claim(at_s: float, outcome: str = "claimed", packet_id: str = IN_LANE_3, user_id: str = "ann") -> Claim:
    return Claim(
        asked_s=at_s, answered_s=at_s + 0.01, status=200, packet_id=packet_id, user_id=user_id, outcome=outcome
    )


def struck(kind: str, *, is_replaced: bool = True, lanes: tuple[int, ...] = (3, 5)) -> Struck:
    """At 10 s, 9.9 s for sure not before; a stop ended at 13 s; refused from 14 s on, whole at 20 s."""
    return Struck(
        kind=kind,
        target="lane 3 at redis-1",
        lanes=lanes,
        replicated_s=9.9,
        began_s=9.95,
        struck_s=10.0,
        resumed_s=13.0,
        refused_s=14.0,
        whole_s=20.0,
        is_replaced=is_replaced,
    )


@pytest.mark.parametrize(
    ("kind", "undone", "stand"),
    [
        (KILL, [9.9, 10.0], [9.8, 10.01, 13.5, 21.0]),
        (STOP, [9.9, 10.0, 12.995, 13.0, 14.0], [9.8, 10.01, 12.9, 14.01, 19.0]),
        (PARTITION, [9.9, 10.0, 12.0, 14.0], [9.8, 14.01, 19.0]),
        (Kind.FAILOVER, [], [9.8, 9.95, 10.0, 12.0, 13.0, 14.0, 19.0]),
        (Kind.MOVE, [], [9.8, 9.95, 10.0, 12.0, 13.0, 14.0, 19.0]),
        (Kind.SLOT, [], [9.8, 9.95, 10.0, 12.0, 13.0, 14.0, 19.0]),
    ],
)
def test_only_what_the_old_master_may_have_answered_may_be_undone_and_only_in_memory_mode(
    kind: Kind, undone: list[float], stand: list[float]
) -> None:
    fault = struck(kind)
    memory = Promise("memory", [fault])
    for at_s in undone:
        assert memory.undone_by(IN_LANE_3, claim(at_s)) == kind, at_s
        assert not memory.may_undo(IN_LANE_4, claim(at_s)), "another master's lane"
        for ack in set(CLUSTER_MODES) - {"memory"}:
            assert not Promise(ack, [fault]).may_undo(IN_LANE_3, claim(at_s))
    for at_s in stand:
        assert not memory.may_undo(IN_LANE_3, claim(at_s)), at_s


@pytest.mark.parametrize("ack", CLUSTER_MODES)
def test_until_all_know_the_new_master_a_process_may_repeat_and_end_what_the_old_one_said(ack: str) -> None:
    promise, known_s = Promise(ack, [struck(PARTITION)]), 20.0 + FORGOTTEN_S_MAX
    assert promise.may_undo(IN_LANE_3, claim(known_s, "already_claimed")) == (ack == "memory")
    assert not promise.may_undo(IN_LANE_3, claim(known_s + 0.01, "already_claimed"))
    assert promise.may_reopen(IN_LANE_3, claim(known_s, "sold_out"))
    assert not promise.may_reopen(IN_LANE_3, claim(known_s + 0.01, "sold_out"))
    assert not promise.may_reopen(IN_LANE_4, claim(12.0, "sold_out"))


@pytest.mark.parametrize("kind", CLUSTER)
def test_a_master_that_was_not_replaced_forgets_nothing_but_what_its_log_lacks(kind: Kind) -> None:
    promise = Promise("memory", [struck(kind, is_replaced=False)])
    assert promise.may_undo(IN_LANE_3, claim(10.0 - FSYNC_S_MAX)) == (kind is KILL)
    assert not promise.may_undo(IN_LANE_3, claim(9.9 - FSYNC_S_MAX))
    assert not promise.may_undo(IN_LANE_3, claim(12.0))


def test_a_master_without_lanes_undoes_nothing() -> None:
    assert not Promise("memory", [struck(KILL, lanes=())]).may_undo(IN_LANE_3, claim(10.0))


def judged(*records: Record, ack: str) -> Findings:
    """Of a packet of two shares in lane 3, of which the ledger has given bob one."""
    sent = Send(
        asked_s=1.0, answered_s=1.1, status=201, sender="sam", key="s", total_fen=30, count=2, packet_id=IN_LANE_3
    )
    books = Books(
        packets={IN_LANE_3: Packet(sender="sam", state="open", total_fen=30, count=2, custody_fen=10)},
        claims=[Share(IN_LANE_3, "bob", 0, 20)],
    )
    return check([sent, *records], books, ack)


@pytest.mark.parametrize("ack", CLUSTER_MODES)
def test_a_lost_claim_is_counted_under_its_fault_or_is_a_failure(ack: str) -> None:
    ann = Claim(
        asked_s=12.0,
        answered_s=12.1,
        status=200,
        packet_id=IN_LANE_3,
        user_id="ann",
        outcome="claimed",
        amount_fen=10,
    )
    bob = Claim(
        asked_s=15.0,
        answered_s=15.1,
        status=200,
        packet_id=IN_LANE_3,
        user_id="bob",
        outcome="claimed",
        amount_fen=20,
    )
    findings = judged(ann, bob, struck(PARTITION), ack=ack)
    if ack == "memory":
        assert findings.problems == []
        assert findings.lost_by == {PARTITION: 1}
    else:
        assert findings.lost == []
        assert ["ann was told 10 fen" in problem for problem in findings.problems] == [True]


def test_a_lanes_pause_is_its_longest_time_without_a_share_after_the_fault() -> None:
    assert (lane_of(IN_LANE_3), lane_of(IN_LANE_4)) == (3, 4)
    records: list[Record] = [
        *(claim(at_s, packet_id=IN_LANE_4) for at_s in (9.0, 10.0, 10.5, 11.0, 20.5)),
        *(claim(at_s) for at_s in (9.0, 9.94, 10.34, 13.14, 13.24, 20.54)),
        claim(11.0, "already_claimed"),  # a process may remember it
        struck(PARTITION),
    ]
    found = pauses(records)
    assert [round(pause_s, 2) for pause_s in found[PARTITION].pauses_s] == [7.30]
    assert [round(pause_s, 2) for pause_s in found[OTHERS].pauses_s] == [9.50]
    assert (found[PARTITION].faults, found[PARTITION].replaced) == (1, 1)
    assert found[PARTITION].line() == "median 7.30 s, at most 7.30 s"


def test_a_lane_that_gave_nothing_after_the_fault_paused_to_the_end() -> None:
    found = pauses([claim(9.0), struck(KILL)])
    assert [round(pause_s, 2) for pause_s in found[KILL].pauses_s] == [10.05]
    assert pauses([struck(KILL)])[KILL].line() == "none"


def test_a_plan_for_a_cluster_is_told_as_a_command() -> None:
    plan = Plan(seed=7, nodes=3, faults=12, ack="replica")
    assert plan.command() == "python -m loadtest.chaos --seed 7 --nodes 3 --faults 12 --ack replica"
    assert (plan.lanes, Plan().lanes) == (12, 2)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--ack", "replica"], "--ack replica is not played without --nodes"),
        (["--nodes", "3", "--ack", "fsync"], "--ack fsync is not played with --nodes"),
        (["--nodes", "2"], "must be from 3 to 9"),
        (["--nodes", "3", "--lose-redis"], "--lose-redis empties a single Redis"),
    ],
)
def test_what_a_cluster_does_not_play_is_refused(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_clusters_processes_reach_redis_directly_and_postgres_over_links(settings: Settings) -> None:
    routed = routes({"persist/postgres": 5})("persist", settings)
    assert routed.redis_url == settings.redis_url
    assert "127.0.0.1:5/" in str(routed.database_url)
    assert routes({"persist/postgres": 5, "persist/redis": 6})("persist", settings).redis_url == "redis://127.0.0.1:6"


def test_a_folder_without_a_cluster_has_no_nodes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no cluster"):
        nodes.Nodes(tmp_path, 12)


@pytest.mark.long
@pytest.mark.timeout(600)  # each of the six faults is waited for until all are well, however busy the machine is
def test_a_cluster_loses_nothing_whatever_befalls_it(
    capsys: pytest.CaptureFixture[str], quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quick_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    # How finely pauses are seen is the prober's pace, and no pause is judged here. Ten times a second its twelve claims
    # are twelve transactions, half of all CPU, and the more of them the longer a busy machine takes to be well again.
    monkeypatch.setattr("loadtest.chaos.probing.EACH_S", 0.4)
    exit_code = main(["--nodes", "3", "--seed", "2", "--faults", "6", "--ack", "replica"])
    printed = capsys.readouterr().out
    assert exit_code == 0, printed
    report = dict(line.partition(": ")[::2] for line in printed.splitlines())
    for kind in CLUSTER:
        assert re.match(r"1 times, .*, lost 0; a lane's longest time without a share: median \d", report[kind])
    for kind in (Kind.FAILOVER, Kind.MOVE, Kind.SLOT, KILL, PARTITION):
        assert "another node held the lane afterwards 1 times" in report[kind]
    assert int(report["acknowledged claims checked"].replace(",", "")) > 100
    assert report["lost, within the mode's promise"] == report["wrong"] == "0"
    assert re.fullmatch(r"(\d+) of \1 invariants hold", report["audit"])
    assert list(folder.iterdir()) == []
