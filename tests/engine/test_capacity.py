"""The capacity model: its costs are those of the newest committed reports, its connections those of the topology."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.selection import Selection, cpu_us
from benchmarks.report.size_tables import per_unit
from engine.capacity import Demand, connections_per_master, plan
from engine.costs import COSTS, PACKETS, packet_bytes
from engine.lanes.topology import Node, serving
from engine.settings import Settings
from tests.support.repository import ROOT

REPORTS = sorted((ROOT / "benchmarks" / "results").glob("*/results.json"))


def newest(workload: str) -> list[dict[str, Any]]:
    """The runs of the newest report that has this workload by our server."""
    for path in reversed(REPORTS):
        runs: list[dict[str, Any]] = read(path)["runs"]
        if list(Selection(runs, workload)):
            return runs
    raise AssertionError(f"no committed report has {workload}")


def newest_other(name: str) -> dict[str, Any]:
    return next(dict(found) for path in reversed(REPORTS) if (found := read(path)["others"].get(name)))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def median_us(workload: str, *names: str, connections: int = 256) -> float:
    """As the report prints it."""
    found = Selection(newest(workload), workload, connections=connections).figure(cpu_us(*names))
    assert found is not None
    return round(found.median, 1)


def test_cpu_costs_are_those_of_the_newest_report() -> None:
    measured = {
        "api_us": median_us("E", "server"),
        "redis_us": median_us("E", "redis"),
        "persister_us": median_us("E", "persist"),
        "postgres_us": median_us("E", "postgres"),
        "scattered_api_us": median_us("A scattered", "server"),
        "scattered_redis_us": round(
            median_us("A scattered", "redis") + median_us("E", "redis") - median_us("A", "redis"), 1
        ),
        "loser_api_us": median_us("B", "server"),
        "loser_redis_us": median_us("B", "redis"),
    }
    assert {name: value for name, value in asdict(COSTS).items() if name.endswith("_us")} == measured


def test_what_more_lanes_cost_is_that_of_the_newest_report() -> None:
    ratios = {
        name: round(median_us("16 lanes", process) / median_us("1 lanes", process), 1)
        for name, process in (("lanes_api_ratio", "server"), ("lanes_redis_ratio", "redis"))
    }
    assert {name: asdict(COSTS)[name] for name in ratios} == ratios


def test_the_ledgers_rate_is_that_of_the_newest_whole_report() -> None:
    """Not of the separate run of the same day, which was faster."""
    runs = newest("E")
    persisted = Selection(runs, "F").figure("durable_per_s")
    assert persisted is not None
    assert round(persisted.median) == COSTS.ledger_claims_per_second


def test_memory_at_rest_is_that_of_the_newest_report() -> None:
    at_rest = newest_other("memory")["at_rest"]
    assert at_rest["hongbao"]["rss_bytes"] == COSTS.api_rest_bytes
    assert at_rest["persist"]["rss_bytes"] == COSTS.persister_rest_bytes


def test_bytes_of_a_claim_are_those_of_the_newest_report() -> None:
    sizes = newest_other("sizes")
    requests = sizes["requests"]
    hundreds = per_unit(sizes["packets"][1])
    new, known = "a new user's claim and wallet", "a known user's claim"
    measured = {
        "request_bytes": requests["request_bytes"],
        "answer_bytes": requests["answer_bytes"],
        "to_redis_bytes": round(requests["redis_received_bytes"], 1),
        "from_redis_bytes": round(requests["redis_sent_bytes"] - requests["redis_to_replica_bytes"], 1),
        "wallet_bytes": round(hundreds[f"ledger: everything, {new}"] - hundreds[f"ledger: everything, {known}"]),
        "wallet_log_bytes": round(hundreds[f"WAL: {new}"] - hundreds[f"WAL: {known}"]),
    }
    assert {name: asdict(COSTS)[name] for name in measured} == measured


@pytest.mark.parametrize("place", range(3))
def test_bytes_of_a_packet_are_those_of_the_newest_report(place: int) -> None:
    of = newest_other("sizes")["packets"][place]
    unit, shares = per_unit(of), of["shares"]
    measured = {
        "shares": shares,
        "open": unit["Redis: an open packet"],
        "settled": unit["Redis: a packet whose claims are all in the ledger"],
        "stream": shares * unit["Redis: a claim in the stream, until the ledger has it"],
        "append_only_file": unit["append-only file: a packet"] + shares * unit["append-only file: a claim"],
        "replica": unit["Redis to a replica: a packet"] + shares * unit["Redis to a replica: a claim"],
        "persister_redis": shares * (unit["persister to Redis: a claim"] + unit["Redis to persister: a claim"]),
        "persister_postgres": shares
        * (unit["persister to Postgres: a claim"] + unit["Postgres to persister: a claim"]),
        "ledger": unit["ledger: a packet"] + shares * unit["ledger: everything, a known user's claim"],
        "ledger_log": unit["WAL: a packet"] + shares * unit["WAL: a known user's claim"],
    }
    assert asdict(PACKETS[place]) == {name: round(value) for name, value in measured.items()}


def possible(node: Node) -> int:
    """How many connections a node's clients may open together."""
    kept = [pool for pool in (node.claiming, node.changing) if pool is not None]
    pools = [client.connection_pool.max_connections for client in (node.client, node.streams)]
    return int(sum(pools) + sum(pool._turns._value for pool in kept))


