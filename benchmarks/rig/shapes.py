"""The headers of a claim: bare, or as a gateway sends it on. The bytes are the same for every server.

Behind a gateway, a connection carries the requests of many clients. So nothing is the same from one request to the
next: neither the ids of the trace, nor the addresses, nor the order and the case of the names.
"""

from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import NamedTuple

POOL = 10_007
"""How many requests differ before the first headers come again. A prime: it is never in step with a walk."""
_SEED = 2017


class Shape(StrEnum):
    """``GATEWAY``: every request has other headers, in one of several orders. ``BARE``: the fewest, always the same."""

    GATEWAY = "gateway"
    BARE = "bare headers"


class Head(NamedTuple):
    """A request's headers, with the empty line: what is before the user's id, and what is after it."""

    before: str
    after: str


_USER = "{user}"
_BARE = (
    "Host: 127.0.0.1",
    "Authorization: Bearer {token}",
    f"X-User-Id: {_USER}",
    "Content-Length: 0",
)
_ORDERS = (
    (  # a backend in Go, behind nginx
        "Host: hongbao.internal:8080",
        "X-Real-IP: {client}",
        "X-Forwarded-For: {client}, {hop}",
        "X-Forwarded-Proto: https",
        "X-Request-ID: {request}",
        "Content-Length: 0",
        "User-Agent: Go-http-client/1.1",
        "Authorization: Bearer {token}",
        "Traceparent: 00-{trace}-{span}-01",
        f"X-User-Id: {_USER}",
        "Accept-Encoding: gzip",
    ),
    (  # a backend in Java, behind Envoy
        "host: hongbao.internal:8080",
        "authorization: Bearer {token}",
        f"x-user-id: {_USER}",
        "traceparent: 00-{trace}-{span}-01",
        "content-length: 0",
        "accept-encoding: gzip",
        "user-agent: okhttp/4.12.0",
        "x-forwarded-for: {client},{hop}",
        "x-forwarded-proto: https",
        "x-envoy-external-address: {client}",
        "x-request-id: {request}",
        "x-envoy-expected-rq-timeout-ms: 15000",
    ),
    (  # our own client for Python, behind nginx
        "Host: hongbao.internal:8080",
        "X-Forwarded-For: {client}",
        "X-Forwarded-Proto: https",
        "X-Request-ID: {request}",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "User-Agent: hongbao-client/1.0.0",
        "Authorization: Bearer {token}",
        f"X-User-Id: {_USER}",
        "traceparent: 00-{trace}-{span}-00",
        "Content-Length: 0",
    ),
    (  # a backend on Node
        "traceparent: 00-{trace}-{span}-01",
        "tracestate: gw={span}",
        "Accept: application/json, text/plain, */*",
        "Content-Type: application/json",
        f"X-User-Id: {_USER}",
        "Authorization: Bearer {token}",
        "User-Agent: axios/1.7.7",
        "Content-Length: 0",
        "Accept-Encoding: gzip, compress, deflate, br",
        "x-request-id: {request}",
        "x-forwarded-for: {client}, {hop}",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "Host: hongbao.internal:8080",
        "Connection: keep-alive",
    ),
    (  # a mobile page, through a load balancer that adds its own at the end
        "Host: hongbao.internal:8080",
        f"X-User-Id: {_USER}",
        "Content-Length: 0",
        "User-Agent: {browser}",
        "Accept: */*",
        "Accept-Language: zh-CN,zh;q=0.9",
        "Accept-Encoding: gzip, deflate, br",
        "Authorization: Bearer {token}",
        "X-Request-Id: {request}",
        "X-Forwarded-Proto: https",
        "X-Forwarded-For: {client}, {hop}",
        "traceparent: 00-{trace}-{span}-01",
    ),
    (  # a service mesh's proxy, that writes all names small and the trace first
        "x-request-id: {request}",
        "traceparent: 00-{trace}-{span}-01",
        "x-forwarded-for: {client}",
        "host: hongbao.internal:8080",
        "user-agent: {browser}",
        "accept: application/json",
        "content-length: 0",
        f"x-user-id: {_USER}",
        "authorization: Bearer {token}",
    ),
)
_BROWSERS = (
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 "
    "MicroMessenger/8.0.{version}(0x18003531) NetType/WIFI Language/zh_CN",
)


@lru_cache(maxsize=4)
def heads(shape: Shape, token: str) -> tuple[Head, ...]:
    """The headers of requests, in turn: the tap with number n has those at n % length."""
    if shape is Shape.BARE:
        return (_head(_BARE, token=token),)
    chance = Random(_SEED)
    return tuple(_head(chance.choice(_ORDERS), token=token, **_values(chance)) for _ in range(POOL))


def request(packet_id: str, user_id: str, head: Head) -> bytes:
    """One claim's request."""
    return f"POST /v1/packets/{packet_id}/claims HTTP/1.1\r\n{head.before}{user_id}{head.after}".encode()


def _head(lines: tuple[str, ...], **values: str) -> Head:
    before, after = ("\r\n".join(lines) + "\r\n\r\n").split(_USER)
    return Head(before.format(**values), after.format(**values))


def _values(chance: Random) -> dict[str, str]:
    drawn = f"{chance.getrandbits(128):032x}"
    return {
        "trace": f"{chance.getrandbits(128):032x}",
        "span": f"{chance.getrandbits(64):016x}",
        "request": "-".join((drawn[:8], drawn[8:12], drawn[12:16], drawn[16:20], drawn[20:])),
        "client": f"{chance.randint(1, 223)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}",
        "hop": f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
        "browser": chance.choice(_BROWSERS).format(version=chance.randint(40, 130)),
    }
