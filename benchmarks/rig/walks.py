"""Which user claims which packet, in which order: the same for every server, in Lua for wrk, in Python for clients."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

POPULATION = 50_000
"""How many users there are (more if one packet has more claimants). They meet again in other packets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Taps in order: ``hands`` users per packet, each ``taps`` times, ``at_once`` packets in turn.

    ``first`` and ``end`` bound the walk. At its end it starts again at ``first``.
    """

    packets: Sequence[str]
    hands: int
    taps: int = 1
    at_once: int = 1
    first: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """The number of taps of all packets."""
        return len(self.packets) // self.at_once * self.at_once * self.hands * self.taps

    @property
    def taps_walked(self) -> int:
        """The number of taps between ``first`` and ``end``."""
        return (self.end or self.length) - self.first

    @property
    def population(self) -> int:
        """How many users there are."""
        return max(POPULATION, self.hands)

    def tap(self, index: int) -> tuple[str, str]:
        """The packet and the user of one tap."""
        block, within = divmod(index, self.at_once * self.hands * self.taps)
        place = block * self.at_once + within % self.at_once
        hand = within // self.at_once % self.hands
        return self.packets[place], user(place * self.hands + hand, self.population)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWalk:
    """Requests of ``size`` claims, with ``hands_each`` users per packet and request. A packet has ``hands`` in all."""

    packets: Sequence[str]
    hands: int
    size: int
    hands_each: int
    first: int = 0
    end: int = 0

    @property
    def length(self) -> int:
        """How many requests the packets allow."""
        side_by_side = self.size // self.hands_each
        return len(self.packets) // side_by_side * (self.hands // self.hands_each)

    @property
    def population(self) -> int:
        """How many users there are."""
        return max(POPULATION, self.hands)

    def claims(self, index: int) -> list[tuple[str, str]]:
        """The (packet, user) of one request."""
        side_by_side, parts = self.size // self.hands_each, self.hands // self.hands_each
        block, part = divmod(index, parts)
        places = range(block * side_by_side, (block + 1) * side_by_side)
        hands = range(part * self.hands_each, (part + 1) * self.hands_each)
        return [(self.packets[p], user(p * self.hands + hand, self.population)) for p in places for hand in hands]

    def body(self, index: int) -> bytes:
        """One request's JSON."""
        claims = [{"packet_id": packet, "user_id": user_id} for packet, user_id in self.claims(index)]
        return json.dumps({"claims": claims}, separators=(",", ":")).encode()


def user(number: int, population: int) -> str:
    """A user's id."""
    return f"u{number % population:07d}"


def claim_lua(walk: Walk, token: str, *, gateway: bool = False) -> str:
    """The wrk script for ``walk``, with one claim per request. The bytes are the same for every server.

    ``gateway``: each request has unique headers, like requests that came through a gateway.
    """
    return _LUA_HEAD.format(first=walk.first, end=walk.end, token=token, packets=" ".join(walk.packets)) + (
        f"local at_once, hands, taps, population = {walk.at_once}, {walk.hands}, {walk.taps}, {walk.population}\n"
        + (_LUA_GATEWAY if gateway else _LUA_NO_GATEWAY)
        + _LUA_CLAIM
    )


# wrk calls `request` once before the first connection, to see how many requests it makes. That call must not count.
_LUA_HEAD = """
local packets = {{}}
for number in ([[{packets}]]):gmatch("%d+") do packets[#packets + 1] = number end
local first, last = {first}, {end} - 1
local host = "Host: 127.0.0.1\\r\\nAuthorization: Bearer {token}\\r\\n"
local index, started = first - 1, false
local floor, format = math.floor, string.format
local function advance()
  if not started then
    started = true
    return first
  end
  index = index + 1
  if index > last then index = first end
  return index
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(format('{{"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write, errors.status,
    errors.timeout))
  io.write(format('"p50_us":%d,"p99_us":%d,"max_us":%d}}\\n',
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""
_LUA_NO_GATEWAY = """
local function added(tap) return "" end
"""
_LUA_GATEWAY = """
local function added(tap)
  local trace = format("%08x%08x", tap * 2654435761 % 4294967296, tap)
  return format("X-Forwarded-For: 10.%d.%d.7\\r\\nX-Request-Id: %s\\r\\ntraceparent: 00-%s%s-%s-01\\r\\n",
    tap % 256, floor(tap / 256) % 256, trace, trace, trace, trace)
end
"""
_LUA_CLAIM = """
function request()
  local tap = advance()
  local within = tap % (at_once * hands * taps)
  local place = (tap - within) / (hands * taps) + within % at_once
  local user = (place * hands + floor(within / at_once) % hands) % population
  return "POST /v1/packets/" .. packets[place + 1] .. "/claims HTTP/1.1\\r\\n" .. host
    .. added(tap) .. format("X-User-Id: u%07d", user) .. "\\r\\nContent-Length: 0\\r\\n\\r\\n"
end
"""
