"""Reads counters as Prometheus does, from processes on other machines."""

from collections.abc import Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.console.live.counted import BUCKETS, CALLS_BY_SIZE, NAMES, PLACE_OF, Counted, is_claim, places_of

TIMEOUT_S = 0.8
BYTES_MAX = 4_000_000
_FAMILIES = tuple({name.removesuffix("_total").removesuffix("_sum").removesuffix("_bucket") for name in NAMES})


class Scraper:
    """One process's ``/metrics``. ``client`` is closed by its maker."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client, self.url = client, url

    async def read(self) -> Counted | None:
        """Its sums now, None if it does not answer in time, or with something else."""
        try:
            async with self._client.stream("GET", self.url, timeout=TIMEOUT_S) as answer:
                if answer.status_code != 200:
                    return None
                body = bytearray()
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > BYTES_MAX:
                        return None
            return counted_in(body.decode())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None


def counted_in(text: str) -> Counted:
    """The sums in a scrape. Raises ValueError. Only the families that count here are parsed: parsing is slow."""
    wanted = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(_FAMILIES)]
    counted = Counted()
    cumulative: dict[str, list[float]] = {}
    for family in text_string_to_metric_families("\n".join(wanted) + "\n"):
        for sample in family.samples:
            if sample.name == BUCKETS:
                labels = sample.labels
                if is_claim(labels) and labels.get("le") in PLACE_OF:
                    of_route = cumulative.setdefault(labels["route"], [0.0] * len(PLACE_OF))
                    of_route[PLACE_OF[labels["le"]]] = sample.value
            elif sample.name in NAMES and sample.name != CALLS_BY_SIZE:
                for place in places_of(sample.name, sample.labels):
                    counted.add(place, sample.value)
    for bounds in cumulative.values():
        for place, value in enumerate(_apart(bounds)):
            counted.add(place, value)
    return counted


def _apart(cumulative: Sequence[float]) -> list[float]:
    return [value - (cumulative[place - 1] if place else 0.0) for place, value in enumerate(cumulative)]
