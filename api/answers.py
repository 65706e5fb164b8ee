"""An endpoint's answers, and the headers of every answer."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

ALWAYS_BUT_POLICY_AND_CACHE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_ALWAYS_BUT_POLICY: Headers = ((b"cache-control", b"no-store"), *ALWAYS_BUT_POLICY_AND_CACHE)
_ALWAYS: Headers = (
    *_ALWAYS_BUT_POLICY,
    # If a browser ever shows an answer as a page, nothing in it runs, loads or is framed.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
JSON: Headers = ((b"content-type", b"application/json"), *_ALWAYS)
PROBLEM: Headers = ((b"content-type", b"application/problem+json"), *_ALWAYS)
PLAIN: Headers = ((b"content-type", b"text/plain; charset=utf-8"), *_ALWAYS)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"), *_ALWAYS_BUT_POLICY)
"""The headers of a page, which has its own content security policy."""


class Answer(NamedTuple):
    """A complete response. Its length is added when it is sent."""

    status: int
    body: bytes
    headers: Headers = JSON


class Streamed(NamedTuple):
    """A response whose body is sent piece by piece, as fast as the client reads it.

    ``body``: the first piece. ``more``: pieces that are made later. An error in ``more`` cuts the answer off before its
    last chunk, so that no client takes a part for the whole.
    """

    status: int
    body: bytes
    headers: Headers
    more: AsyncIterator[bytes]


async def as_csv_file(name: str, pieces: AsyncIterator[bytes], *more: tuple[bytes, bytes]) -> Streamed:
    """A CSV file to be saved under ``name`` (ASCII without quotes). Raises the first piece's errors."""
    saved_as = (b"content-disposition", f'attachment; filename="{name}"'.encode())
    headers = ((b"content-type", b"text/csv; charset=utf-8"), saved_as, *_ALWAYS, *more)
    return Streamed(200, await anext(pieces, b""), headers, pieces)


def as_json(value: object, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """A JSON answer. ``value`` may be a record of the engine."""
    return Answer(status, orjson.dumps(value), (*JSON, *more) if more else JSON)
