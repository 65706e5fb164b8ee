"""What ``Client`` and ``AsyncClient`` have in common beside the steps of a call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, TypeVar

import httpx

from hongbao_client.operations import Call, Lost
from hongbao_client.retries import Retries

Provider = TypeVar("Provider", bound=Callable[[], Any])
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)
Turn = TypeVar("Turn")

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A longer answer is not read to its end. Of a list, ask for smaller pages; of a statement, for fewer days."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_OF_THE_PROGRAM = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(slots=True)
class Tokens(Generic[Provider, Turn]):
    """The token in use, for all who share a connection. ``provider`` None: there is no other than ``current``.

    ``turn``: a lock, so that many who are refused at a time ask for one new token.
    """

    current: str | None
    provider: Provider | None
    turn: Turn

    def is_asked(self, refused: str | None) -> bool:
        """Whether the provider must be asked. Another call may have got a new token in the meantime."""
        return self.provider is not None and (self.current is None or self.current == refused)


@dataclass(frozen=True, slots=True)
class Base(Generic[Http, Provider, Turn]):
    """Where requests go, who sends them, for whom, and how often."""

    http: Http
    tokens: Tokens[Provider, Turn]
    url: str
    retries: Retries = field(default_factory=Retries)
    user_id: str | None = None

    def request(self, call: Call[Any], token: str | None, timeout_s: float) -> httpx.Request:
        """One try of a call."""
        connect_s = min(timeout_s, self.retries.connect_timeout_s)
        return self.http.build_request(
            call.operation.method,
            self.url + call.target,
            params=dict(call.query) or None,
            content=call.content,
            headers=call.headers(token, self.user_id),
            timeout=httpx.Timeout(timeout_s, connect=connect_s, pool=connect_s),
        )


def tokens_of(token: str | Provider | None, turn: Turn) -> Tokens[Provider, Turn]:
    """A token that lasts, one of a provider, or none."""
    return Tokens(token, None, turn) if token is None or isinstance(token, str) else Tokens(None, token, turn)


def checked_url(url: str) -> str:
    """The server's address without a slash at its end. Raises ValueError."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ValueError(f"the URL must be http(s)://host[:port], not {url!r}")
    return url.rstrip("/")


def checked_user(user_id: str) -> str:
    """A user's id that can be a header. Raises ValueError."""
    if not user_id or not user_id.isascii() or not user_id.isprintable() or " " in user_id:
        raise ValueError(f"{user_id!r} is no user id")
    return user_id


def headers_of_all() -> dict[str, str]:
    """The headers of every request."""
    return {"User-Agent": f"hongbao-client/{version('hongbao-client')}"}


def lost(error: Exception) -> Lost:
    """What became of a request that has no answer. Raises what no repeat can help."""
    if isinstance(error, _OF_THE_PROGRAM):
        raise error
    return Lost(error, was_sent=not isinstance(error, _NOT_SENT))
