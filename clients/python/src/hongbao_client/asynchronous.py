"""The client for asyncio."""

from dataclasses import replace
from inspect import isawaitable
from typing import Self, TypeVar

import anyio
import httpx

from hongbao_client.connections import (
    ANSWER_BYTES_MAX,
    Base,
    checked_url,
    checked_user,
    headers_of_all,
    lost,
    tokens_of,
)
from hongbao_client.errors import UnreadableAnswerError
from hongbao_client.exchange import Outcome, Pause, Renew, Send, exchange
from hongbao_client.nouns import AsyncNouns
from hongbao_client.operations import Call, Lost, Reply
from hongbao_client.retries import Retries
from hongbao_client.tokens import AsyncTokenProvider

T = TypeVar("T")


class AsyncConnection(Base[httpx.AsyncClient, AsyncTokenProvider, anyio.Lock]):
    """Does the steps of a call. Tasks may share it."""

    __slots__ = ()

    async def ask(self, call: Call[T]) -> T:
        """The call's answer. Raises the errors of ``hongbao_client.errors``."""
        steps = exchange(call, self.retries)
        outcome: Outcome = None
        try:
            step = next(steps)
            while True:
                match step:
                    case Send(token, timeout_s):
                        outcome = await self._sent(call, token, timeout_s)
                    case Pause(seconds):
                        await anyio.sleep(seconds)
                        outcome = None
                    case Renew(refused):
                        outcome = await self._token(refused)
                step = steps.send(outcome)
        except StopIteration as ended:
            answer: T = ended.value
            return answer

    async def _sent(self, call: Call[T], token: str | None, timeout_s: float) -> Reply | Lost:
        body = bytearray()
        try:
            with anyio.fail_after(timeout_s):
                answer = await self.http.send(self.request(call, token, timeout_s), stream=True)
                try:
                    async for piece in answer.aiter_bytes():
                        body += piece
                        if len(body) > ANSWER_BYTES_MAX:
                            raise UnreadableAnswerError(f"The answer has more than {ANSWER_BYTES_MAX} bytes.")
                finally:
                    await answer.aclose()
        except (httpx.RequestError, TimeoutError) as error:
            return lost(error)
        return Reply(answer.status_code, dict(answer.headers), bytes(body))

    async def _token(self, refused: str | None) -> str | None:
        async with self.tokens.turn:
            if self.tokens.provider is not None and self.tokens.is_asked(refused):
                found = self.tokens.provider()
                self.tokens.current = await found if isawaitable(found) else found
            return self.tokens.current


class AsyncClient(AsyncNouns):
    """The API, by nouns: ``await client.packets.send(...)``. Close it, or use it in an ``async with`` block.

    Its arguments are those of ``Client``; the provider of tokens may be awaited, and ``http`` is an httpx.AsyncClient.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | AsyncTokenProvider | None = None,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._is_own = http is None
        http = http or httpx.AsyncClient(headers=headers_of_all())
        tokens = tokens_of(token, anyio.Lock())
        self._connect(AsyncConnection(http, tokens, checked_url(url), retries or Retries()))

    def _connect(self, connection: AsyncConnection) -> None:
        self._connection = connection
        super().__init__(connection.ask)

    def acting_for(self, user_id: str) -> Self:
        """The same client on the same connections, for this user. Needs a token with the scope act."""
        return self._with(replace(self._connection, user_id=checked_user(user_id)))

    def with_retries(self, retries: Retries) -> Self:
        """The same client on the same connections, with other bounds."""
        return self._with(replace(self._connection, retries=retries))

    def _with(self, connection: AsyncConnection) -> Self:
        other = type(self).__new__(type(self))
        other._is_own = False
        other._connect(connection)
        return other

    async def aclose(self) -> None:
        """Close the connections, for all who share them. Of a client that shares another's, nothing happens."""
        if self._is_own:
            await self._connection.http.aclose()

    async def __aenter__(self) -> Self:
        """The client."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close it."""
        await self.aclose()
