"""Bearer tokens: what is genuine, what is refused, and the secret's file."""

import base64
import json
import math
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from engine.errors import InvalidTokenError, OperatorError
from engine.settings import Settings
from engine.tokens import SCOPES, TOKEN_BYTES_MAX, TokenClaims, Verifier, issue, load_secret

SECRET = b"s" * 64
OTHER_SECRET = b"o" * 64


def signed(claims: dict[str, Any], *, secret: bytes = SECRET, algorithm: str = "HS256") -> bytes:
    return jwt.encode(claims, secret, algorithm=algorithm).encode()


def good(**changes: object) -> dict[str, Any]:
    claims = {"sub": "alice", "exp": time.time() + 3_600, "scope": "claim"} | changes
    return {name: value for name, value in claims.items() if value is not None}


def part(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_an_issued_token_says_what_it_was_issued_for() -> None:
    before_s = time.time()
    claims = Verifier(SECRET).verify(issue(SECRET, "a.b_c:d@e-1", SCOPES, 60).encode())
    assert claims.user_id == "a.b_c:d@e-1"
    assert claims.scopes == frozenset(SCOPES)
    assert before_s + 58 < claims.expires_at_s < before_s + 62


def test_a_token_without_scope_has_none_and_scopes_of_others_are_ignored() -> None:
    verifier = Verifier(SECRET)
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
        Verifier(SECRET).verify(token)
    assert SECRET.decode() not in str(refused.value)


def test_a_remembered_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(SECRET)
    token = issue(SECRET, "alice", ["claim"], 60).encode()
    verifier.verify(token)
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 61)
    with pytest.raises(InvalidTokenError, match="expired"):
        verifier.verify(token)


def test_the_memory_of_tokens_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(SECRET, cached_max=2)
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


@pytest.mark.parametrize(
    ("user", "scopes", "ttl_s", "named"),
    [("a b", ["claim"], 60, "a b"), ("alice", ["claim", "root"], 60, "root"), ("alice", ["claim"], 0, "second")],
)
def test_what_cannot_be_a_token_is_not_issued(user: str, scopes: list[str], ttl_s: int, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        issue(SECRET, user, scopes, ttl_s)


def made_settings(data_dir: Path, secret: str | None = None) -> Settings:
    return Settings.model_validate({"data_dir": data_dir, "auth_secret": secret})


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    settings = made_settings(tmp_path / "new" / "data")
    secret = load_secret(settings)
    path = settings.data_dir / "auth-secret"
    assert load_secret(settings) == secret
    assert len(secret) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in settings.data_dir.iterdir()] == ["auth-secret"]


def test_many_first_starts_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    settings = made_settings(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: load_secret(settings), range(64)))
    assert len(secrets) == 1


def test_the_environments_secret_comes_first(tmp_path: Path) -> None:
    assert load_secret(made_settings(tmp_path, "e" * 32)) == b"e" * 32
    assert not (tmp_path / "auth-secret").exists()


def test_a_short_secret_is_refused_without_being_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"HONGBAO_AUTH_SECRET has 31 bytes") as refused:
        load_secret(made_settings(tmp_path, "q" * 31))
    assert "qq" not in str(refused.value)
    (tmp_path / "auth-secret").write_text("short\n")
    with pytest.raises(OperatorError, match=r"auth-secret has 5 bytes"):
        load_secret(made_settings(tmp_path))


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"auth-secret cannot be read or made: "):
        load_secret(made_settings(tmp_path / "file"))
