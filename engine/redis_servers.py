"""The form of HONGBAO_REDIS_URL: one server for all lanes, or several, each with its lanes.

An error never repeats a URL, because it may hold a password.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from engine import urls

_SENTINEL = "redis+sentinel"
_CLUSTERS = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
"""A cluster's schemes, and those of its servers."""
SCHEMES = ("redis", "rediss", "unix", _SENTINEL, *_CLUSTERS)
_SENTINEL_NEEDED = "it must name the Sentinels and their master, as in redis+sentinel://a:26379,b:26379,c:26379/main"
_CLUSTER_NEEDED = "it must name some of the cluster's servers and nothing else, as in redis+cluster://a:6379,b:6379"
_SENTINEL_PORT, _PORT = 26_379, 6_379
_FOR_SENTINELS = "sentinel_password"
_NEEDED = "each of several servers needs its lanes and its URL, as in 0-3=redis://a:6379 4-7=redis://b:6379"
_LANE_MAX = 999
"""A packet number has three digits for its lane."""
_LANES, _SCHEME = r"(\d+)(?:-(\d+))?=", r"[a-z][a-z0-9+.-]*://"
_SEPARATOR = re.compile(rf"[\s,]+(?={_LANES}{_SCHEME})")
_ENTRY = re.compile(rf"{_LANES}({_SCHEME}.*)", re.DOTALL)
_SECOND_URL = re.compile(rf"[\s,]+(?:[^\s,]*=)?{_SCHEME}")


@dataclass(frozen=True, slots=True)
class Watched:
    """A master by its name, and the Sentinels that know where it is."""

    name: str
    sentinels: tuple[tuple[str, int], ...]
    sentinel_password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """One server's URL and the lanes that it holds. ``lanes`` None: all of them."""

    url: str = field(repr=False)
    lanes: tuple[int, ...] | None

    @property
    def place(self) -> str:
        """Its host and port, a cluster's, its socket, or the name by which Sentinels know it; for people."""
        parts = urlsplit(self.url)
        if parts.scheme == _SENTINEL:
            return _master_name(parts.path)
        return parts.netloc.rpartition("@")[2] or parts.path

    @property
    def watched(self) -> Watched | None:
        """Whom to ask where it is, if Sentinels know."""
        parts = urlsplit(self.url)
        if parts.scheme != _SENTINEL:
            return None
        hosts = _hosts(parts.netloc, _SENTINEL_PORT)
        return Watched(_master_name(parts.path), hosts, dict(parse_qsl(parts.query)).get(_FOR_SENTINELS))

    @property
    def cluster(self) -> tuple[tuple[str, int], ...]:
        """The servers to ask for a cluster's others. Empty if it is none."""
        parts = urlsplit(self.url)
        return _hosts(parts.netloc, _PORT) if parts.scheme in _CLUSTERS else ()

    @property
    def client_url(self) -> str:
        """The URL for a client. Where Sentinels or a cluster know the server, its host is nobody's."""
        parts = urlsplit(self.url)
        user, at, _ = parts.netloc.rpartition("@")
        if parts.scheme in _CLUSTERS:
            return f"{_CLUSTERS[parts.scheme]}://{user}{at}0.0.0.0/?{parts.query}".rstrip("?")
        if parts.scheme != _SENTINEL:
            return self.url
        database = parts.path.strip("/").partition("/")[2]
        options = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name != _FOR_SENTINELS])
        return f"redis://{user}{at}0.0.0.0/{database}?{options}".rstrip("?")


def servers_in(text: str) -> list[RedisServer]:
    """The servers that the setting names, each once, in the order of their lanes. Raises ValueError."""
    text = text.strip()
    if not _ENTRY.fullmatch(text):
        if text[:1].isdigit() or _SECOND_URL.search(text):
            raise ValueError(_NEEDED)
        _check(text)
        return [RedisServer(text, None)]
    lanes: dict[str, list[int]] = {}
    for entry in _split(text):
        url, held = _entry(entry)
        taken = {lane: other for other, of_other in lanes.items() for lane in of_other}
        for lane in held:
            if lane in taken:
                twice = "is named twice" if taken[lane] == url else "has two servers"
                raise ValueError(f"lane {lane} {twice}: name each lane once")
        lanes.setdefault(url, []).extend(held)
    return [RedisServer(url, tuple(sorted(held))) for url, held in sorted(lanes.items(), key=lambda item: min(item[1]))]


def why_unheld(text: str, lanes: Iterable[int]) -> str | None:
    """Why a setting that can be used does not do for these lanes, or None."""
    servers = servers_in(text)
    if servers[0].lanes is None:
        return None
    held = {lane for server in servers for lane in server.lanes or ()}
    for lane in lanes:
        if lane not in held:
            return f"HONGBAO_REDIS_URL names no server for lane {lane}"
    return None


def _split(text: str) -> list[str]:
    starts = [0, *[found.end() for found in _SEPARATOR.finditer(text)]]
    ends = [*[found.start() for found in _SEPARATOR.finditer(text)], len(text)]
    return [text[start:end].rstrip(", \t\r\n") for start, end in zip(starts, ends, strict=True)]


def _entry(entry: str) -> tuple[str, range]:
    """One server's URL, and its lanes."""
    found = _ENTRY.fullmatch(entry)
    if found is None or _SECOND_URL.search(entry):
        raise ValueError(_NEEDED)
    first, last, url = int(found[1]), int(found[2] or found[1]), found[3]
    if last < first:
        raise ValueError(f"write the lanes {first}-{last} with the smaller number first")
    if last > _LANE_MAX:
        raise ValueError(f"lane {last} is above {_LANE_MAX}, the largest lane there can be")
    _check(url)
    scheme = url.partition("://")[0]
    has_hosts = scheme == _SENTINEL or scheme in _CLUSTERS
    if scheme != "unix" and re.search(r"\s" if has_hosts else r"[\s,]", url.partition("?")[0].rpartition("@")[2]):
        raise ValueError(_NEEDED)
    return url, range(first, last + 1)


def _check(url: str) -> None:
    """Raise ValueError unless it can be one server's URL."""
    urls.check_server(url, SCHEMES)
    parts = urlsplit(url)
    hosts_are_named = all(host for host, _ in _hosts(parts.netloc, _PORT))
    if parts.scheme == _SENTINEL and not (hosts_are_named and _master_name(parts.path)):
        raise ValueError(_SENTINEL_NEEDED)
    if parts.scheme in _CLUSTERS and not (hosts_are_named and parts.path.strip("/") in ("", "0")):
        raise ValueError(_CLUSTER_NEEDED)


def _hosts(netloc: str, port: int) -> tuple[tuple[str, int], ...]:
    """The hosts and ports after the user and password; ``port``: of those that name none."""
    hosts = [urlsplit(f"//{host}") for host in netloc.rpartition("@")[2].split(",")]
    return tuple((host.hostname or "", host.port or port) for host in hosts)


def _master_name(path: str) -> str:
    return unquote(path.strip("/").partition("/")[0])
