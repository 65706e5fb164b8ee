"""A small OpenID provider on a socket of this machine. It keeps the rules, unless a test has it break one.

It signs by PyJWT, which is another library than the one that the console checks with.
"""

import asyncio
import base64
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from time import time
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import jwt
import orjson
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from engine.settings import Settings
from tests.support.waiting import wait_until

CLIENT_ID, CLIENT_SECRET = "console of tests", "a secret: with/signs"
KEY_ID = "first"
Json = dict[str, Any]


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


@dataclass
class OpenIdProvider:
    """``person``: the claims about who is at the browser. ``alter`` changes a token's claims before it is signed."""

    issuer: str
    person: Json = field(default_factory=lambda: {"sub": "1", "preferred_username": "ann"})
    alter: Callable[[Json], Json] = lambda claims: claims
    sign: Callable[[Json, "OpenIdProvider"], str] = lambda claims, provider: provider.signed(claims)
    document: Json = field(default_factory=dict)
    checks_verifier: bool = True
    key: rsa.RSAPrivateKey = field(default_factory=_key)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def settings(self, settings: Settings, **more: str) -> Settings:
        """The settings of a console that uses it."""
        values: Json = {
            **settings.model_dump(),
            "console_oidc_issuer": self.issuer,
            "console_oidc_client_id": CLIENT_ID,
            "console_oidc_client_secret": CLIENT_SECRET,
            **{f"console_oidc_{name}": value for name, value in more.items()},
        }
        return Settings(**values)

    def signed(self, claims: Json, algorithm: str = "RS256", key: Any = None) -> str:  # noqa: ANN401  # any kind of key
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers={"kid": KEY_ID})

    def app(self) -> Starlette:
        """Its four resources."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._document),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/jwks", self._keys),
            ]
        )

    async def _document(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse({**found, **self.document})

    async def _authorize(self, request: Request) -> Response:
        """The person is signed in here and has agreed: the browser goes straight back."""
        query = dict(request.query_params)
        assert (query["client_id"], query["response_type"]) == (CLIENT_ID, "code")
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
        return RedirectResponse(f"{query['redirect_uri']}?{back}", status_code=302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode().partition(":")
        assert (unquote(given[0]), unquote(given[2])) == (CLIENT_ID, CLIENT_SECRET)
        query = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        is_proved = not self.checks_verifier or (query or {}).get("code_challenge") == challenge
        if query is None or not is_proved or query["redirect_uri"] != form["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now_s = int(time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + 300, "nonce": query["nonce"]}
        token = self.sign(self.alter({**claims, **self.person}), self)
        return JSONResponse({"access_token": "unused", "token_type": "Bearer", "id_token": token})

    async def _keys(self, _request: Request) -> Response:
        known = orjson.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return JSONResponse({"keys": [{"kty": "OKP", "kid": "other"}, {**known, "kid": KEY_ID, "use": "sig"}]})


@asynccontextmanager
async def openid_provider(host: str = "127.0.0.1") -> AsyncIterator[OpenIdProvider]:
    """A provider until the end of the block. ``host``: the name by which browsers know this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    provider = OpenIdProvider(f"http://{host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(provider.app(), http="h11", lifespan="off", ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([listener]))
    await wait_until(lambda: server.started, what="the provider listening")
    try:
        yield provider
    finally:
        server.should_exit = True
        await task
