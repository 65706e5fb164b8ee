"""What an endpoint hands back, and the headers every answer carries."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

_ALWAYS_BUT_POLICY: Headers = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_ALWAYS: Headers = (
    *_ALWAYS_BUT_POLICY,
    # Should a browser ever take an answer for a page: nothing in it runs, loads or is framed.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
JSON: Headers = ((b"content-type", b"application/json"), *_ALWAYS)
PROBLEM: Headers = ((b"content-type", b"application/problem+json"), *_ALWAYS)
PLAIN: Headers = ((b"content-type", b"text/plain; charset=utf-8"), *_ALWAYS)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"), *_ALWAYS_BUT_POLICY)
"""Of a page, which brings the content security policy that it was made for."""


class Answer(NamedTuple):
    """A whole response: its bytes are ready, its length is added when it is sent."""

    status: int
    body: bytes
    headers: Headers = JSON


class Streamed(NamedTuple):
    """A response whose body is sent piece by piece, each when the client has taken nearly all before it.

    ``body``: the pieces that are there; ``more``: those that are made later. An error there cuts the answer off before
    its last chunk, so that no client takes a part for the whole.
    """

    status: int
    body: bytes
    headers: Headers
    more: AsyncIterator[bytes]


async def as_csv_file(name: str, pieces: AsyncIterator[bytes], *more: tuple[bytes, bytes]) -> Streamed:
    """A file of CSV to be saved under a name of ASCII without quotes. Raises what making the first piece does."""
    saved_as = (b"content-disposition", f'attachment; filename="{name}"'.encode())
    headers = ((b"content-type", b"text/csv; charset=utf-8"), saved_as, *_ALWAYS, *more)
    return Streamed(200, await anext(pieces, b""), headers, pieces)


def as_json(value: object, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """An answer of JSON; ``value`` may be a record of the engine."""
    return Answer(status, orjson.dumps(value), (*JSON, *more) if more else JSON)
