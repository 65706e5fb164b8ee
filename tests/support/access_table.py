"""The table of docs/access.md, read: who gets which status where. And tokens that are not genuine."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from engine.access.tokens import SCOPES, TOKEN_BYTES_MAX
from tests.support.repository import ROOT

DOCUMENT = ROOT / "docs" / "access.md"
_HEADING = "| operation | asked by | no genuine token |"
_NEVER_ASKED = "–"
HOUR_S = 3_600


class Cell(NamedTuple):
    """What a proper request is answered. ``packet``: "" or what the row says of the packet; ``scopes``: the token's."""

    operation: str
    packet: str
    asker: str
    scopes: tuple[str, ...]
    status: int


class Row(NamedTuple):
    """One row. ``without``: the status without a genuine token."""

    operation: str
    without: int
    cells: tuple[Cell, ...]


@cache
def rows() -> tuple[Row, ...]:
    """The whole table."""
    lines = iter(DOCUMENT.read_text(encoding="utf-8").splitlines())
    heading = next(line for line in lines if line.startswith(_HEADING))
    scope_sets = [tuple(scopes.replace("none", "").split()) for scopes in _cells(heading)[3:]]
    next(lines)
    return tuple(_rows(lines, scope_sets))


def _rows(lines: Iterator[str], scope_sets: list[tuple[str, ...]]) -> Iterator[Row]:
    for line in lines:
        if not line.startswith("|"):
            return
        named, asker, without, *statuses = _cells(line)
        operation, _, packet = named.partition(", ")
        found = [
            Cell(operation, packet, asker, scopes, int(status))
            for scopes, status in zip(scope_sets, statuses, strict=True)
            if status != _NEVER_ASKED
        ]
        yield Row(operation, int(without), tuple(found))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def wrong_tokens(secret: bytes) -> dict[str, str | None]:
    """The Authorization header with each kind of token that opens nothing; None: no such header."""
    now_s = int(time.time())
    claims: dict[str, Any] = {"sub": "alice", "exp": now_s + HOUR_S, "scope": " ".join(SCOPES)}

    def signed(claims: dict[str, Any], key: Any = secret, algorithm: str = "HS256", **headers: Any) -> str:  # noqa: ANN401
        return f"Bearer {jwt.encode(claims, key, algorithm=algorithm, headers=headers)}"

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in claims.items() if key != name}

    genuine = signed(claims)
    head, payload, signature = genuine.removeprefix("Bearer ").split(".")
    private = _private_key()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "no header": None,
        "empty": "",
        "only the scheme": "Bearer",
        "another scheme": genuine.replace("Bearer", "Basic"),
        "no scheme": genuine.removeprefix("Bearer "),
        "garbage": "Bearer nonsense",
        "dots": "Bearer ...",
        "too long": f"Bearer {'a' * (TOKEN_BYTES_MAX + 1)}",
        "forged": signed(claims, b"f" * 64),
        "changed payload": f"Bearer {head}.{payload[:-4]}AAAA.{signature}",
        "cut signature": genuine[:-2],
        "no signature": f"Bearer {head}.{payload}.",
        "alg none": f"Bearer {_part({'alg': 'none', 'typ': 'JWT'})}.{payload}.",
        "alg none, signed": f"Bearer {_part({'alg': 'nOnE'})}.{payload}.{signature}",
        "alg HS384": signed(claims, algorithm="HS384"),
        "alg HS512": signed(claims, algorithm="HS512"),
        "alg RS256": signed(claims, private, "RS256"),
        "alg RS256, our signature": f"Bearer {_part({'alg': 'RS256', 'typ': 'JWT'})}.{payload}.{signature}",
        "a public key as the secret": f"Bearer {head}.{payload}.{_signature(public, f'{head}.{payload}')}",
        "its own key in the header": signed(claims, b"f" * 64, jwk={"kty": "oct", "k": "f" * 64}),
        "unknown kid": signed(claims, kid="withdrawn"),
        "empty kid": signed(claims, kid=""),
        "kid of a file": signed(claims, b"f" * 64, kid="../../etc/passwd"),
        "unknown critical header": signed(claims, crit=["mystery"], mystery=1),
        "expired": signed(claims | {"exp": now_s - HOUR_S}),
        "not yet valid": signed(claims | {"nbf": now_s + HOUR_S // 2}),
        "holds too long": signed(claims | {"exp": now_s + 400 * 24 * HOUR_S}),
        "held too long": signed(claims | {"iat": now_s - 400 * 24 * HOUR_S}),
        "exp is text": signed(claims | {"exp": str(now_s + HOUR_S)}),
        "no exp": signed(without("exp")),
        "no sub": signed(without("sub")),
        "sub is no user": signed(claims | {"sub": "a b"}),
        "for others": signed(claims | {"aud": "others"}),
        "scope is a list": signed(claims | {"scope": list(SCOPES)}),
    }


def _signature(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")


@cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
