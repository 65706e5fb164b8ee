"""What an endpoint hands back, and the headers every answer carries."""

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
CSV: Headers = (
    (b"content-type", b"text/csv; charset=utf-8"),
    (b"content-disposition", b'attachment; filename="statement.csv"'),
    *_ALWAYS,
)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"), *_ALWAYS_BUT_POLICY)
"""Of a page, which brings the content security policy that it was made for."""


class Answer(NamedTuple):
    """A whole response: its bytes are ready, its length is added when it is sent."""

    status: int
    body: bytes
    headers: Headers = JSON


def as_json(value: object, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """An answer of JSON; ``value`` may be a record of the engine."""
    return Answer(status, orjson.dumps(value), (*JSON, *more) if more else JSON)
