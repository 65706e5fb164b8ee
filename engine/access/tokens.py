"""Bearer tokens: JWTs signed with HS256 (``engine.access.keyring`` has the secrets).

``sub`` is the user, ``exp`` is required, ``nbf`` is honoured. ``scope`` is a space-separated list of ``SCOPES``; other
scopes are ignored. The header's ``kid`` names the secret. PyJWT compares signatures in constant time.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt

from engine.access import keyring
from engine.access.keyring import ALGORITHM, Keyring
from engine.errors import InvalidTokenError, OperatorError
from engine.ids import USER_ID_RULE, is_user_id
from engine.settings import Settings

SCOPES = ("send", "claim", "act", "admin")
TOKEN_BYTES_MAX = 4_096
_CACHED_MAX = 16_384


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """A valid token's claims. ``expires_at_s``: its ``exp`` plus the leeway, in seconds since the epoch."""

    user_id: str
    scopes: frozenset[str]
    expires_at_s: float

    def is_in_force(self) -> bool:
        """Whether it has not expired."""
        return self.expires_at_s > time.time()


def issue(secret: bytes, user: str, scopes: Iterable[str], ttl_s: int, *, key_id: str | None = None) -> str:
    """A token for ``user``, valid for ``ttl_s`` seconds. Raises OperatorError for invalid values.

    ``key_id``: the secret's, if it has one.
    """
    wanted = list(dict.fromkeys(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown:
        raise OperatorError(f"There is no scope {unknown[0]!r}; the scopes are {', '.join(SCOPES)}.")
    if not is_user_id(user):
        raise OperatorError(f"The user {user!r} {USER_ID_RULE}.")
    if ttl_s < 1:
        raise OperatorError("A token's lifetime must be at least one second.")
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + ttl_s, "scope": " ".join(wanted)}
    headers = None if key_id is None else {"kid": key_id}
    return jwt.encode(claims, secret, algorithm=ALGORITHM, headers=headers)


def issue_by(settings: Settings, user: str, scopes: Iterable[str], ttl_s: int, key_id: str | None = None) -> str:
    """A token that servers with these settings accept, signed with the secret of this key id.

    ``key_id`` None: the secret that signs. Raises as ``issue`` does, and for a lifetime that the servers would refuse.
    """
    if ttl_s > settings.token_ttl_s_max:
        raise OperatorError(
            f"A token's lifetime can be at most {settings.token_ttl_s_max} seconds (HONGBAO_TOKEN_TTL_S_MAX)."
        )
    secret = keyring.load(settings).named(key_id)
    return issue(secret.value, user, scopes, ttl_s, key_id=secret.key_id)


def load_secret(settings: Settings) -> bytes:
    """The secret of tokens without a key id. Raises OperatorError as ``keyring.load`` does."""
    return keyring.load(settings).unnamed


class Verifier:
    """Verifies tokens. It remembers the last valid ones, so that a repeat costs only a lookup.

    The lookup's duration reveals nothing: it compares hashes with this process's own key first, and bytes only if the
    hashes are equal.

    ``leeway_s``: how far this machine's clock and the issuer's may differ, for ``exp`` and ``nbf``. ``ttl_s_max``: a
    token's longest lifetime, counted from its ``iat`` (if any) and from now. None: no bound.
    """

    def __init__(
        self, keys: Keyring, *, leeway_s: int = 0, ttl_s_max: int | None = None, cached_max: int = _CACHED_MAX
    ) -> None:
        self._keys = keys
        self._leeway_s = leeway_s
        self._ttl_s_max = ttl_s_max
        self._cached_max = cached_max
        self._cached: dict[bytes, TokenClaims] = {}

    def verify(self, token: bytes) -> TokenClaims:
        """The token's claims. Raises InvalidTokenError (forged, expired, malformed)."""
        claims = self._cached.get(token)
        if claims is None:
            claims = self._decoded(token)
            if len(self._cached) >= self._cached_max:
                del self._cached[next(iter(self._cached))]
            self._cached[token] = claims
        if not claims.is_in_force():
            self._cached.pop(token, None)
            raise InvalidTokenError("The token has expired.")
        return claims

    def remembered(self, token: bytes) -> TokenClaims | None:
        """The claims of a remembered token that has not expired. None does not mean that the token is invalid."""
        claims = self._cached.get(token)
        # As ``is_in_force``, without its call, because this runs once per claim.
        return claims if claims is not None and claims.expires_at_s > time.time() else None

    def _decoded(self, token: bytes) -> TokenClaims:
        if len(token) > TOKEN_BYTES_MAX:
            raise InvalidTokenError(f"The token is longer than {TOKEN_BYTES_MAX} bytes.")
        try:
            payload = self._payload(token)
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError("The token has expired.") from None
        except jwt.ImmatureSignatureError:
            raise InvalidTokenError("The token is not valid yet.") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidTokenError(f"The token lacks the claim {error.claim}.") from None
        # Not only PyJWT's errors: a deeply nested header or an infinite exp fails in the layers below it.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidTokenError("The token's form or signature is not valid.") from None
        user_id, scope = payload["sub"], payload.get("scope", "")
        if not isinstance(user_id, str) or not is_user_id(user_id) or not isinstance(scope, str):
            raise InvalidTokenError("The token's sub must be a user id and its scope a string.")
        self._check_lifetime(payload)
        scopes = frozenset(scope.split()).intersection(SCOPES)
        return TokenClaims(user_id, scopes, float(payload["exp"]) + self._leeway_s)

    def _payload(self, token: bytes) -> dict[str, Any]:
        secret = self._keys.verifying(jwt.get_unverified_header(token).get("kid"))
        if secret is None:
            raise InvalidTokenError("The token's kid names no secret in force.")
        payload: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            options={"require": ["exp", "sub"], "verify_iat": False},
            leeway=self._leeway_s,
        )
        return payload

    def _check_lifetime(self, payload: dict[str, Any]) -> None:
        expires_at_s, issued_at_s = payload["exp"], payload.get("iat", 0)
        # PyJWT accepts text that looks like a number. RFC 7519 does not.
        if not isinstance(expires_at_s, int | float) or not isinstance(issued_at_s, int | float):
            raise InvalidTokenError("The token's exp and iat must be numbers.")
        began_at_s = time.time() if "iat" not in payload else min(issued_at_s, time.time())
        if self._ttl_s_max is not None and expires_at_s - began_at_s > self._ttl_s_max + self._leeway_s:
            raise InvalidTokenError(f"The token's lifetime is longer than {self._ttl_s_max} seconds.")
