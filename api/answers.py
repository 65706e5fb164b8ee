"""What an endpoint hands back, and the headers every answer carries."""

from typing import NamedTuple

import orjson

Headers = tuple[tuple[bytes, bytes], ...]

_ALWAYS: Headers = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # Should a browser ever take an answer for a page: nothing in it runs, loads or is framed.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
JSON: Headers = ((b"content-type", b"application/json"), *_ALWAYS)
PROBLEM: Headers = ((b"content-type", b"application/problem+json"), *_ALWAYS)
PLAIN: Headers = ((b"content-type", b"text/plain; charset=utf-8"), *_ALWAYS)
CSV: Headers = (
    (b"content-type", b"text/csv; charset=utf-8"),
    (b"content-disposition", b'attachment; filename="statement.csv"'),
    *_ALWAYS,
)


class Answer(NamedTuple):
    """A whole response: its bytes are ready, its length is added when it is sent."""

    status: int
    body: bytes
    headers: Headers = JSON


def as_json(value: object, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """An answer of JSON; ``value`` may be a record of the engine."""
    return Answer(status, orjson.dumps(value), (*JSON, *more) if more else JSON)
