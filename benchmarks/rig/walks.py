"""Which user claims which packet, in which order: the same for every server, in Lua for wrk, in Python for clients."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.rig.shapes import Shape, heads

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


def claim_lua(walk: Walk, token: str, shape: Shape = Shape.GATEWAY) -> str:
    """The wrk script for ``walk``, with one claim per request. All headers are made here, so wrk only joins texts."""
    pool = heads(shape, token)
    return _LUA.format(
        first=walk.first,
        end=walk.end,
        packets=" ".join(walk.packets),
        before=_texts(head.before for head in pool),
        after=_texts(head.after for head in pool),
        at_once=walk.at_once,
        hands=walk.hands,
        taps=walk.taps,
        population=walk.population,
    )


def _texts(texts: Iterable[str]) -> str:
    """Some texts as Lua writes them: no header has a quotation mark or a backslash in it."""
    return ",\n".join('"' + text.replace("\r\n", "\\r\\n") + '"' for text in texts)


# wrk calls `request` once before the first connection, to see how many requests it makes. That call must not count.
_LUA = """
local paths, before, after = {{}}, {{{before}}}, {{{after}}}
for number in ([[{packets}]]):gmatch("%d+") do
  paths[#paths + 1] = "POST /v1/packets/" .. number .. "/claims HTTP/1.1\\r\\n"
end
local first, last = {first}, {end} - 1
local at_once, hands, taps, population = {at_once}, {hands}, {taps}, {population}
local index, started, pool = first - 1, false, #before
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
function request()
  local tap = advance()
  local within, head = tap % (at_once * hands * taps), tap % pool + 1
  local place = (tap - within) / (hands * taps) + within % at_once
  local user = (place * hands + floor(within / at_once) % hands) % population
  return paths[place + 1] .. before[head] .. format("u%07d", user) .. after[head]
end
"""
