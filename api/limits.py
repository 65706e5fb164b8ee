"""Bounds on what one API process accepts. Beyond them it refuses at once, with a problem that is made in advance.

A refusal says when to come back. Refusing costs a third of serving. So refused connections are read again at a bounded
pace (``WaitingRoom``). Otherwise clients that retry at once would take all of the time.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Sequence
from time import monotonic
from typing import Protocol
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from api.addresses import Addresses
from api.answers import Answer
from api.problems import RateLimitedError, answer_to
from api.rates import Rates
from engine.errors import OverloadedError
from engine.networks import networks_in
from engine.observability import metrics
from engine.settings import Settings

TICK_S = 0.01
RELEASES_A_TICK_MIN, RELEASES_A_TICK_MAX = 20, 50
"""Refused connections are read again at this pace: a hundredth of the waiting ones each time, but at least 2,000 and at
most 5,000 per second. Reading and refusing one again costs a third of a claim."""
OVERLOAD_S = 0.1
"""How long after a refusal the process still counts as overloaded."""
PROBES = frozenset({b"/livez", b"/readyz", b"/metrics"})
"""These are always answered."""
_TURNED_AWAY_MIN = 10
_OTHER_DESCRIPTORS = 200
"""Open files besides clients' connections: Redis, Postgres, logs, metrics."""
_CLAIMS_AT = ((b"/v1/packets/", b"/claims"), (b"/v1/campaigns/", b"/grabs"))

CLAIMS_WAITING, CLAIMS, REQUESTS, CONNECTIONS, TOO_SOON, USER, ADDRESS = BOUNDS = (
    "claims_waiting",
    "claims_in_flight",
    "requests_in_flight",
    "connections",
    "asked_too_soon",
    "rate_user",
    "rate_address",
)
"""The names of the bounds in the metric."""
OVERLOADED = answer_to(OverloadedError("This process has as much to do as it can answer in time."))


class Limits:
    """One process's bounds, and how often each has refused."""

    def __init__(self, settings: Settings) -> None:
        window_s = settings.rate_window_s
        by_user = (settings.claims_per_user_max, settings.requests_per_user_max)
        by_address = (settings.claims_per_address_max, settings.requests_per_address_max)
        self.users = Rates("user", *by_user, window_s) if any(by_user) else None
        self.by_address = Rates("address", *by_address, window_s) if any(by_address) else None
        self._addresses = Addresses(networks_in(settings.trusted_proxies), settings.address_header)
        self.connections_max = settings.connections_max
        self.turned_away_max = _turned_away_max(self.connections_max)
        self.requests_max = settings.requests_in_flight_max
        self.claims_max = settings.claims_in_flight_max
        self.refused: Counter[str] = Counter()
        metrics.show(metrics.REFUSALS, *BOUNDS)
        self._flushed: Counter[str] = Counter()
        self.room = WaitingRoom()
        self.turned_away = 0

    def check_user(self, user_id: str, *, is_claim: bool) -> None:
        """Spend one of the user's requests. Raises RateLimitedError."""
        if self.users is None:
            return
        try:
            self.users.take(user_id, is_claim=is_claim)
        except RateLimitedError:
            self.refused[USER] += 1
            raise

    def claims_over_limit(self, user_ids: Sequence[str]) -> dict[int, RateLimitedError]:
        """Spend one claim per user of a batch, in order. Returns the errors by their places in the batch."""
        refused: dict[int, RateLimitedError] = {}
        if self.users is None:
            return refused
        for place, user_id in enumerate(user_ids):
            try:
                self.check_user(user_id, is_claim=True)
            except RateLimitedError as error:
                refused[place] = error
        return refused

    def answer_by_address(
        self, peer: str, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> Answer | None:
        """Spend one of the address's requests, if limits are set. Returns a refusal if it has none left."""
        path = _path(target)
        if self.by_address is None or path in PROBES:
            return None
        is_claim = method == b"POST" and any(path.startswith(begin) and path.endswith(end) for begin, end in _CLAIMS_AT)
        try:
            self.by_address.take(self._addresses.key(peer, headers), is_claim=is_claim)
        except RateLimitedError as error:
            self.refused[ADDRESS] += 1
            return answer_to(error)
        return None

    def address_of(self, scope: Scope) -> str:
        """A request's address: the peer's, or the one that a trusted proxy names."""
        peer = scope.get("client") or ("", 0)
        return self._addresses.of(peer[0], scope["headers"])

    def answer_when_full(self, in_flight: int, target: bytes) -> Answer | None:
        """The refusal of a request while ``in_flight`` others are being answered, or None if it is admitted."""
        if in_flight < self.requests_max or self.is_probe(target):
            return None
        self.refused[REQUESTS] += 1
        return OVERLOADED

    def is_probe(self, target: bytes) -> bool:
        """Whether the request is always answered."""
        return _path(target) in PROBES

    def fit(self, descriptors: int) -> None:
        """Accept at most as many connections as this many open files allow."""
        room = (descriptors - _OTHER_DESCRIPTORS) * 10 // 11 - _TURNED_AWAY_MIN
        self.connections_max = max(1, min(self.connections_max, room))
        self.turned_away_max = _turned_away_max(self.connections_max)

    @staticmethod
    def descriptors_for(connections_max: int) -> int:
        """How many open files a process with this many connections needs."""
        return connections_max + _turned_away_max(connections_max) + _OTHER_DESCRIPTORS

    def flush(self) -> None:
        """Report the counts to the metrics."""
        for reason, count in (self.refused - self._flushed).items():
            metrics.REFUSALS.labels(reason).inc(count)
        self._flushed = self.refused.copy()


def _turned_away_max(connections_max: int) -> int:
    """How many connections beyond the bound may be open at a time, to read their refusal."""
    return max(_TURNED_AWAY_MIN, connections_max // 10)


def _path(target: bytes) -> bytes:
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


class Held(Protocol):
    """A connection that was refused and is not read from until its turn comes."""

    def read_on(self, *, is_overloaded: bool) -> bool:
        """Read again. Returns whether there was anything to do (not if the connection is gone)."""
        ...


class WaitingRoom:
    """One process's refused connections. They are read again in the order of their refusal, at a bounded pace."""

    def __init__(self) -> None:
        self._held: deque[Held] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overloaded_until_s = -math.inf

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def is_overloaded(self) -> bool:
        """Whether a request was refused a moment ago because of overload."""
        return monotonic() < self._overloaded_until_s

    def note_overload(self) -> None:
        """Record that the process is overloaded at this moment."""
        self._overloaded_until_s = monotonic() + OVERLOAD_S

    def hold(self, connection: Held) -> None:
        """Hold a connection that has stopped reading."""
        self._held.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._release)

    def _release(self) -> None:
        is_overloaded = self.is_overloaded
        left = min(max(RELEASES_A_TICK_MIN, int(len(self._held) * TICK_S)), RELEASES_A_TICK_MAX)
        try:
            while self._held and left:
                left -= self._held.popleft().read_on(is_overloaded=is_overloaded)
        finally:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._release) if self._held else None
