"""What the counters say at one moment, and what happened between two moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.utils import floatToGoString

from api.console.live.points import BOUNDS_S

CLAIM_ROUTES = frozenset(
    {"/v1/packets/{packet_id}/claims", "/v1/claims", "/v1/campaigns/{campaign_id}/grabs", "/v1/grabs"}
)
"""The latencies are of these alone: a slow statement is no storm."""
CALLS, CALLS_BY_SIZE = "hongbao_claim_batch_size_count", "hongbao_claim_batch_size_bucket"
"""A scrape has the one, the processes' folder has the other."""
_BY_LABEL = {"hongbao_claims_total": "outcome", "hongbao_grabs_total": "outcome", "hongbao_refusals_total": "reason"}
_PREFIXES = {"hongbao_claims_total": "claims", "hongbao_grabs_total": "grabs", "hongbao_refusals_total": "refused"}
_WHOLE = {
    "hongbao_claim_batch_size_sum": "batch.claims",
    CALLS: "batch.calls",
    CALLS_BY_SIZE: "batch.calls",
    "hongbao_persisted_events_total": "persisted",
}
_STATUSES = {"503": "status.503", "429": "status.429", "500": "status.500"}
_REQUESTS, BUCKETS = "hongbao_http_requests_total", "hongbao_http_request_seconds_bucket"
NAMES = frozenset({*_BY_LABEL, *_WHOLE, _REQUESTS, BUCKETS})
"""The samples that are read. Everything else in a scrape is passed over."""


def _written(bound: float) -> str:
    """A bound as the library writes it."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


PLACE_OF = {_written(bound): place for place, bound in enumerate(BOUNDS_S)}
"""The place of a bucket, by its bound as it is written."""
Place = str | int | None
"""Where a sample is added: a count's name, a bucket's place, or nowhere."""


@dataclass(slots=True)
class Counted:
    """Sums since the processes began. ``buckets``: not cumulative, one per bound."""

    counts: dict[str, float] = field(default_factory=dict)
    buckets: list[float] = field(default_factory=lambda: [0.0] * len(BOUNDS_S))

    def add(self, place: Place, value: float) -> None:
        """Add a sample to where it belongs."""
        if isinstance(place, str):
            self.counts[place] = self.counts.get(place, 0.0) + value
        elif place is not None:
            self.buckets[place] += value


def places_of(name: str, labels: Mapping[str, str]) -> Sequence[Place]:
    """Where a sample of this name and with these labels is added."""
    if name in _BY_LABEL:
        return (f"{_PREFIXES[name]}.{labels.get(_BY_LABEL[name], '')}",)
    if name in _WHOLE:
        return (_WHOLE[name],)
    if name == _REQUESTS:
        return ("requests", _STATUSES.get(labels.get("status", "")))
    if name == BUCKETS and is_claim(labels):
        return (PLACE_OF.get(labels.get("le", "")),)
    return ()


def is_claim(labels: Mapping[str, str]) -> bool:
    """Whether these are a claim's or a grab's labels. Who reads the list of a packet's claims has the same route."""
    return labels.get("method") == "POST" and labels.get("route") in CLAIM_ROUTES


def grown(before: Counted, after: Counted) -> tuple[dict[str, float], tuple[int, ...]]:
    """What was counted in between: counts without zeros, and buckets.

    A counter that went back has begun anew, so all that it shows was counted since.
    """
    counts = {
        name: delta
        for name, value in after.counts.items()
        if (delta := _delta(before.counts.get(name, 0.0), value)) > 0
    }
    buckets = tuple(int(_delta(old, new)) for old, new in zip(before.buckets, after.buckets, strict=True))
    return counts, buckets if any(buckets) else ()


def _delta(before: float, after: float) -> float:
    return after - before if after >= before else after
