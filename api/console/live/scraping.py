"""Reads counters as Prometheus does, from processes on other machines."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import httpx
from prometheus_client.parser import text_string_to_metric_families

from api.console.live.counted import BUCKETS, CALLS_BY_SIZE, NAMES, PLACE_OF, Counted, is_claim, places_of

TIMEOUT_S = 0.8
BYTES_MAX = 4_000_000
RESOLVE_S_MAX = 0.5
ADDRESSES_MAX = 64
"""Of one name. More are not asked."""
_FAMILIES = tuple({name.removesuffix("_total").removesuffix("_sum").removesuffix("_bucket") for name in NAMES})


class Scraper:
    """One process's ``/metrics``. ``client`` is closed by its maker.

    ``address``: where to ask, of those that the URL's host has. None: the host itself.
    """

    def __init__(self, client: httpx.AsyncClient, url: str, address: str | None = None) -> None:
        self._client, parts = client, httpx.URL(url)
        self.url = url if address is None else str(parts.copy_with(host=address))
        self._headers = {} if address is None else {"host": parts.netloc.decode()}
        # The certificate is for the name.
        self._extensions = {} if address is None else {"sni_hostname": parts.host}

    async def read(self) -> Counted | None:
        """Its sums now, None if it does not answer in time, or with something else."""
        try:
            async with self._asked() as answer:
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

    def _asked(self) -> AbstractAsyncContextManager[httpx.Response]:
        return self._client.stream(
            "GET", self.url, headers=self._headers, extensions=self._extensions, timeout=TIMEOUT_S
        )


async def scrapers_of(client: httpx.AsyncClient, url: str) -> list[Scraper]:
    """One for each process behind the URL's host: a name of several containers or pods has the address of each.

    Empty if it cannot be resolved now.
    """
    host = httpx.URL(url).host
    try:
        async with asyncio.timeout(RESOLVE_S_MAX):
            found = await addresses_of(host)
    except (OSError, UnicodeError):  # TimeoutError is an OSError
        return []
    return [Scraper(client, url, None if address == host else address) for address in sorted(found)[:ADDRESSES_MAX]]


async def addresses_of(host: str) -> set[str]:
    """A name's IPv4 addresses, or those of IPv6 if there are none. Both lead to the same processes. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, set()).add(str(address[0]))
    return by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or set()


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
