"""From request to answer on one path: token, fields, body, endpoint. Every error becomes a problem."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from api import bodies, paths
from api.answers import Answer, Streamed
from api.auth import Access, Caller, caller_of
from api.limits import Limits
from api.meter import Meter
from api.payloads import checked
from api.problems import IdempotencyKeyRequiredError, WrongMethodError, answer_to
from engine.access.admissions import Admissions
from engine.access.tokens import Verifier
from engine.engine import Engine
from engine.errors import FieldProblem, HongbaoError, InvalidFieldsError
from engine.settings import Settings

IDEMPOTENCY_KEY_MAX = 255
_CLOSE = (b"connection", b"close")


@dataclass(slots=True)
class Front:
    """State that all requests of a process share. ``engine`` is set while the application runs."""

    settings: Settings
    verifier: Verifier
    admissions: Admissions
    document: bytes
    limits: Limits
    engine: Engine = field(init=False)
    meter: Meter = field(default_factory=Meter)
    in_flight: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    is_stopping: bool = False

    def flush(self) -> None:
        """Report the counts since the last time to the metrics."""
        self.meter.flush()
        self.limits.flush()
        self.engine.claims.finished.flush()
        self.engine.grabbing.flush()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every request has been answered, at most ``timeout_s``. Returns whether all were."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.in_flight:
                    self.idle.clear()
                    await self.idle.wait()
        return self.in_flight == 0


@dataclass(frozen=True, slots=True)
class Call:
    """A checked request: exactly what an endpoint needs.

    ``body`` and ``query`` are instances of the operation's models. ``idempotency_key``, ``request_hash`` and
    ``address`` (where the request comes from) are empty unless the operation moves money. ``accept`` (the header) is
    empty unless the operation has a page.
    """

    front: Front
    path: Mapping[str, str]
    caller: Caller
    body: Any
    query: Any
    idempotency_key: str
    request_hash: bytes
    address: str = ""
    accept: str = ""

    @property
    def engine(self) -> Engine:
        """The process's engine."""
        return self.front.engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path: its input, its callers, its answers. The OpenAPI document is made from it.

    ``plain_body``: a quick reader that returns an equal of ``body``'s model, or None if the model must check the body.
    ``access`` None: open to all. ``answer``: the model of ``status`` (None: the answer has ``media_type``, not JSON).
    ``has_page``: the answer is also available as an HTML page. ``may_be_repeated``: the same request again, without a
    key, does no more than the first one, so a client whose answer was lost may send it again. ``problems``: its errors
    besides those that follow from the rest (``api.failures``).
    """

    method: str
    path: str
    endpoint: Callable[[Call], Awaitable[Answer | Streamed]]
    summary: str
    access: Access | None
    answer: Any
    media_type: str = "text/plain"
    status: int = 200
    body: type[BaseModel] | None = None
    body_required: bool = True
    plain_body: Callable[[bytes], object | None] | None = None
    large_body: bool = False
    query: type[BaseModel] | None = None
    moves_money: bool = False
    is_claim: bool = False
    has_page: bool = False
    may_be_repeated: bool = True
    problems: tuple[type[HongbaoError], ...] = ()

    @property
    def name(self) -> str:
        """The operation's name, unique among all."""
        return self.endpoint.__name__


