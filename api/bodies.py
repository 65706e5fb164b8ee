"""Reads a request's parts: headers, a bounded body, JSON, the query."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Receive, Scope

from api.problems import MalformedError, SlowBodyError, TooLargeError, UnsupportedMediaTypeError
from engine.errors import FieldProblem

Headers = Mapping[bytes, bytes]
UNHASHED = frozenset({"payment_password", "code"})
QUERY_FIELDS_MAX = 20
READ_S_MAX = 10.0
"""How long a body may take to arrive."""
DISCARD_BYTES_MAX = 8 * 1_024 * 1_024
DISCARD_S_MAX = 2.0
"""How much of a refused body is still read, and for how long. After that, its connection is closed."""
_ONCE = (b"authorization", b"x-user-id", b"idempotency-key", b"content-type")
"""Headers that decide who acts and what the request means. If one came twice, two readers might use different ones."""


class DisconnectedError(Exception):
    """The client disconnected before its body was complete, so there is nobody to answer."""


def headers_of(scope: Scope) -> Headers:
    """The request's headers by lower-case name. Raises MalformedError if a header came twice that must not."""
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _ONCE:
            if names.count(name) > 1:
                raise MalformedError(
                    f"The header {name.decode()} must be sent once, not several times.", field=name.decode()
                )
    return headers


def has_body(headers: Headers) -> bool:
    """Whether the headers announce a body (in HTTP/1.1, by its length or as chunks)."""
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


class Reader:
    """One request's body, which is read at most once. ``complete``: all of it has arrived."""

    __slots__ = ("_receive", "complete")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete = False

    async def read(self, headers: Headers, *, bytes_max: int) -> bytes:
        """The whole body.

        Raises TooLargeError as soon as it is known to exceed ``bytes_max``, chunked or not, SlowBodyError if it takes
        too long, DisconnectedError.
        """
        length = headers.get(b"content-length", b"0")
        if len(length) > 15 or int(length) > bytes_max:  # the server has checked that it is a number
            raise _too_large(bytes_max)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(READ_S_MAX):
                while not self.complete:
                    chunk = await self._chunk()
                    size += len(chunk)
                    if size > bytes_max:
                        raise _too_large(bytes_max)
                    chunks.append(chunk)
        except TimeoutError:
            raise SlowBodyError(f"The body did not arrive within {READ_S_MAX:g} s.") from None
        return b"".join(chunks)

    async def discard(self) -> bool:
        """Read and drop the rest, so that a refused client can read why. Returns whether it ended in time."""
        size = 0
        try:
            async with asyncio.timeout(DISCARD_S_MAX):
                while not self.complete and size <= DISCARD_BYTES_MAX:
                    size += len(await self._chunk())
        except (TimeoutError, DisconnectedError):
            return False
        return self.complete

    async def _chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        self.complete = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk


def _too_large(bytes_max: int) -> TooLargeError:
    return TooLargeError(f"The body must be at most {bytes_max} bytes.")


def parsed(headers: Headers, body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Without a body it is empty.

    Raises UnsupportedMediaTypeError for another content type, and MalformedError unless it is one JSON object in UTF-8
    with distinct names.
    """
    if not body:
        return {}
    _check_type(headers.get(b"content-type"))
    try:
        value = orjson.loads(body)
        unambiguous = _names_differ(body, value)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"The body is not JSON: {error}.") from None
    except (orjson.JSONEncodeError, RecursionError):
        raise MalformedError("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise MalformedError("The body must be a JSON object.")
    if not unambiguous:
        raise MalformedError("An object in the body has the same name twice.")
    return value


def plain(headers: Headers, body: bytes, read: Callable[[bytes], object | None]) -> object | None:
    """The body as a quick reader returns it. None: it must be ``parsed``. Raises UnsupportedMediaTypeError."""
    if not body:
        return None
    _check_type(headers.get(b"content-type"))
    return read(body)


def _check_type(content_type: bytes | None) -> None:
    if content_type is None:
        return
    kind, _, parameters = content_type.decode("latin-1").lower().partition(";")
    if kind.strip() != "application/json" or parameters.replace(" ", "").replace('"', "") not in ("", "charset=utf-8"):
        raise UnsupportedMediaTypeError("The body must be application/json in UTF-8.")


def _names_differ(body: bytes, value: object) -> bool:
    """Whether no object has a name twice (one reader would keep the last member, another the first).

    Without escapes, every quote belongs to a name or a text. So the number of quotes shows whether a member was lost.
    """
    if b"\\" not in body:
        return orjson.dumps(value).count(b'"') == body.count(b'"')
    names_differ = True

    def note(pairs: list[tuple[str, object]]) -> None:
        nonlocal names_differ
        names_differ = names_differ and len({name for name, _ in pairs}) == len(pairs)

    json.loads(body, object_pairs_hook=note)
    return names_differ


def hash_of(method: str, path: str, value: dict[str, Any]) -> bytes:
    """SHA-256 over method, path and the sorted body: it shows if two requests with one Idempotency-Key are the same.

    The hash does not cover a payment password or a coupon's code. It is kept, and six digits could be found from it in
    no time. Whoever is sent a code adds it to the hash with a key.
    """
    kept = {name: part for name, part in value.items() if name not in UNHASHED}
    canonical = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), canonical))).digest()


def query_of(scope: Scope, problems: list[FieldProblem]) -> dict[str, Any]:
    """The query's parameters by name. One that is given twice is added to ``problems``.

    Raises MalformedError if there are too many, or if the query is not percent-encoded UTF-8.
    """
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=QUERY_FIELDS_MAX,
            errors="strict",
        )
    except UnicodeDecodeError:
        raise MalformedError("The query must be UTF-8, percent-encoded.", field="query") from None
    except ValueError:
        raise MalformedError(f"The query must have at most {QUERY_FIELDS_MAX} parameters.", field="query") from None
    query: dict[str, Any] = {}
    for name, value in pairs:
        if name in query:
            problems.append(FieldProblem(name[:100], "must be given once"))
        query[name] = value
    return query
