"""Raw requests to the application, as a server hands them over, by the way it chooses itself or always the long one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope

from api.app import App, create_app
from api.dispatch import Front
from engine.settings import Settings

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


class Reply(NamedTuple):
    """What was sent back, byte for byte."""

    status: int
    headers: Headers
    body: bytes


class Run(Protocol):
    """Runs a coroutine on the loop of the test, from the thread of its examples."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


async def in_a_thread(examples: Callable[[Run], None]) -> None:
    """Let hypothesis, which knows no coroutines, try its examples on what lives on this loop; then go on here."""
    loop = asyncio.get_running_loop()

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    await asyncio.to_thread(examples, run)


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[tuple[App, Front]]:
    """The application in this process, and what its requests share."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app, app.state.front


async def ask(app: App, asked: Asked, *, long: bool = False) -> tuple[Reply | None, bool]:
    """The reply, None if there was none, and whether it came by the short way. ``long``: never that way."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": asked.method,
        "path": asked.path,
        "raw_path": quote(asked.path).encode(),
        "root_path": "",
        "query_string": asked.query,
        "headers": list(asked.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    receive = _receiver(asked.chunks)
    await (Starlette.__call__(app, scope, receive, send) if long else app(scope, receive, send))
    # Starlette says in the scope of every request that reaches it which application has it.
    return _reply(sent), "app" not in scope


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