class PathApp:
    """All operations of one path as an ASGI application."""

    def __init__(self, front: Front, path: str, operations: Mapping[str, Operation]) -> None:
        self._front = front
        self._path = path
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in every case."""
        started_s = perf_counter()
        front = self._front
        operation = self._operations.get(scope["method"])
        reader = bodies.Reader(receive)
        front.in_flight += 1
        try:
            try:
                if operation is None:
                    raise WrongMethodError(", ".join(sorted(self._operations)))
                call = await _checked(front, operation, scope, reader)
                answer: Answer | Streamed = await operation.endpoint(call)
            except bodies.DisconnectedError:
                return
            except Exception as error:
                answer = answer_to(error, changes=operation is not None and operation.method != "GET")
            if not reader.complete and not await _is_rid_of_body(scope, reader):
                answer = answer._replace(headers=(*answer.headers, _CLOSE))
            method = "other" if operation is None else operation.method
            front.meter.of(method, self._path).note(answer.status, perf_counter() - started_s)
            if isinstance(answer, Answer):
                await respond(answer, send)
            else:
                await stream(answer, scope, receive, send)
        finally:
            front.in_flight -= 1
            if front.in_flight == 0:
                front.idle.set()


async def respond(answer: Answer, send: Send) -> None:
    """Send all of ``answer``."""
    length = (b"content-length", str(len(answer.body)).encode())
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await send({"type": "http.response.body", "body": answer.body})


async def stream(answer: Streamed, scope: Scope, receive: Receive, send: Send) -> None:
    """Send ``answer`` piece by piece. ``send`` waits while the client is behind. A disconnect ends it."""
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    gone = asyncio.create_task(_gone(receive))
    try:
        if scope["method"] != "HEAD":
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            async for piece in answer.more:
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def refusing(answer: Answer) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An application that discards a request's body and answers with ``answer``."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(bodies.DisconnectedError):
            is_rid = await _is_rid_of_body(scope, bodies.Reader(receive))
            await respond(answer if is_rid else answer._replace(headers=(*answer.headers, _CLOSE)), send)

    return refuse


async def _is_rid_of_body(scope: Scope, reader: bodies.Reader) -> bool:
    """Discard the rest of a body. False: it is too much, and the connection closes after the answer."""
    return not bodies.has_body(dict(scope["headers"])) or await reader.discard()


async def _checked(front: Front, operation: Operation, scope: Scope, reader: bodies.Reader) -> Call:
    """Check a request. Raises the errors of ``api.problems``. InvalidFieldsError names every bad field."""
    path: dict[str, str] = scope["path_params"]
    if operation.access is None:
        return Call(front, path, _NOBODY, None, None, "", b"")
    headers = bodies.headers_of(scope)
    has_body = bodies.has_body(headers)
    reader.complete = not has_body
    problems: list[FieldProblem] = []
    caller = caller_of(operation.access, headers, front.verifier, problems)
    if front.limits.users is not None and caller.user_id is not None:
        front.limits.check_user(caller.user_id, is_claim=operation.is_claim)
    paths.check(path, problems)
    query = operation.query and checked(operation.query, bodies.query_of(scope, problems), problems)
    key = _idempotency_key(headers, problems) if operation.moves_money else ""
    body, request_hash = None, b""
    if operation.body is not None and (operation.body_required or has_body):
        settings = front.settings
        bytes_max = settings.batch_body_bytes_max if operation.large_body else settings.body_bytes_max
        text = await reader.read(headers, bytes_max=bytes_max)
        body = operation.plain_body and bodies.plain(headers, text, operation.plain_body)
        if body is None:
            value = bodies.parsed(headers, text)
            body = checked(operation.body, value, problems)
            if operation.moves_money:
                request_hash = bodies.hash_of(operation.method, scope["path"], value)
    elif operation.moves_money:
        request_hash = bodies.hash_of(operation.method, scope["path"], {})
    if problems:
        raise InvalidFieldsError(problems)
    address = front.limits.address_of(scope) if operation.moves_money else ""
    accept = headers.get(b"accept", b"").decode("latin-1") if operation.has_page else ""
    return Call(front, path, caller, body, query, key, request_hash, address, accept)


def _idempotency_key(headers: bodies.Headers, problems: list[FieldProblem]) -> str:
    header = headers.get(b"idempotency-key")
    if not header:
        raise IdempotencyKeyRequiredError("Send the header Idempotency-Key, a new one for each new request.")
    if len(header) > IDEMPOTENCY_KEY_MAX or any(not 33 <= byte <= 126 for byte in header):
        problems.append(FieldProblem("Idempotency-Key", f"must be 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"))
    return header.decode("latin-1")


_NOBODY = Caller("", None, frozenset())
