"""Bearer tokens: JWTs signed with HS256, and the secret they are signed with.

``sub`` is the user, ``exp`` is required, ``scope`` is a space-separated list of ``SCOPES``; others in it are ignored.
"""

import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import jwt

from engine.errors import InvalidTokenError, OperatorError
from engine.settings import Settings
from engine.users import USER_ID_RULE, is_user_id

SCOPES = ("send", "claim", "act", "admin")
SECRET_BYTES_MIN = 32
TOKEN_BYTES_MAX = 4_096
_ALGORITHM = "HS256"
_CACHED_MAX = 16_384


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """What a genuine token says. ``expires_at_s``: seconds since the epoch."""

    user_id: str
    scopes: frozenset[str]
    expires_at_s: float


def issue(secret: bytes, user: str, scopes: Iterable[str], ttl_s: int) -> str:
    """A token for ``user`` that holds for ``ttl_s`` seconds. Raises OperatorError for what cannot be a token."""
    wanted = list(dict.fromkeys(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown:
        raise OperatorError(f"There is no scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}.")
    if not is_user_id(user):
        raise OperatorError(f"The user {user!r} {USER_ID_RULE}.")
    if ttl_s < 1:
        raise OperatorError("A token must hold for at least one second.")
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + ttl_s, "scope": " ".join(wanted)}
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


class Verifier:
    """Tells genuine tokens from others. Remembers the last ones it has seen, so that a repeat costs a lookup."""

    def __init__(self, secret: bytes, *, cached_max: int = _CACHED_MAX) -> None:
        self._secret = secret
        self._cached_max = cached_max
        self._cached: dict[bytes, TokenClaims] = {}

    def verify(self, token: bytes) -> TokenClaims:
        """The token's claims. Raises InvalidTokenError (forged, expired, not of this form)."""
        claims = self._cached.get(token)
        if claims is None:
            claims = self._decoded(token)
            if len(self._cached) >= self._cached_max:
                del self._cached[next(iter(self._cached))]
            self._cached[token] = claims
        if claims.expires_at_s <= time.time():
            self._cached.pop(token, None)
            raise InvalidTokenError("The token has expired.")
        return claims

    def remembered(self, token: bytes) -> TokenClaims | None:
        """The claims of a token that was verified before and has not expired; None says nothing about it."""
        claims = self._cached.get(token)
        return claims if claims is not None and claims.expires_at_s > time.time() else None

    def _decoded(self, token: bytes) -> TokenClaims:
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidTokenError(f"The token is longer than {TOKEN_BYTES_MAX} bytes.")
        try:
            payload = jwt.decode(
                token, self._secret, algorithms=[_ALGORITHM], options={"require": ["exp", "sub"], "verify_iat": False}
            )
            expires_at_s = float(payload["exp"])
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError("The token has expired.") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidTokenError(f"The token lacks the claim {error.claim}.") from None
        # Not only PyJWT's own: a header nested deeply, or an infinite exp, fails below it.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidTokenError("The token is not one of ours.") from None
        user_id, scope = payload["sub"], payload.get("scope", "")
        if not isinstance(user_id, str) or not is_user_id(user_id) or not isinstance(scope, str):
            raise InvalidTokenError("The token's sub must be a user id and its scope a string.")
        return TokenClaims(user_id, frozenset(scope.split()).intersection(SCOPES), expires_at_s)


def load_secret(settings: Settings) -> bytes:
    """The signing secret: HONGBAO_AUTH_SECRET, else the one in the data directory, made there on first use.

    Raises OperatorError when it is too short, or cannot be read or made.
    """
    if settings.auth_secret is not None:
        return _long_enough(settings.auth_secret.get_secret_value().encode(), "HONGBAO_AUTH_SECRET")
    path = settings.data_dir / "auth-secret"
    try:
        if not path.exists():
            _make_secret(path)
        return _long_enough(path.read_bytes().strip(), f"The secret in {path}")
    except OSError as error:
        raise OperatorError(f"The secret {path} cannot be read or made: {error.strerror or error}.") from None


def _long_enough(secret: bytes, name: str) -> bytes:
    if len(secret) < SECRET_BYTES_MIN:
        raise OperatorError(f"{name} has {len(secret)} bytes; it needs at least {SECRET_BYTES_MIN}.")
    return secret


def _make_secret(path: Path) -> None:
    """Write a secret whole (mode 0600) and give it its name only if no one has: the first of several starts wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as file:  # made with mode 0600
        file.write(secrets.token_hex(SECRET_BYTES_MIN).encode())
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            return
