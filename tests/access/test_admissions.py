"""Admissions: what a backend signs lets in whom it names, and nothing else does."""

import time
from typing import Any

import jwt
import pytest

from engine.access.admissions import AUDIENCE, Admission, Admissions
from engine.access.keyring import Keyring, Secret
from engine.access.tokens import Verifier, issue
from engine.errors import InvalidTokenError, NotInvitedError

SECRET = b"a secret of the tests, 32 bytes or more"
KEYS = Keyring([Secret("new", SECRET), Secret(None, SECRET[::-1])])
ADMISSIONS = Admissions(KEYS)
DAY_S = 86_400
"""Some are signed when the tests are collected, long before they run."""


def signed(secret: bytes = SECRET, key_id: str | None = "new", **changed: Any) -> str:  # noqa: ANN401
    claims = {"aud": AUDIENCE, "sub": "ada", "campaign": "7", "exp": int(time.time()) + DAY_S} | changed
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, secret, algorithm="HS256", headers={} if key_id is None else {"kid": key_id})


def test_what_is_signed_is_read() -> None:
    text = ADMISSIONS.sign("ada", "7", wins_max=3, expires_at_s=int(time.time()) + 60)
    assert ADMISSIONS.read(text) == Admission(user_id="ada", campaign_id="7", wins_max=3)
    of_group = signed(SECRET[::-1], None, campaign=None, label="staff", wave=2)
    assert ADMISSIONS.read(of_group) == Admission(user_id="ada", label="staff", wave=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "form"),
        ("a.b.c", "form"),
        ("x" * 5_000, "4096 bytes"),
        (signed(b"another secret of the tests, 32 bytes"), "signature"),
        (signed(key_id="old"), "signature"),
        (signed(exp=int(time.time()) - 5), "expired"),
        (signed(nbf=int(time.time()) + DAY_S), "yet"),
        (signed(exp=None), "form"),
        (signed(sub=None), "form"),
        (signed(aud=None), "aud"),
        (signed(aud="another"), "aud"),
        (signed(campaign=7), "text"),
        (signed(label=["a"]), "text"),
        (signed(wins=0), "whole"),
        (signed(wins=True), "whole"),
        (signed(wave="1"), "whole"),
        (signed(wins=2**40), "whole"),
    ],
)
def test_anything_else_lets_nobody_in(text: str, told: str) -> None:
    with pytest.raises(NotInvitedError, match=told):
        ADMISSIONS.read(text)


def test_neither_stands_for_the_other() -> None:
    """A bearer token is no admission, and an admission is no bearer token."""
    with pytest.raises(NotInvitedError):
        ADMISSIONS.read(issue(SECRET, "ada", ["claim"], 60, key_id="new"))
    with pytest.raises(InvalidTokenError):
        Verifier(KEYS).verify(signed(scope="admin").encode())
