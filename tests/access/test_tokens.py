"""Bearer tokens: what is genuine, what is refused."""

import base64
import json
import math
import time
from datetime import datetime
from typing import Any

import jwt
import pytest

from engine.access.keyring import Keyring, Secret
from engine.access.tokens import SCOPES, TOKEN_BYTES_MAX, TokenClaims, Verifier, issue
from engine.errors import InvalidTokenError, OperatorError

SECRET = b"s" * 64
OTHER_SECRET = b"o" * 64
KEYS = Keyring([Secret(None, SECRET)])
DAY_S = 86_400


def signed(claims: dict[str, Any], *, secret: bytes = SECRET, algorithm: str = "HS256", **headers: object) -> bytes:
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers).encode()


def good(**changes: object) -> dict[str, Any]:
    claims = {"sub": "alice", "exp": time.time() + 3_600, "scope": "claim"} | changes
    return {name: value for name, value in claims.items() if value is not None}


def part(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_an_issued_token_says_what_it_was_issued_for() -> None:
    before_s = time.time()
    claims = Verifier(KEYS).verify(issue(SECRET, "a.b_c:d@e-1", SCOPES, 60).encode())
    assert claims.user_id == "a.b_c:d@e-1"
    assert claims.scopes == frozenset(SCOPES)
    assert before_s + 58 < claims.expires_at_s < before_s + 62


def test_a_token_without_scope_has_none_and_scopes_of_others_are_ignored() -> None:
    verifier = Verifier(KEYS)
    assert verifier.verify(signed(good(scope=None))).scopes == frozenset()
    assert verifier.verify(signed(good(scope="openid claim  profile"))).scopes == {"claim"}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(signed(good(), secret=OTHER_SECRET), id="other secret"),
        pytest.param(signed(good(), algorithm="HS512"), id="other algorithm"),
        pytest.param(part({"alg": "none", "typ": "JWT"}) + b"." + part(good()) + b".", id="alg none"),
        pytest.param(part({"alg": "None"}) + b"." + part(good()) + b".", id="alg None"),
        pytest.param(signed(good(exp=None)), id="no exp"),
        pytest.param(signed(good(sub=None)), id="no sub"),
        pytest.param(signed(good(exp=time.time() - 1)), id="expired"),
        pytest.param(signed(good(exp="soon")), id="exp is text"),
        pytest.param(signed(good(exp=math.inf)), id="exp is infinite"),
        pytest.param(signed(good(exp=math.nan)), id="exp is not a number"),
        pytest.param(signed(good(exp=[])), id="exp is a list"),
        pytest.param(signed(good(exp=str(int(time.time()) + 3_600))), id="exp is a number in quotes"),
        pytest.param(signed(good(iat="now")), id="iat is text"),
        pytest.param(signed(good(nbf="now")), id="nbf is text"),
        pytest.param(signed(good(nbf=math.inf)), id="nbf is infinite"),
        pytest.param(signed(good(), kid="other"), id="unknown kid"),
        pytest.param(signed(good(), kid=""), id="empty kid"),
        pytest.param(part({"alg": "HS256", "kid": ["a"]}) + b"." + part(good()) + b".", id="kid is a list"),
        pytest.param(signed(good(), crit=["mystery"], mystery=1), id="a critical header nobody knows"),
        pytest.param(signed(good(nbf=time.time() + 3_000)), id="not yet"),
        pytest.param(signed(good(aud="others")), id="for others"),
        pytest.param(signed(good(sub="")), id="empty sub"),
        pytest.param(signed(good(sub="a b")), id="sub is no user id"),
        pytest.param(signed(good(sub="a" * 65)), id="long sub"),
        pytest.param(signed(good(scope=["claim"])), id="scope is a list"),
        pytest.param(signed(good(scope=1)), id="scope is a number"),
        pytest.param(signed(good())[:-1], id="cut"),
        pytest.param(signed(good()) + b".", id="a part too many"),
        pytest.param(b"", id="empty"),
        pytest.param(b"...", id="dots"),
        pytest.param(b"\xff\xfe", id="not text"),
        pytest.param("é.é.é".encode(), id="not ascii"),
        pytest.param(b"a" * (TOKEN_BYTES_MAX + 1), id="too long"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 2_900) + b".e30.", id="nested deeply"),
    ],
)
def test_what_is_not_a_genuine_token_is_refused(token: bytes) -> None:
    with pytest.raises(InvalidTokenError) as refused:
        Verifier(KEYS).verify(token)
    assert SECRET.decode() not in str(refused.value)


def test_a_remembered_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(KEYS)
    token = issue(SECRET, "alice", ["claim"], 60).encode()
    verifier.verify(token)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 61)
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.verify(token)


