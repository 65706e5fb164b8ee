"""Points of the live storm: what two readings of counters make of each other, quantiles, and the ring they lie in."""

import math

import pytest

from api.console.live.counted import Counted, grown, places_of
from api.console.live.points import BOUNDS_S, ELAPSED, Point, gap, quantiles, together
from api.console.live.ring import LATE_MS, LONG_STEP_MS, POINTS_MAX, Ring
from api.console.live.scraping import counted_in

START_MS = 1_700_000_000_000


def counted(claimed: float, *, fast: float = 0) -> Counted:
    made = Counted({"claims.claimed": claimed})
    made.buckets[0] = fast
    return made


def point(second: int, claimed: int = 1) -> Point:
    return Point(at_ms=START_MS + second * 1_000, elapsed_ms=1_000, counts={"claims.claimed": claimed})


def test_only_what_has_grown_is_counted() -> None:
    counts, buckets = grown(counted(5, fast=5), counted(8, fast=7))
    assert counts == {"claims.claimed": 3}
    assert buckets == (2, *[0] * (len(BOUNDS_S) - 1))
    assert grown(counted(5), counted(5)) == ({}, ())


def test_a_counter_that_went_back_has_begun_anew() -> None:
    assert grown(counted(500), counted(7))[0] == {"claims.claimed": 7}


def test_a_sample_is_counted_once_under_its_own_name() -> None:
    assert places_of("hongbao_claims_total", {"outcome": "empty"}) == ("claims.empty",)
    assert places_of("hongbao_http_requests_total", {"status": "503"}) == ("requests", "status.503")
    assert places_of("hongbao_http_requests_total", {"status": "200"}) == ("requests", None)
    claim = {"method": "POST", "route": "/v1/packets/{packet_id}/claims", "le": "0.005"}
    assert places_of("hongbao_http_request_seconds_bucket", claim) == (BOUNDS_S.index(0.005),)
    assert places_of("hongbao_http_request_seconds_bucket", claim | {"method": "GET"}) == ()
    assert places_of("hongbao_backlog", {"lane": "0"}) == ()


def test_quantiles_are_those_of_prometheus() -> None:
    """As ``histogram_quantile``: even within a bucket; what lies beyond the last bound counts as the bound."""
    buckets = [0] * len(BOUNDS_S)
    buckets[BOUNDS_S.index(0.001)] = 50  # from 0.5 to 1 ms
    buckets[BOUNDS_S.index(0.01)] = 50  # from 5 to 10 ms
    found = quantiles(buckets)
    assert found["p50_ms"] == pytest.approx(1.0)
    assert found["p95_ms"] == pytest.approx(5 + 5 * 45 / 50)
    assert found["p99_ms"] == pytest.approx(5 + 5 * 49 / 50)
    buckets[-1] = 1_000
    assert quantiles(buckets)["p99_ms"] == BOUNDS_S[-2] * 1_000
    assert quantiles(()) == {"p50_ms": None, "p95_ms": None, "p99_ms": None}


def test_a_scrapes_cumulative_buckets_come_apart() -> None:
    text = """
# HELP hongbao_http_request_seconds x
# TYPE hongbao_http_request_seconds histogram
hongbao_http_request_seconds_bucket{le="0.0005",method="POST",route="/v1/packets/{packet_id}/claims"} 4.0
hongbao_http_request_seconds_bucket{le="0.001",method="POST",route="/v1/packets/{packet_id}/claims"} 7.0
hongbao_http_request_seconds_bucket{le="0.002",method="POST",route="/v1/packets/{packet_id}/claims"} 7.0
hongbao_http_request_seconds_bucket{le="0.0005",method="GET",route="/v1/packets/{packet_id}/claims"} 9.0
# TYPE hongbao_claims_total counter
hongbao_claims_total{outcome="claimed"} 11.0
hongbao_claims_total{outcome="empty"} 2.0
# TYPE hongbao_claim_batch_size histogram
hongbao_claim_batch_size_bucket{le="1.0"} 3.0
hongbao_claim_batch_size_count 5.0
hongbao_claim_batch_size_sum 13.0
# TYPE hongbao_backlog gauge
hongbao_backlog{lane="0"} 3.0
"""
    found = counted_in(text)
    assert found.buckets[:2] == [4, 3]
    assert found.counts == {"claims.claimed": 11, "claims.empty": 2, "batch.calls": 5, "batch.claims": 13}


def test_many_points_are_one_and_nothing_is_lost() -> None:
    ten = [point(second, second) for second in range(10)]
    ten[3] = gap(ten[3].at_ms)
    ten[4] = Point(at_ms=ten[4].at_ms, elapsed_ms=2_000, counts={"claims.claimed": 7}, gauges={"lag.seconds": 4.0})
    whole = together(ten)
    assert whole.counts == {"claims.claimed": sum(range(10)) - 3 - 4 + 7}
    assert whole.elapsed_ms == 10_000
    assert whole.gauges == {"lag.seconds": 4.0}
    assert together([gap(1), gap(2)]) == gap(2)


def test_a_window_has_columns_and_a_gap_is_none_in_each() -> None:
    ring = Ring()
    ring.add(point(0))
    ring.add(gap(START_MS + 1_000))
    ring.add(Point(at_ms=START_MS + 2_000, elapsed_ms=2_000, counts={"claims.empty": 5}, gauges={"lag.seconds": 1.0}))
    window = ring.window(60)
    assert window.at_ms == [START_MS, START_MS + 1_000, START_MS + 2_000]
    assert window.series[ELAPSED] == [1_000, None, 2_000]
    assert window.series["claims.claimed"] == [1, None, 0]
    assert window.series["claims.empty"] == [0, None, 5]
    assert window.series["lag.seconds"] == [None, None, 1.0]
    assert window.series["p99_ms"] == [None, None, None]


def test_only_what_is_new_is_returned() -> None:
    ring = Ring()
    for second in range(30):
        ring.add(point(second))
    assert len(ring.window(900).at_ms) == 30
    assert ring.window(900, after_ms=ring.newest_ms).at_ms == []
    assert ring.window(900, after_ms=START_MS + 27_000).at_ms == [START_MS + 28_000, START_MS + 29_000]
    assert len(ring.window(10).at_ms) == 10
    assert ring.window(10, after_ms=5).at_ms[0] == START_MS + 20_000


def test_who_comes_late_leaves_a_gap() -> None:
    ring = Ring()
    ring.add(point(0))
    late_ms = START_MS + LATE_MS + 1
    ring.add(Point(at_ms=late_ms, elapsed_ms=LATE_MS + 1))
    assert ring.window(60).at_ms == [START_MS, START_MS + 1_000, late_ms]
    assert ring.window(60).series[ELAPSED] == [1_000, None, LATE_MS + 1]


def test_the_ring_is_bounded_and_the_long_one_loses_no_claim() -> None:
    ring = Ring()
    seconds = POINTS_MAX + 600
    for second in range(seconds):
        ring.add(point(second, 3))
    assert len(ring.window(900).at_ms) == POINTS_MAX
    day = ring.window(86_400)
    assert day.step_ms == LONG_STEP_MS
    assert sum(value or 0 for value in day.series["claims.claimed"]) == 3 * (seconds // 10 * 10 - 10)
    assert len(day.at_ms) == math.ceil(seconds / 10) - 1  # the last step is not over
