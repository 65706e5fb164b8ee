"""What one API process takes on, and what it does with the rest: a problem at once, made before it is needed.

A refusal says when to come back. Refusing costs a third of serving, so those who do not wait are read again
only a bounded number a second (``WaitingRoom``); else a crowd that asks again and again would take all of the time.
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
"""Refused connections are read again at this pace: of those that wait, a hundredth each time, but at least 2,000 and at
most 5,000 a second. Reading and refusing one again costs a third of a claim."""
OVERLOAD_S = 0.1
"""How long after a refusal the process still counts as overloaded."""
PROBES = frozenset({b"/livez", b"/readyz", b"/metrics"})
"""Answered whatever else is going on."""
_TURNED_AWAY_MIN = 10
_OTHER_DESCRIPTORS = 200
"""Open files that are no client's connection: to Redis and Postgres, logs, metrics."""
_CLAIM_PREFIX, _CLAIM_SUFFIX = b"/v1/packets/", b"/claims"

CLAIMS_WAITING, CLAIMS, REQUESTS, CONNECTIONS, TOO_SOON, USER, ADDRESS = (
    "claims_waiting",
    "claims_in_flight",
    "requests_in_flight",
    "connections",
    "asked_too_soon",
    "rate_user",
    "rate_address",
)
"""The bounds, as the metric names them."""
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
        """Spend one claim of each user of a batch, in order; at which places a user had none left."""
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
        """Spend one of the address's requests; the refusal if it has none left. Only where there are such limits."""
        path = _path(target)
        if self.by_address is None or path in PROBES:
            return None
        is_claim = method == b"POST" and path.startswith(_CLAIM_PREFIX) and path.endswith(_CLAIM_SUFFIX)
        try:
            self.by_address.take(self._addresses.key(peer, headers), is_claim=is_claim)
        except RateLimitedError as error:
            self.refused[ADDRESS] += 1
            return answer_to(error)
        return None

    def address_of(self, scope: Scope) -> str:
        """Where a request comes from: the peer, or what a trusted proxy says."""
        peer = scope.get("client") or ("", 0)
        return self._addresses.of(peer[0], scope["headers"])

    def answer_when_full(self, in_flight: int, target: bytes) -> Answer | None:
        """The refusal of a request beside which ``in_flight`` others are being answered, None if it may come in."""
        if in_flight < self.requests_max or self.is_probe(target):
            return None
        self.refused[REQUESTS] += 1
        return OVERLOADED

    def is_probe(self, target: bytes) -> bool:
        """Whether it is answered whatever else is going on."""
        return _path(target) in PROBES

    def fit(self, descriptors: int) -> None:
        """Take no more connections than this many open files allow."""
        room = (descriptors - _OTHER_DESCRIPTORS) * 10 // 11 - _TURNED_AWAY_MIN
        self.connections_max = max(1, min(self.connections_max, room))
        self.turned_away_max = _turned_away_max(self.connections_max)

    @staticmethod
    def descriptors_for(connections_max: int) -> int:
        """How many open files a process with this many connections needs."""
        return connections_max + _turned_away_max(connections_max) + _OTHER_DESCRIPTORS

    def flush(self) -> None:
        """Hand what was counted to the metrics."""
        for reason, count in (self.refused - self._flushed).items():
            metrics.REFUSALS.labels(reason).inc(count)
        self._flushed = self.refused.copy()


def _turned_away_max(connections_max: int) -> int:
    """How many connections that are one too many may be there at a time, to read that they are."""
    return max(_TURNED_AWAY_MIN, connections_max // 10)


def _path(target: bytes) -> bytes:
    path = target.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


class Held(Protocol):
    """A connection that was refused and is not read from until its turn comes."""

    def read_on(self, *, is_overloaded: bool) -> bool:
        """Read again; whether there was anything to do (a connection that is gone does not count)."""
        ...


class WaitingRoom:
    """The refused connections of one process, read again in the order in which they were refused, at a bounded pace."""

    def __init__(self) -> None:
        self._held: deque[Held] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overloaded_until_s = -math.inf

    def __len__(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def is_overloaded(self) -> bool:
        """Whether somebody was refused a moment ago because there was too much to do."""
        return monotonic() < self._overloaded_until_s

    def note_overload(self) -> None:
        """There is too much to do at this moment."""
        self._overloaded_until_s = monotonic() + OVERLOAD_S

    def hold(self, connection: Held) -> None:
        """Take in a connection that has stopped reading."""
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
