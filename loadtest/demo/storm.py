"""Many users on many packets: a closed loop of clients that remember every answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from loadtest.told import ContradictionError, Told

TRIES_MAX = 20
_RETRY_S = 0.1
_ANSWER_S_MAX = 30.0
_LOST = (aiohttp.ClientConnectionError, TimeoutError)


@dataclass(slots=True)
class Answers:
    """The answers that the clients got."""

    outcomes: Counter[str] = field(default_factory=Counter)
    told: Told = field(default_factory=lambda: Told(remembered_max=None, in_order=False))
    latencies_ms: list[float] = field(default_factory=list)
    retried: int = 0
    retried_last_s: float = 0.0
    """When the last one was, on ``time.perf_counter``."""

    @property
    def amounts(self) -> Mapping[tuple[str, str], int]:
        """(packet, user) -> fen, from claims and repeats alike."""
        return self.told.amounts

    def take(self, packet_id: str, user_id: str, answer: dict[str, Any]) -> None:
        """Record one answer. Raises ContradictionError if it contradicts an earlier one."""
        self.told.claim(packet_id, user_id, answer)
        self.outcomes[answer["outcome"]] += 1


class Client:
    """The API for several callers. ``tokens``: user -> bearer token.

    After a 503 or a lost connection a repeat returns the result, so every request is repeated, a bounded number of
    times. Each method raises ContradictionError if no answer comes, or one that is not a success.
    """

    def __init__(self, base_url: str, tokens: dict[str, str], connections: int, tries_max: int = TRIES_MAX) -> None:
        self._base_url, self._tokens, self._tries_max = base_url, tokens, tries_max
        self._connector = aiohttp.TCPConnector(limit=connections)
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S_MAX)
        self._session = aiohttp.ClientSession(connector=self._connector, timeout=timeout)

    async def __aenter__(self) -> "Client":
        """Do nothing: connections are made when needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._session.close()

    async def get(self, path: str, user_id: str) -> dict[str, object]:
        """GET as a user."""
        answer: dict[str, object] = orjson.loads(await self._ask("GET", path, self._headers(user_id)))
        return answer

    async def text(self, path: str) -> str:
        """GET without a token."""
        return (await self._ask("GET", path, {})).decode()

    async def post(self, path: str, user_id: str, body: dict[str, object], key: str) -> dict[str, object]:
        """POST what must happen once, with an Idempotency-Key."""
        headers = {**self._headers(user_id), "Idempotency-Key": key}
        answer: dict[str, object] = orjson.loads(await self._ask("POST", path, headers, body))
        return answer

    async def put(self, path: str, user_id: str, body: dict[str, object]) -> None:
        """PUT, which may be repeated."""
        await self._ask("PUT", path, self._headers(user_id), body)

    async def claims(self, packet_id: str, user_id: str) -> dict[str, int]:
        """The amount of each claim of a packet, in fen by user, from all pages."""
        listed: dict[str, int] = {}
        after = ""
        while True:
            page = await self.get(f"/v1/packets/{packet_id}/claims?limit=1000{after}", user_id)
            rows = page["claims"]
            assert isinstance(rows, list)
            listed |= {row["user_id"]: row["amount_fen"] for row in rows}
            if page["next"] is None:
                return listed
            after = f"&after={page['next']}"

    async def claim(self, packet_id: str, user_id: str, answers: Answers) -> None:
        """Claim until there is an answer, and record it."""
        path, headers = f"/v1/packets/{packet_id}/claims", self._headers(user_id)
        answers.take(packet_id, user_id, orjson.loads(await self._ask("POST", path, headers, answers=answers)))

    async def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, object] | None = None,
        answers: Answers | None = None,
    ) -> bytes:
        """The body of the first answer. Its time and the number of repeats are recorded in ``answers``."""
        for _ in range(self._tries_max):
            started_s = time.perf_counter()
            try:
                async with self._session.request(method, self._base_url + path, headers=headers, json=body) as response:
                    answer = await response.read()
            except _LOST:
                pass
            else:
                if response.ok:
                    if answers is not None:
                        answers.latencies_ms.append((time.perf_counter() - started_s) * 1000)
                    return answer
                if response.status != 503:
                    raise ContradictionError(f"{method} {path} was answered {response.status}: {answer.decode()}")
            if answers is not None:
                answers.retried += 1
                answers.retried_last_s = time.perf_counter()
            await asyncio.sleep(_RETRY_S)
        raise ContradictionError(f"{method} {path} had no answer in {self._tries_max} tries")

    def _headers(self, user_id: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens[user_id]}"}


async def storm(
    client: Client, taps: Iterable[tuple[str, str]], *, hands: int, answers: Answers, tapped: Callable[[], None]
) -> float:
    """``hands`` clients work through the taps (packet, user). Each sends its next claim after an answer.

    Returns the duration in seconds. ``tapped`` is called after each answer. Raises the first ContradictionError.
    """
    waiting = iter(taps)

    async def hand() -> None:
        for packet_id, user_id in waiting:
            await client.claim(packet_id, user_id, answers)
            tapped()

    started_s = time.perf_counter()
    contradiction: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(hands):
                group.create_task(hand())
    except* ContradictionError as found:
        contradiction = found.exceptions[0]
    if contradiction is not None:
        raise contradiction
    return time.perf_counter() - started_s