@pytest.mark.parametrize("lanes", [1, 4])
async def test_connections_are_those_that_a_process_may_open(lanes: int) -> None:
    url = f"0-{lanes - 1}=redis://127.0.0.1:1 {lanes}-9=redis://127.0.0.1:2"
    calls_max = Settings.model_fields["calls_in_flight_max"].default
    topology = serving(url, lanes=10, calls_per_lane_max=calls_max, timeout_s=1.0)
    assert connections_per_master(lanes) == possible(topology.node_of(0))
    await topology.aclose()


async def test_in_a_cluster_each_lane_has_its_own() -> None:
    topology = serving("redis+cluster://127.0.0.1:1", lanes=3, calls_per_lane_max=2, timeout_s=1.0)
    assert len(topology.nodes) == 3
    assert all(possible(node) == connections_per_master(1) for node in topology.nodes)
    await topology.aclose()


def test_a_measured_size_is_taken_as_it_is_and_others_lie_between() -> None:
    assert [packet_bytes(packet.shares) for packet in PACKETS] == list(PACKETS)
    assert packet_bytes(55).open == round((PACKETS[0].open + PACKETS[1].open) / 2)
    million = packet_bytes(1_000_000)
    assert 80 < million.settled / 1_000_000 < 120
    assert min(asdict(packet_bytes(1)).values()) > 0


DEMANDS = st.builds(
    Demand,
    claims_per_second=st.integers(1, 10**6),
    packet_count=st.integers(1, 10**8),
    shares_per_packet=st.integers(1, 10**6),
    hands_per_share=st.floats(1, 100),
    utilization=st.floats(0.3, 1),
    replicas=st.integers(0, 3),
    scattered=st.booleans(),
)


@given(DEMANDS)
def test_no_part_is_planned_beyond_what_it_carries(demand: Demand) -> None:
    found = plan(demand)
    redis_us = COSTS.scattered_redis_us if demand.scattered else COSTS.redis_us
    assert found.parts.redis_masters * demand.utilization * 1e6 >= demand.claims_per_second * redis_us * 0.999
    assert found.parts.lanes % found.parts.redis_masters == 0
    assert found.parts.lanes <= 1_000
    busiest = math.ceil(found.parts.lanes / found.parts.persister_processes) / found.parts.lanes
    busy = demand.claims_per_second * COSTS.persister_us * busiest / 1e6
    assert busy <= demand.utilization * 1.001 or found.parts.persister_processes == found.parts.lanes
    assert found.memory.redis_per_server * found.parts.redis_masters >= found.memory.redis > 0
    assert found.connections.redis == found.connections.per_redis_master * found.parts.redis_masters


@given(DEMANDS, st.integers(1, 10**7))
def test_a_backlog_is_full_only_if_the_ledger_is_slower(demand: Demand, ledger: int) -> None:
    found = plan(replace(demand, ledger_claims_per_second=ledger))
    if demand.claims_per_second <= ledger:
        assert (found.backlog.full_after_s, found.backlog.at_the_end) == (None, 0)
    if found.backlog.full_after_s is not None:
        assert found.backlog.full_after_s < found.load.peak_s
    assert found.backlog_max * found.parts.lanes >= found.backlog.at_the_end


def test_losers_cost_the_api_and_hardly_redis() -> None:
    alone = plan(Demand(claims_per_second=10_000, packet_count=1_000))
    crowd = plan(Demand(claims_per_second=10_000, packet_count=1_000, hands_per_share=26))
    assert crowd.load.losers_per_second == 250_000
    assert crowd.parts.api_processes > 4 * alone.parts.api_processes
    assert crowd.parts.redis_masters == alone.parts.redis_masters == 1
    assert crowd.disk == alone.disk


def test_a_bound_names_its_option() -> None:
    with pytest.raises(ValueError, match="--shares-per-packet must be from 1 to 10,000,000, not 0"):
        Demand(claims_per_second=1, packet_count=1, shares_per_packet=0)
    with pytest.raises(ValueError, match="--claims-per-second 1,000,000,000 needs 5,000 Redis masters"):
        plan(Demand(claims_per_second=10**9, packet_count=1))
