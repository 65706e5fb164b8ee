"""The guests: senders and claimants that go on through every fault until they are stopped."""

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from engine.loops import stopped_within
from engine.packets import opening
from loadtest.chaos.asking import Client
from loadtest.chaos.errands import Errands
from loadtest.chaos.history import Claim
from loadtest.chaos.probing import Prober
from loadtest.chaos.rains import Rains

SENDERS = ("chaos-sender-1", "chaos-sender-2", "chaos-sender-3")
USERS = tuple(f"chaos-user-{number:03d}" for number in range(150))
LARGE_COUNT = opening.INLINE_COUNT_MAX + 200
"""More shares than a request opens: the publisher opens these packets."""
_DEPOSIT_FEN = 10_000_000_000
_TTL_SHORT_S = (1, 2, 3)
_TTL_LONG_S = 7_200
_ON_BOARD_MAX = 400
_NEW = 12
_HANDS = 14
_TRIES_MAX = 200
_AGAIN_S = 0.2
_PAUSE_S_MAX = 0.04
_SEND_PAUSE_S_MAX = 0.8
_BATCH_MAX = 40


@dataclass(frozen=True, slots=True)
class _Packet:
    packet_id: str
    count: int


@dataclass(slots=True)
class Guests:
    """``seed`` decides what they do. The order of the answers is chance.

    ``prober``: runs with them, if there is a cluster. ``pauses``: how many times longer than usual they pause.
    """

    client: Client
    seed: int
    board: deque[_Packet] = field(default_factory=lambda: deque(maxlen=_ON_BOARD_MAX))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    first_sent: asyncio.Event = field(default_factory=asyncio.Event)
    prober: Prober | None = None
    pauses: float = 1.0

    async def run(self) -> None:
        """Run all of them until ``stopping``. Each ends with the answer that it waits for."""
        async with asyncio.TaskGroup() as group:
            for sender in SENDERS:
                group.create_task(self._sender(sender))
            group.create_task(Errands(self.client, self.seed, USERS[-5:], self._goes_on, pauses=self.pauses).run())
            group.create_task(Rains(self.client, self.seed, USERS, self._goes_on, pauses=self.pauses).run())
            if self.prober is not None:
                group.create_task(self.prober.run())
            for number in range(_HANDS):
                group.create_task(self._hand(random.Random(f"{self.seed} hand {number}")))

    def _goes_on(self) -> bool:
        return not self.stopping.is_set() and not self.client.is_full

    async def _pause(self, seconds: float) -> None:
        await stopped_within(self.stopping, self.pauses * seconds)

    async def _sender(self, sender: str) -> None:
        chance = random.Random(f"{self.seed} {sender}")
        number = 0
        while self._goes_on():
            if number % 10 == 0:
                await self._deposit(sender, f"{sender}-{number}")
            await self._send(sender, f"packet-{number}", _terms(chance))
            number += 1
            await self._pause(chance.uniform(0, _SEND_PAUSE_S_MAX))

    async def _deposit(self, sender: str, key: str) -> None:
        for _ in range(_TRIES_MAX):
            if (await self.client.deposit(sender, key, _DEPOSIT_FEN)).status == 201 or not self._goes_on():
                return
            await asyncio.sleep(_AGAIN_S)

    async def _send(self, sender: str, key: str, terms: dict[str, Any]) -> None:
        """Send the request until it succeeds, and now and then once more."""
        for _ in range(_TRIES_MAX):
            sent = await self.client.send(sender, key, terms)
            if sent.status == 201:
                self.board.append(_Packet(sent.packet_id, sent.count))
                self.first_sent.set()
                if sent.count % 3 == 0:
                    await self.client.send(sender, key, terms)
                return
            if not self._goes_on():
                return
            await asyncio.sleep(_AGAIN_S)

    async def _hand(self, chance: random.Random) -> None:
        await self.first_sent.wait()
        while self._goes_on():
            packet = self._pick(chance)
            move = chance.random()
            if move < 0.75:
                await self._claim(chance, packet)
            elif move < 0.85:
                await self._claim_many(chance)
            elif move < 0.96:
                await self.client.look(packet.packet_id)
            elif packet.count < LARGE_COUNT:
                await self.client.list_claims(packet.packet_id)
            await self._pause(chance.uniform(0, _PAUSE_S_MAX))

    def _pick(self, chance: random.Random) -> _Packet:
        """Pick a packet, mostly one of the newest."""
        newest = min(_NEW, len(self.board))
        return self.board[-chance.randint(1, newest)] if chance.random() < 0.8 else chance.choice(self.board)

    async def _claim(self, chance: random.Random, packet: _Packet) -> None:
        """Claim once or twice. If it was not decided, sometimes claim again."""
        user_id = chance.choice(USERS)
        claim = await self.client.claim(packet.packet_id, user_id)
        again = chance.random() < (0.2 if claim.status == 200 else 0.7)
        if again:
            await asyncio.sleep(0 if claim.status == 200 else _AGAIN_S)
            await self.client.claim(packet.packet_id, user_id)
        elif _is_away(claim):
            await asyncio.sleep(_AGAIN_S)

    async def _claim_many(self, chance: random.Random) -> None:
        packets = [self._pick(chance) for _ in range(chance.randint(1, 3))]
        size = chance.randint(2, _BATCH_MAX)
        claims = [(chance.choice(packets).packet_id, chance.choice(USERS)) for _ in range(size)]
        made = await self.client.claim_many(claims)
        if made and _is_away(made[0]):
            await asyncio.sleep(_AGAIN_S)


def _is_away(claim: Claim) -> bool:
    return claim.status in (0, 503)


def _terms(chance: random.Random) -> dict[str, Any]:
    """Random terms: few or many shares, a short or long time, for anyone or for some users."""
    kind = chance.random()
    count = chance.randint(1, 6) if kind < 0.4 else chance.randint(10, 90) if kind < 0.97 else LARGE_COUNT
    terms: dict[str, Any] = {
        "count": count,
        "total_fen": count * chance.randint(1, 500),
        "split": "lucky" if chance.random() < 0.7 else "equal",
        "ttl_s": chance.choice(_TTL_SHORT_S) if chance.random() < 0.35 else _TTL_LONG_S,
        "greeting": "年年有余",
    }
    if terms["split"] == "equal":
        terms["total_fen"] -= terms["total_fen"] % count
    if chance.random() < 0.15 and count < LARGE_COUNT:
        terms["recipients"] = chance.sample(USERS, min(len(USERS), count + chance.randint(0, count)))
    return terms
