"""The client for programs with threads."""

import time
from dataclasses import replace
from threading import Lock
from typing import Self, TypeVar

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
from hongbao_client.nouns import Nouns
from hongbao_client.operations import Call, Lost, Reply
from hongbao_client.retries import Retries
from hongbao_client.tokens import TokenProvider

T = TypeVar("T")


class Connection(Base[httpx.Client, TokenProvider, Lock]):
    """Does the steps of a call. Threads may share it."""

    __slots__ = ()

    def ask(self, call: Call[T]) -> T:
        """The call's answer. Raises the errors of ``hongbao_client.errors``."""
        steps = exchange(call, self.retries)
        outcome: Outcome = None
        try:
            step = next(steps)
            while True:
                match step:
                    case Send(token, timeout_s):
                        outcome = self._sent(call, token, timeout_s)
                    case Pause(seconds):
                        time.sleep(seconds)
                        outcome = None
                    case Renew(refused):
                        outcome = self._token(refused)
                step = steps.send(outcome)
        except StopIteration as ended:
            answer: T = ended.value
            return answer

    def _sent(self, call: Call[T], token: str | None, timeout_s: float) -> Reply | Lost:
        ends_at_s = time.monotonic() + timeout_s
        body = bytearray()
        try:
            answer = self.http.send(self.request(call, token, timeout_s), stream=True)
            try:
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise UnreadableAnswerError(f"The answer has more than {ANSWER_BYTES_MAX} bytes.")
                    if time.monotonic() > ends_at_s:
                        raise httpx.ReadTimeout("the answer came too slowly")
            finally:
                answer.close()
        except httpx.RequestError as error:
            return lost(error)
        return Reply(answer.status_code, dict(answer.headers), bytes(body))

    def _token(self, refused: str | None) -> str | None:
        with self.tokens.turn:
            if self.tokens.provider is not None and self.tokens.is_asked(refused):
                self.tokens.current = self.tokens.provider()
            return self.tokens.current


class Client(Nouns):
    """The API, by nouns: ``client.packets.send(...)``. Close it, or use it in a ``with`` block.

    ``url``: the server's address. ``token``: a bearer token, or a provider that is asked again once the server refuses
    the last one; None: for the probes only. ``retries``: the bounds of each call. ``http``: an httpx.Client with
    certificates, proxies or limits of your own, which you close.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | TokenProvider | None = None,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._is_own = http is None
        http = http or httpx.Client(headers=headers_of_all())
        tokens = tokens_of(token, Lock())
        self._connect(Connection(http, tokens, checked_url(url), retries or Retries()))

    def _connect(self, connection: Connection) -> None:
        self._connection = connection
        super().__init__(connection.ask)

    def acting_for(self, user_id: str) -> Self:
        """The same client on the same connections, for this user. Needs a token with the scope act."""
        return self._with(replace(self._connection, user_id=checked_user(user_id)))

    def with_retries(self, retries: Retries) -> Self:
        """The same client on the same connections, with other bounds."""
        return self._with(replace(self._connection, retries=retries))

    def _with(self, connection: Connection) -> Self:
        other = type(self).__new__(type(self))
        other._is_own = False
        other._connect(connection)
        return other

    def close(self) -> None:
        """Close the connections, for all who share them. Of a client that shares another's, nothing happens."""
        if self._is_own:
            self._connection.http.close()

    def __enter__(self) -> Self:
        """The client."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it."""
        self.close()
