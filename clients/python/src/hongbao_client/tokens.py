"""Bearer tokens: one that lasts, a provider that is asked for the next one, or a secret to sign them with."""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

TokenProvider = Callable[[], str]
"""Returns a token. It is asked once, and again when the server has refused the last one (401)."""
AsyncTokenProvider = Callable[[], Awaitable[str] | str]
"""The same for ``AsyncClient``; it may also be a plain function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs tokens and admissions with a secret of the server (HS256). For backends; needs the extra ``tokens``.

    ``secret``: one of HONGBAO_AUTH_SECRETS. ``key_id``: its name there. ``ttl_s``: how long each token lasts.
    """

    secret: str | bytes = field(repr=False)
    key_id: str | None = None
    ttl_s: int = 600

    def token(self, subject: str, scopes: Iterable[str]) -> str:
        """A token of ``subject`` with some of the scopes send, claim, act, admin."""
        return self._signed({"sub": subject, "scope": " ".join(scopes)})

    def tokens(self, subject: str, *scopes: str) -> TokenProvider:
        """A provider of such tokens: a new one each time."""
        return lambda: self.token(subject, scopes)

    def admission(self, user_id: str, campaign_id: str, *, wins_max: int | None = None) -> str:
        """What lets a user grab in a campaign for the admitted. ``wins_max``: how many shares they may win in all."""
        named = {"aud": "campaign", "sub": user_id, "campaign": campaign_id}
        return self._signed(named if wins_max is None else named | {"wins": wins_max})

    def _signed(self, claims: dict[str, Any]) -> str:
        try:
            import jwt  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise ImportError("Signer needs PyJWT: pip install 'hongbao-client[tokens]'") from error
        at_s = int(time.time())
        headers = None if self.key_id is None else {"kid": self.key_id}
        key = self.secret.encode() if isinstance(self.secret, str) else self.secret
        return jwt.encode({**claims, "iat": at_s, "exp": at_s + self.ttl_s}, key, algorithm="HS256", headers=headers)
