"""Metrics: counted alone and by several processes, and what a front's scrape shows."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.meter import Meter
from engine.observability import metrics, metrics_directory
from engine.observability.metrics import CountedHistogram
from engine.settings import Settings
from tests.support.front import Client, open_front
from tests.support.metric_names import labels_by_sample
from tests.support.repository import ROOT

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


def samples_of(text: bytes) -> Samples:
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def scrape(client: Client) -> Samples:
    answer = await client.http.get("/metrics")
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    return samples_of(answer.content)


def test_counted_observations_are_the_same_as_single_ones() -> None:
    registry = CollectorRegistry()
    single = Histogram("single", "One by one.", ["route"], buckets=(1, 2, 5), registry=registry)
    counted = CountedHistogram("counted", "All at once.", ["route"], buckets=(1, 2, 5), registry=registry)
    for seconds in (0.5, 1, 1.5, 5, 6, 7):
        single.labels("r").observe(seconds)
    assert list(counted.bounds) == [1, 2, 5, float("inf")]
    counted.labels("r").observe_counted([2, 1, 1, 2], 21.0)
    samples = samples_of(generate_latest(registry))
    for suffix in ("_sum", "_count"):
        assert value(samples, f"counted{suffix}", route="r") == value(samples, f"single{suffix}", route="r") > 0
    for bound in ("1.0", "2.0", "5.0", "+Inf"):
        buckets = [value(samples, f"{name}_bucket", route="r", le=bound) for name in ("counted", "single")]
        assert buckets[0] == buckets[1] > 0


def test_the_meter_sorts_requests_and_hands_each_over_once() -> None:
    meter = Meter()
    route = "/test-of-the-meter"
    for seconds in (0.0004, 0.0005, 0.003, 99.0):
        meter.of("GET", route).note(200, seconds)
    meter.of("GET", route).note(404, 0.003)
    meter.flush()
    meter.flush()
    samples = samples_of(metrics.render())
    assert value(samples, "hongbao_http_requests_total", method="GET", route=route, status="200") == 4
    assert value(samples, "hongbao_http_requests_total", method="GET", route=route, status="404") == 1
    assert value(samples, "hongbao_http_request_seconds_bucket", method="GET", route=route, le="0.0005") == 2
    assert value(samples, "hongbao_http_request_seconds_bucket", method="GET", route=route, le="0.005") == 4
    assert value(samples, "hongbao_http_request_seconds_count", method="GET", route=route) == 5
    assert value(samples, "hongbao_http_request_seconds_sum", method="GET", route=route) == pytest.approx(99.0069)


def test_requests_answered_at_once_are_counted_with_the_others() -> None:
    meter = Meter()
    routes = {
        route: meter.of("POST", route) for route in ("/test-of-at-once", "/test-of-only-at-once", "/test-of-none")
    }
    routes["/test-of-at-once"].note(200, 0.003)
    routes["/test-of-at-once"].note(404, 0.003)
    for _ in range(2):  # handed over each time, and once
        for route in ("/test-of-at-once", "/test-of-only-at-once"):
            routes[route].at_once += 3
        meter.flush()
        meter.flush()
    assert meter.of("POST", "/test-of-at-once") is routes["/test-of-at-once"]
    samples = samples_of(metrics.render())

    def counted(name: str, route: str, **labels: str) -> float:
        return value(samples, f"hongbao_http_{name}", method="POST", route=route, **labels)

    for route, noted in (("/test-of-at-once", 1), ("/test-of-only-at-once", 0)):
        assert counted("requests_total", route, status="200") == 6 + noted
        assert counted("requests_total", route, status="404") == noted
        assert counted("request_seconds_bucket", route, le="0.0005") == 6
        assert counted("request_seconds_bucket", route, le="0.005") == 6 + 2 * noted
        assert counted("request_seconds_count", route) == 6 + 2 * noted
        assert counted("request_seconds_sum", route) == pytest.approx(0.006 * noted)
    assert b"/test-of-none" not in metrics.render()


@pytest.mark.long
async def test_a_scrape_shows_claims_and_requests(client: Client) -> None:
    before = await scrape(client)
    packet_id = await client.send("alice", total_fen=10, count=1)
    for user in ("bob", "bob", "carol"):
        await client.claim(packet_id, user)
    await client.http.get("/no/such/path")
    await client.http.post("/livez")
    after = await scrape(client)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("hongbao_claims_total", outcome="claimed") == 1
    assert grown("hongbao_claims_total", outcome="already") == 1
    assert grown("hongbao_claims_total", outcome="empty") == 1
    claims = "/v1/packets/{packet_id}/claims"
    assert grown("hongbao_http_requests_total", method="POST", route=claims, status="200") == 3
    assert grown("hongbao_http_request_seconds_count", method="POST", route=claims) == 3
    assert grown("hongbao_http_requests_total", method="other", route="unmatched", status="404") == 1
    assert grown("hongbao_http_requests_total", method="other", route="/livez", status="405") == 1
    assert grown("hongbao_claim_batch_size_count") >= 1
    assert grown("hongbao_script_seconds_count", script="claim") >= 1


def test_the_table_in_the_documents_has_every_metric_and_its_labels() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    told = {
        name.strip(" `"): frozenset(label.strip() for label in labels.split(",") if label.strip() != "–")
        for names, labels in re.findall(r"^\| (`hongbao_[^|]+) \| ([^|]+) \|", text, re.MULTILINE)
        for name in names.split(",")
    }
    known = {
        name.removesuffix("_bucket"): labels - {"le"}
        for name, labels in labels_by_sample().items()
        if not name.endswith(("_sum", "_count"))
    }
    assert told.keys() == known.keys()
    assert {name for name in told if told[name] != known[name] and not name.endswith("_timestamp_seconds")} == set()


async def test_what_can_be_counted_shows_zeros_before_it_is(client: Client) -> None:
    """Prometheus sees no increase in a series that begins with 1."""
    samples = await scrape(client)
    for name, label, values in (
        ("hongbao_claims_total", "outcome", ("claimed", "busy")),
        ("hongbao_grabs_total", "outcome", ("claimed", "refused")),
        ("hongbao_unconfirmed_total", "ack", ("fsync", "replica", "ledger")),
        ("hongbao_refusals_total", "reason", ("rate_user", "connections")),
    ):
        for word in values:
            assert (name, frozenset({(label, word)})) in samples


def run(directory: Path, statements: Sequence[str]) -> bytes:
    """What a process of its own prints that shares its metrics through ``directory``."""
    program = "\n".join(("import sys", "from engine.observability import metrics", *statements))
    environment = metrics_directory.environment(directory)
    return subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True).stdout


def test_one_scrape_shows_all_processes(tmp_path: Path) -> None:
    directory = metrics_directory.directory(Settings.model_validate({"data_dir": tmp_path}))
    metrics_directory.prepare(directory)
    show = "sys.stdout.buffer.write(metrics.render())"
    claimed = "metrics.CLAIMS.labels('claimed').inc({})"
    lag = "metrics.PERSISTER_LAG_EVENTS.labels('0').set({})"
    histogram = "metrics.HTTP_SECONDS.labels('GET', '/x').observe_counted([1] + [0] * 13, 0.1)"
    run(directory, [claimed.format(2), lag.format(9), histogram])
    samples = samples_of(run(directory, [claimed.format(3), lag.format(4), histogram, show]))
    assert value(samples, "hongbao_claims_total", outcome="claimed") == 5
    assert value(samples, "hongbao_persister_lag_events", lane="0") == 4
    assert value(samples, "hongbao_http_request_seconds_count", method="GET", route="/x") == 2
    assert value(samples, "hongbao_http_request_seconds_sum", method="GET", route="/x") == pytest.approx(0.2)

    metrics_directory.prepare(directory)
    assert value(samples_of(run(directory, [show])), "hongbao_claims_total", outcome="claimed") == 0


def test_the_empty_file_of_a_process_that_was_killed_as_it_started_spoils_no_scrape(tmp_path: Path) -> None:
    claimed, show = "metrics.CLAIMS.labels('claimed').inc(2)", "sys.stdout.buffer.write(metrics.render())"
    run(tmp_path, [claimed])
    for kind in ("counter", "gauge_mostrecent", "histogram"):
        (tmp_path / f"{kind}_{2**22 + 1}.db").touch()  # no process has this id
    assert value(samples_of(run(tmp_path, [show])), "hongbao_claims_total", outcome="claimed") == 2
