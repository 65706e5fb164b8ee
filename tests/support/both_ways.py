"""Raw requests as a connection hands them over: to the short way, or to the application, which is the long way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope

from api.answers import Answer
from api.app import create_app
from api.dispatch import Front
from api.limits import OVERLOADED
from api.wire.fast_claims import LATER, REFUSED, FastClaims
from engine.settings import Settings
from tests.support.documented import assert_listed

Headers = tuple[tuple[bytes, bytes], ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request. ``chunks``: its body as it arrives; None in place of one: the client goes away."""

    method: str = "POST"
    path: str
    query: bytes = b""
    headers: Headers = ()
    chunks: tuple[bytes | None, ...] = (b"",)

    @property
    def raw_path(self) -> bytes:
        """The path as it stands in the request line."""
        return quote(self.path).encode()


class Reply(NamedTuple):
    """What was sent back, byte for byte."""

    status: int
    headers: Headers
    body: bytes


class Answers:
    """Who asks, and keeps what it is told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Answer] = asyncio.Queue()

    def write_body(self, body: bytes) -> None:
        """The body of a 200."""
        self.write_answer(Answer(200, body))

    def write_answer(self, answer: Answer) -> None:
        """Any answer."""
        self.queue.put_nowait(answer)


class Run(Protocol):
    """Runs a coroutine on the loop of the test, from the thread of its examples."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


async def in_a_thread(examples: Callable[[Run], None]) -> None:
    """Let hypothesis, which knows no coroutines, try its examples on what lives on this loop; then go on here."""
    loop = asyncio.get_running_loop()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    await asyncio.to_thread(examples, run)


class Opened(NamedTuple):
    """The application in this process, the short way beside it, and what their requests share."""

    app: Starlette
    fast_claims: FastClaims
    front: Front


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[Opened]:
    """The application and its short way, until the end of the block."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield Opened(app, FastClaims(app.state.front), app.state.front)


async def ask(opened: Opened, asked: Asked, *, long: bool = False) -> tuple[Reply | None, bool]:
    """The reply, None if there was none, and whether it came by the short way. ``long``: never that way."""
    reply = None if long else await ask_short(opened.fast_claims, asked)
    found, is_short = (await ask_long(opened.app, asked), False) if reply is None else (reply, True)
    if found is not None:
        assert_listed(asked.method, asked.path, found.status, found.body)
    return found, is_short


async def ask_short(fast_claims: FastClaims, asked: Asked) -> Reply | None:
    """The reply by the short way, None if it does not take the request."""
    answers = Answers()
    target = asked.raw_path + (b"?" + asked.query if asked.query else b"")
    taken = fast_claims.take(asked.method.encode(), target, list(asked.headers), answers)
    if taken is None:
        return None
    answer = OVERLOADED if taken is REFUSED else await answers.queue.get() if taken is LATER else Answer(200, taken)
    await asyncio.sleep(0)  # so that a second one would be here too
    assert answers.queue.empty()
    return Reply(answer.status, (*answer.headers, (b"content-length", b"%d" % len(answer.body))), answer.body)


async def ask_long(app: Starlette, asked: Asked) -> Reply | None:
    """The application's reply, None if there was none."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": asked.raw_path,
        "root_path": "",
        "query_string": asked.query,
        "headers": list(asked.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, _receiver(asked.chunks), send)
    return _reply(sent)


def _receiver(chunks: Sequence[bytes | None]) -> Receive:
    messages = iter(chunks)
    left = len(chunks)

    async def receive() -> Message:
        nonlocal left
        chunk = next(messages, None)
        left -= 1
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": left > 0}

    return receive


def _reply(sent: list[Message]) -> Reply | None:
    if not sent:
        return None
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    assert not body.get("more_body", False)
    headers = tuple((bytes(name), bytes(value)) for name, value in start["headers"])
    return Reply(start["status"], headers, body["body"])