def test_the_memory_of_tokens_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(KEYS, cached_max=2)
    tokens = [issue(SECRET, f"user{number}", [], 60).encode() for number in range(3)]
    for token in tokens:
        verifier.verify(token)
    decoded: list[bytes] = []
    decode = verifier._decoded

    def watched(token: bytes) -> TokenClaims:
        decoded.append(token)
        return decode(token)

    monkeypatch.setattr(verifier, "_decoded", watched)
    for token in reversed(tokens):
        verifier.verify(token)
    assert decoded == [tokens[0]]


@pytest.mark.parametrize(("leeway_s", "over_s", "holds"), [(0, 1, False), (30, 28, True), (30, 31, False)])
def test_clocks_may_differ_by_the_leeway(
    monkeypatch: pytest.MonkeyPatch, leeway_s: int, over_s: int, holds: bool
) -> None:
    verifier = Verifier(KEYS, leeway_s=leeway_s)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s)  # a busy machine may take a second for the lines below
    still = type("Still", (datetime,), {"now": staticmethod(lambda tz: datetime.fromtimestamp(now_s, tz))})
    monkeypatch.setattr("jwt.api_jwt.datetime", still)
    for token in (signed(good(exp=now_s - over_s)), signed(good(nbf=now_s + over_s))):
        for _ in ("first", "remembered"):
            if holds:
                assert verifier.verify(token).user_id == "alice"
                assert verifier.remembered(token) is not None
            else:
                assert verifier.remembered(token) is None
                with pytest.raises(InvalidTokenError, match=r"expired|not valid yet"):
                    verifier.verify(token)


def test_a_remembered_token_is_over_when_the_leeway_is(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = Verifier(KEYS, leeway_s=30), issue(SECRET, "alice", ["claim"], 60).encode()
    verifier.verify(token)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 85)
    assert verifier.remembered(token) is not None
    monkeypatch.setattr(time, "time", lambda: now_s + 91)
    assert verifier.remembered(token) is None
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.verify(token)


@pytest.mark.parametrize(
    ("claims", "holds"),
    [
        ({"exp": DAY_S}, True),
        ({"exp": DAY_S, "iat": 0}, True),
        ({"exp": DAY_S + 100}, False),
        ({"exp": DAY_S, "iat": 100}, True),
        ({"exp": DAY_S + 100, "iat": 100}, False),
        ({"exp": 100, "iat": 100 - DAY_S}, True),
        ({"exp": 100, "iat": -DAY_S}, False),
        ({"exp": 100, "iat": -math.inf}, False),
    ],
)
def test_no_token_holds_longer_than_the_longest(claims: dict[str, float], holds: bool) -> None:
    now_s = time.time()
    token = signed(good(**{name: now_s + ahead_s for name, ahead_s in claims.items()}))
    verifier = Verifier(KEYS, ttl_s_max=DAY_S)
    if holds:
        assert verifier.verify(token).user_id == "alice"
    else:
        with pytest.raises(InvalidTokenError, match=f"longer than {DAY_S} seconds"):
            verifier.verify(token)
    assert Verifier(KEYS).verify(token).user_id == "alice"


def test_each_secret_in_force_verifies_the_tokens_that_name_it() -> None:
    new, old = Secret("new", b"n" * 32), Secret("old", b"o" * 32)
    verifier = Verifier(Keyring([new, old]))
    for secret in (new, old):
        token = issue(secret.value, "alice", ["claim"], 60, key_id=secret.key_id).encode()
        assert verifier.verify(token).user_id == "alice"
    crossed = [(new.value, "old"), (old.value, "new"), (old.value, None), (new.value, "none"), (new.value, "New")]
    for value, key_id in crossed:
        with pytest.raises(InvalidTokenError):
            verifier.verify(issue(value, "alice", ["claim"], 60, key_id=key_id).encode())
    assert verifier.verify(issue(new.value, "alice", [], 60).encode()).user_id == "alice"
    with pytest.raises(InvalidTokenError, match="names no secret in force"):
        Verifier(Keyring([new])).verify(issue(old.value, "alice", [], 60, key_id="old").encode())


def test_a_token_without_a_key_id_is_the_unnamed_secrets_while_there_is_one() -> None:
    verifier = Verifier(Keyring([Secret("new", b"n" * 32), Secret(None, b"u" * 32)]))
    assert verifier.verify(issue(b"u" * 32, "alice", [], 60).encode()).user_id == "alice"
    with pytest.raises(InvalidTokenError):
        verifier.verify(issue(b"n" * 32, "alice", [], 60).encode())


@pytest.mark.parametrize(
    ("user", "scopes", "ttl_s", "named"),
    [("a b", ["claim"], 60, "a b"), ("alice", ["claim", "root"], 60, "root"), ("alice", ["claim"], 0, "second")],
)
def test_what_cannot_be_a_token_is_not_issued(user: str, scopes: list[str], ttl_s: int, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        issue(SECRET, user, scopes, ttl_s)
