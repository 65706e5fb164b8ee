"""An OpenID provider: discovery, the code flow with PKCE, and the check of its ID token.

Authlib makes the requests' parameters and checks the claims, joserfc checks the signature, and httpx carries them. What
the provider answers is bounded in bytes and time, and is sent to no other address.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import orjson
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from api.console.openid.claims import Vouched
from engine import urls
from engine.operators.refusals import ProviderAwayError, ProviderRefusedError
from engine.settings import Settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures with a public key, whatever the provider announces: not ``none``, nor one by a shared secret."""
LEEWAY_S = 60
"""How far the provider's clock may differ."""
METADATA_S = 600
"""How long the provider's document holds."""
TIMEOUT_S = 5.0
KEYS_MAX = 100
ANSWER_BYTES_MAX = 262_144
_WELL_KNOWN = "/.well-known/openid-configuration"
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_SECRET_POST, _SECRET_BASIC = "client_secret_post", "client_secret_basic"  # names of methods
Json = Mapping[str, Any]


class Provider:
    """The provider of the settings. ``redirect_uri``: where it sends people back."""

    def __init__(self, settings: Settings, redirect_uri: str) -> None:
        secret = settings.console_oidc_client_secret
        self._issuer = settings.console_oidc_issuer or ""
        self._client_id = settings.console_oidc_client_id or ""
        self._secret = "" if secret is None else secret.get_secret_value()
        self._claim = settings.console_oidc_claim
        self._factors = {name.strip() for name in settings.console_oidc_second_factor.split(",")} - {""}
        self._redirect_uri = redirect_uri
        self._metadata: Json = {}
        self._read_at_s = 0.0
        self._reading = asyncio.Lock()

    async def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """As SingleSignOn has it."""
        found = await self._found()
        url: str = prepare_grant_uri(
            found["authorization_endpoint"],
            client_id=self._client_id,
            response_type="code",
            redirect_uri=self._redirect_uri,
            scope="openid email" if self._claim == "email" else "openid profile",
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return url

    async def vouched(self, *, code: str, issuer: str, nonce: str, verifier: str) -> Vouched:
        """As SingleSignOn has it."""
        found = await self._found()
        if issuer != self._issuer and (issuer or found.get("authorization_response_iss_parameter_supported") is True):
            raise ProviderRefusedError("the way back names another issuer, or none")
        token = await self._exchanged(found, code, verifier)
        keys = await _asked("GET", found["jwks_uri"])
        return self._named(self._checked(token, keys, nonce))

    async def _found(self) -> Json:
        """The provider's document, which is read again after ten minutes."""
        async with self._reading:
            if not self._metadata or monotonic() - self._read_at_s > METADATA_S:
                found = await _asked("GET", self._issuer.rstrip("/") + _WELL_KNOWN)
                if found.get("issuer") != self._issuer:
                    raise ProviderRefusedError("its document names another issuer than HONGBAO_CONSOLE_OIDC_ISSUER")
                for name in _ENDPOINTS:
                    _check_endpoint(name, found.get(name))
                self._metadata, self._read_at_s = found, monotonic()
            return self._metadata

    async def _exchanged(self, found: Json, code: str, verifier: str) -> Json:
        """What the code is worth. A code that was used is refused by the provider."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri}
        form |= {"code_verifier": verifier, "client_id": self._client_id}
        methods = found.get("token_endpoint_auth_methods_supported") or [_SECRET_BASIC]
        basic = None
        if _SECRET_BASIC not in methods and _SECRET_POST in methods:
            form["client_secret"] = self._secret
        else:  # RFC 6749, 2.3.1: both are encoded first
            basic = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._secret, safe=""))
        return await _asked("POST", found["token_endpoint"], body=urlencode(form).encode(), auth=basic)

    def _checked(self, token: Json, keys: Json, nonce: str) -> Json:
        """The claims of an ID token that holds: signature, issuer, audience, times, nonce."""
        text = token.get("id_token")
        if not isinstance(text, str):
            raise ProviderRefusedError("it sent no ID token")
        options = {
            "iss": {"essential": True, "value": self._issuer},
            "aud": {"essential": True, "value": self._client_id},
        }
        parameters = {"nonce": nonce, "client_id": self._client_id, "access_token": token.get("access_token")}
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        try:
            signed = jwt.decode(text, KeySet.import_key_set({"keys": _signing(keys)}), registry=registry)
            claims = CodeIDToken(signed.claims, signed.header, options, parameters)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:  # whatever the provider has sent
            raise ProviderRefusedError(f"its ID token does not hold: {type(error).__name__}: {error}") from None
        return dict(claims)

    def _named(self, claims: Json) -> Vouched:
        """Whom it names, and how they were asked."""
        name = claims.get(self._claim)
        if not isinstance(name, str) or not name:
            raise ProviderRefusedError(f"its ID token has no {self._claim}")
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise ProviderRefusedError("its ID token has an email that was not verified")
        methods = claims.get("amr") or []
        said = {method for method in (*methods, claims.get("acr")) if isinstance(method, str)}
        return Vouched(name=name, has_second_factor=bool(self._factors & said))


def _signing(keys: Json) -> list[Any]:
    """Those of the provider's keys that can have signed an ID token. It may have others, of kinds we do not know."""
    found = [key for key in keys.get("keys") or [] if key.get("kty") in ("RSA", "EC")]
    return [key for key in found if key.get("use", "sig") == "sig"][:KEYS_MAX]


async def _asked(method: str, url: str, *, body: bytes | None = None, auth: httpx.Auth | None = None) -> Json:
    """A JSON object of the provider. Raises ProviderAwayError, ProviderRefusedError."""
    # No proxies or certificates from the environment: only the settings read that.
    client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
    try:
        async with (
            asyncio.timeout(2 * TIMEOUT_S),
            client,
            client.stream(method, url, content=body, headers=_FORM if body else {}, auth=auth) as response,
        ):
            text = b""
            async for piece in response.aiter_bytes():
                text += piece
                if len(text) > ANSWER_BYTES_MAX:
                    raise ProviderRefusedError(f"it sent more than {ANSWER_BYTES_MAX} bytes")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise ProviderAwayError(f"it does not answer: {type(error).__name__}") from None
    if response.status_code >= 500:
        raise ProviderAwayError(f"it answers {response.status_code}")
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        answer = None
    if response.status_code != 200 or not isinstance(answer, dict):
        why = answer.get("error") if isinstance(answer, dict) else ""
        raise ProviderRefusedError(f"it answers {response.status_code} {why if isinstance(why, str) else ''}".strip())
    return answer


def _check_endpoint(name: str, url: object) -> None:
    try:
        if not isinstance(url, str):
            raise ValueError("it is missing")
        urls.check_provider(url)
    except ValueError as error:
        raise ProviderRefusedError(f"its document has an unusable {name}: {error}") from None
