"""What a browser keeps between leaving for the provider and being signed in: sealed, in a cookie, for minutes.

The key is this process's and ends with it. So nothing is kept on the server, where strangers could fill it, and what
was begun before a restart is begun again.
"""

import hmac
import secrets
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken
from starlette.responses import Response

from engine.operators.refusals import HandshakeEndedError

COOKIE = "__Host-hongbao-oidc"
LIFETIME_S = 300
NEXT_LENGTH_MAX = 1_000
"""A cookie has 4,096 bytes. A longer way leads to the overview."""
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """A browser that was sent to the provider. ``next``: where the person wanted to go."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def of(cls, wanted: str) -> "Leaving":
        """A new one."""
        state, nonce, verifier = (secrets.token_urlsafe(_RANDOM_BYTES) for _ in range(3))
        return cls(state=state, nonce=nonce, verifier=verifier, next=wanted if len(wanted) <= NEXT_LENGTH_MAX else "")

    def check_state(self, state: str) -> None:
        """Raise HandshakeEndedError unless the way back has the state that went out."""
        if not hmac.compare_digest(self.state.encode(), state.encode()):
            raise HandshakeEndedError("the state is not the one that was sent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Somebody whom the provider has vouched for, and whose code we still want. ``asked``: the log's row."""

    name: str
    asked: int
    next: str


class Handshakes:
    """Seals and opens these cookies."""

    def __init__(self) -> None:
        self._fernet = Fernet(Fernet.generate_key())

    def put(self, response: Response, step: Leaving | Waiting) -> Response:
        """Have the browser keep it. ``Lax``, because the way back comes from another site."""
        sealed = self._fernet.encrypt(orjson.dumps({"step": type(step).__name__, **asdict(step)})).decode()
        response.set_cookie(COOKIE, sealed, max_age=LIFETIME_S, secure=True, httponly=True, samesite="lax", path="/")
        return response

    def leaving(self, cookie: str) -> Leaving:
        """Raises HandshakeEndedError if it is no such cookie of this process, or too old."""
        return Leaving(**self._opened(cookie, Leaving))

    def waiting(self, cookie: str) -> Waiting:
        """The same."""
        return Waiting(**self._opened(cookie, Waiting))

    def _opened(self, cookie: str, kind: type) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads(self._fernet.decrypt(cookie.encode(), ttl=LIFETIME_S))
        except InvalidToken:
            raise HandshakeEndedError("the browser has no cookie of this, or one that is too old") from None
        if found.pop("step") != kind.__name__:
            raise HandshakeEndedError("the cookie is of another step")
        return found


def forget(response: Response) -> Response:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax", path="/")
    return response
