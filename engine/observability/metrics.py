"""Every metric, declared once. Labels are few and bounded: outcomes, lanes, routes, statuses; never a user or a packet.

By default a process shows its own values. If ``metrics_directory.environment`` is in its environment before this module
is imported, processes share values through files. Then any process's scrape shows the sum over all of them (gauges: the
latest value).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values, write_to_textfile
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class CountedHistogram(Histogram):
    """A histogram that accepts many observations at once, already sorted into its buckets."""

    @property
    def bounds(self) -> Sequence[float]:
        """The buckets' upper bounds. The last one is infinite."""
        return self._upper_bounds

    def observe_counted(self, counts: Sequence[int], total: float) -> None:
        """Add ``counts[i]`` observations to bucket ``i``. ``total`` is the sum of their values."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


# Claiming: set by the batcher, once per call.
CLAIMS = Counter("hongbao_claims", "Claims answered, by outcome.", ["outcome"])
CLAIM_BATCH_SIZE = Histogram("hongbao_claim_batch_size", "Claims in one call of the claim script.", buckets=_SIZES)
GRABS = Counter(
    "hongbao_grabs", "Grabs in campaigns answered, by outcome; refused: answered with an error.", ["outcome"]
)
SCRIPT_SECONDS = Histogram(
    "hongbao_script_seconds", "Round trip of one Redis script call, in seconds.", ["script"], buckets=_SECONDS
)

# Acknowledging: set by the batcher, once per call and mode; nothing in memory mode.
ACK_SECONDS = Histogram(
    "hongbao_ack_seconds",
    "How long acknowledgements waited after Redis had decided, in seconds, by ack mode.",
    ["ack"],
    buckets=_SECONDS,
)
UNCONFIRMED = Counter("hongbao_unconfirmed", "Claims that stand but were not confirmed in time, by ack mode.", ["ack"])

# Persisting: set by the persister, once per transaction.
PERSISTER_LAG_EVENTS = Gauge(
    "hongbao_persister_lag_events", "Events the ledger has not applied.", ["lane"], multiprocess_mode="mostrecent"
)
PERSISTER_LAG_SECONDS = Gauge(
    "hongbao_persister_lag_seconds",
    "Age of the oldest event the ledger has not applied; 0 if there is none, NaN if it cannot be read.",
    ["lane"],
    multiprocess_mode="mostrecent",
)
BACKLOG = Gauge("hongbao_backlog", "Changes in the lane's event stream.", ["lane"], multiprocess_mode="mostrecent")
PERSISTED_EVENTS = Counter("hongbao_persisted_events", "Events applied to the ledger.", ["lane"])
LANE_FENCED = Gauge(
    "hongbao_lane_fenced",
    "1 while a lane is paused: its Redis does not answer, has lost it, holds it in another state than the ledger, "
    "or was restarted.",
    ["lane"],
    multiprocess_mode="mostrecent",
)
LANE_BAD_ENTRY = Gauge(
    "hongbao_lane_bad_entry",
    "The position of the bad entry in the lane's stream that stops it; 0 if there is none.",
    ["lane"],
    multiprocess_mode="mostrecent",
)
QUARANTINE_OPEN = Gauge(
    "hongbao_quarantine_open",
    "Rows in quarantine that are neither retried nor written off.",
    ["lane"],
    multiprocess_mode="mostrecent",
)
QUARANTINED = Counter("hongbao_quarantined", "Rows set aside because they break a rule of the ledger.", ["lane"])
RECOVERIES = Counter("hongbao_recoveries", "Times a lane was rebuilt from the ledger.", ["lane"])

# Waiting for a person, a bank or the sweeper: set at each scrape of an API process (engine/waiting.py).
DISPUTES_OPEN = Gauge("hongbao_disputes_open", "Disputes that nobody has decided.", multiprocess_mode="mostrecent")
DISPUTES_OVERDUE = Gauge(
    "hongbao_disputes_overdue", "Those of them whose deadline has passed.", multiprocess_mode="mostrecent"
)
REFUNDS_WAITING = Gauge(
    "hongbao_refunds_waiting",
    "Packets that have ended, but whose custody the ledger has not emptied.",
    multiprocess_mode="mostrecent",
)
REFUNDS_WAITING_SECONDS = Gauge(
    "hongbao_refunds_waiting_seconds",
    "For how long the oldest of them has waited; 0 if there is none.",
    multiprocess_mode="mostrecent",
)
WITHDRAWALS_PROCESSING = Gauge(
    "hongbao_withdrawals_processing", "Withdrawals that the provider has not settled.", multiprocess_mode="mostrecent"
)
WITHDRAWALS_PROCESSING_SECONDS = Gauge(
    "hongbao_withdrawals_processing_seconds",
    "For how long the oldest of them has waited; 0 if there is none.",
    multiprocess_mode="mostrecent",
)

APPROVALS_WAITING = Gauge(
    "hongbao_approvals_waiting", "Actions that wait for a second operator.", multiprocess_mode="mostrecent"
)
AUDIT_RUN_PROBLEMS = Gauge(
    "hongbao_audit_run_problems", "Problems that the newest kept audit found.", multiprocess_mode="mostrecent"
)
AUDIT_RUN_ENDED = Gauge(
    "hongbao_audit_run_timestamp_seconds", "When it ended; 0 if none is kept.", multiprocess_mode="mostrecent"
)
RECONCILIATION_RUN_DIFFERENCES = Gauge(
    "hongbao_reconciliation_run_differences",
    "Differences that the newest kept reconciliation of a closed day found.",
    multiprocess_mode="mostrecent",
)
RECONCILIATION_RUN_ENDED = Gauge(
    "hongbao_reconciliation_run_timestamp_seconds",
    "When it ended; 0 if none is kept.",
    multiprocess_mode="mostrecent",
)

# Processes.
LOOP_ERRORS = Counter("hongbao_loop_errors", "Errors after which a background loop went on.", ["loop"])
SERVER_FAILURES = Counter(
    "hongbao_server_failures",
    "Failures of Redis or Postgres, by the error code of its answer, or silent.",
    ["server", "code"],
)
WEBHOOK_TRIES = Counter(
    "hongbao_webhook_tries", "Tries to deliver an alert: delivered, failed, or given_up (the last one).", ["outcome"]
)
PROCESS_STARTS = Counter("hongbao_process_starts", "Times a process of this name has started.", ["process"])

# TLS: set by the API when it reads its certificate.
TLS_CERTIFICATE_ENDS = Gauge(
    "hongbao_tls_certificate_ends_timestamp_seconds",
    "When the API's certificate expires; 0 if TLS is off.",
    multiprocess_mode="mostrecent",
)

# HTTP: set by the API, a few times per second.
HTTP_REQUESTS = Counter("hongbao_http_requests", "HTTP requests answered.", ["method", "route", "status"])
HTTP_SECONDS = CountedHistogram(
    "hongbao_http_request_seconds",
    "From a request's headers to its answer, in seconds.",
    ["method", "route"],
    buckets=_SECONDS,
)

REFUSALS = Counter("hongbao_refusals", "Requests and connections refused at a bound, by which bound.", ["reason"])


def show(counter: Counter | Histogram, *values: str) -> None:
    """Show zeros for these values of its label before anything is counted.

    Prometheus sees no increase in a series that begins with 1, so the first event would raise no alert.
    """
    for value in values:
        counter.labels(value)


def write_audit(path: Path, problems: Mapping[str, int], finished_at_s: float) -> None:
    """Write an audit's result (invariant -> number of problems) for the node exporter's textfile collector, atomically.

    Raises OSError.
    """
    registry = CollectorRegistry()
    found = Gauge("hongbao_audit_problems", "Problems per invariant of the books.", ["invariant"], registry=registry)
    for invariant, number in problems.items():
        found.labels(invariant).set(number)
    finished = Gauge("hongbao_audit_finished_timestamp_seconds", "When the last audit ended.", registry=registry)
    finished.set(finished_at_s)
    write_to_textfile(str(path), registry)


def write_reconciliation(path: Path, differences: Mapping[str, int], finished_at_s: float) -> None:
    """The same for a reconciliation (comparison -> number of differences). Raises OSError."""
    registry = CollectorRegistry()
    found = Gauge(
        "hongbao_reconciliation_differences",
        "Differences per comparison of the reconciled day.",
        ["comparison"],
        registry=registry,
    )
    for comparison, number in differences.items():
        found.labels(comparison).set(number)
    finished = Gauge(
        "hongbao_reconciliation_finished_timestamp_seconds", "When the last reconciliation ended.", registry=registry
    )
    finished.set(finished_at_s)
    write_to_textfile(str(path), registry)


def render() -> bytes:
    """All metrics as Prometheus text: those of every process if they share a directory, otherwise this process's."""
    if not values.ValueClass._multiprocess:
        return generate_latest()
    registry = CollectorRegistry()
    _Shared(registry)  # type: ignore[no-untyped-call]  # it registers itself
    return generate_latest(registry)


class _Shared(MultiProcessCollector):
    """The values of all processes that share their metrics through a folder."""

    def collect(self) -> Iterable[Metric]:
        """Leave out empty files, because the library cannot read them. A process creates its file before it fills it.

        If a process is killed in between, its file stays empty.
        """
        filled = [str(path) for path in Path(self._path).glob("*.db") if path.stat().st_size]
        return self.merge(filled)  # type: ignore[no-any-return, no-untyped-call]
