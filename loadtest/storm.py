"""Many hands on many packets: a closed loop of clients that remember every answer they were given."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import aiohttp
import orjson

_TRIES_MAX = 20
_RETRY_S = 0.1


class ContradictionError(Exception):
    """Two answers that cannot both be true."""


@dataclass(slots=True)
class Answers:
    """What the clients were told. ``amounts``: (packet, user) -> fen, from claims and repeats alike."""

    outcomes: Counter[str] = field(default_factory=Counter)
    amounts: dict[tuple[str, str], int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    retried: int = 0

    def take(self, packet_id: str, user_id: str, outcome: str, amount_fen: int) -> None:
        """Note one answer. Raises ContradictionError when it contradicts an earlier one."""
        self.outcomes[outcome] += 1
        if outcome not in ("claimed", "already_claimed"):
            return
        known = self.amounts.setdefault((packet_id, user_id), amount_fen)
        if known != amount_fen:
            raise ContradictionError(f"{user_id} was told {known} and then {amount_fen} fen of packet {packet_id}")


class Client:
    """The API as one caller after the other; ``tokens`` maps a user to a bearer token."""

    def __init__(self, base_url: str, tokens: dict[str, str], connections: int) -> None:
        self._base_url, self._tokens = base_url, tokens
        self._connector = aiohttp.TCPConnector(limit=connections)
        self._session = aiohttp.ClientSession(connector=self._connector)

    async def __aenter__(self) -> "Client":
        """Nothing to do: connections are made when needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._session.close()

    async def get(self, path: str, user_id: str) -> dict[str, object]:
        """GET as a user; raises aiohttp.ClientResponseError for anything but 200."""
        async with self._session.get(self._base_url + path, headers=self._headers(user_id)) as response:
            response.raise_for_status()
            answer: dict[str, object] = orjson.loads(await response.read())
            return answer

    async def text(self, path: str) -> str:
        """GET without a token."""
        async with self._session.get(self._base_url + path) as response:
            response.raise_for_status()
            return await response.text()

    async def post(self, path: str, user_id: str, body: dict[str, object], key: str) -> dict[str, object]:
        """POST what must happen once, with an Idempotency-Key; raises for anything but 2xx."""
        headers = {**self._headers(user_id), "Idempotency-Key": key}
        async with self._session.post(self._base_url + path, json=body, headers=headers) as response:
            response.raise_for_status()
            answer: dict[str, object] = orjson.loads(await response.read())
            return answer

    async def claim(self, packet_id: str, user_id: str, answers: Answers) -> None:
        """Claim until there is an answer; a 503 or a lost connection decided nothing that a repeat would not tell."""
        url = f"{self._base_url}/v1/packets/{packet_id}/claims"
        for _ in range(_TRIES_MAX):
            started_s = time.perf_counter()
            try:
                async with self._session.post(url, headers=self._headers(user_id)) as response:
                    body = await response.read()
                    if response.status == 200:
                        answers.latencies_ms.append((time.perf_counter() - started_s) * 1000)
                        told = orjson.loads(body)
                        answers.take(packet_id, user_id, told["outcome"], told["amount_fen"])
                        return
                    if response.status != 503:
                        raise ContradictionError(f"a claim was answered {response.status}: {body!r}")
            except aiohttp.ClientConnectionError:
                pass
            answers.retried += 1
            await asyncio.sleep(_RETRY_S)
        raise ContradictionError(f"a claim on {packet_id} had no answer in {_TRIES_MAX} tries")

    def _headers(self, user_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens[user_id]}"}


async def storm(
    client: Client, taps: Iterable[tuple[str, str]], *, hands: int, answers: Answers, tapped: Callable[[], None]
) -> float:
    """``hands`` clients work through the taps (packet, user), each asking its next when it was answered.

    Gives the seconds it took; ``tapped`` is called after each answer.
    """
    waiting = iter(taps)

    async def hand() -> None:
        for packet_id, user_id in waiting:
            await client.claim(packet_id, user_id, answers)
            tapped()

    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(hands):
            group.create_task(hand())
    return time.perf_counter() - started_s
