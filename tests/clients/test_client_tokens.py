"""Tokens of the Python client: a provider is asked again after a 401, once; a signer's are what the server accepts."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hongbao_client import AsyncClient, NotAllowedError, Signer, TokenError
from hongbao_client.tokens import TokenProvider

from engine.settings import Settings
from tests.support.both_clients import KINDS, Kind, client_of
from tests.support.front import Client as Server
from tests.support.front import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(shared_settings: Settings) -> AsyncIterator[Server]:
    async with serving(shared_settings) as (serving_client, _):
        yield serving_client


def url_of(server: Server) -> str:
    return str(server.http.base_url)


class Provider:
    """Returns these tokens in turn, the last one for ever, and counts."""

    def __init__(self, *tokens: str) -> None:
        self._tokens, self.asked = list(tokens), 0

    def __call__(self) -> str:
        self.asked += 1
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_expired_token_is_renewed_once(server: Server, kind: Kind) -> None:
    signer = Signer(secret=server.secret)
    expired = Signer(secret=server.secret, ttl_s=-60).token("alice", ["send"])
    provider = Provider(expired, signer.token("alice", ["send"]))
    async with client_of(kind, url_of(server), provider) as client:
        for _ in range(3):
            assert (await client.ask("wallets.get", "alice")).balance_fen == 0
    assert provider.asked == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_provider_without_a_right_token_is_not_asked_for_ever(server: Server, kind: Kind) -> None:
    wrong = [Signer(secret=b"x" * 32).token("alice", ["send"]) for _ in range(9)]
    provider = Provider(*wrong, "not even a token")
    async with client_of(kind, url_of(server), provider) as client:
        with pytest.raises(TokenError) as raised:
            await client.ask("wallets.get", "alice")
    assert (raised.value.code, raised.value.status, raised.value.may_have_happened) == ("unauthorized", 401, False)
    assert provider.asked == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_that_lasts_is_not_tried_twice(server: Server, kind: Kind) -> None:
    async with client_of(kind, url_of(server), "forged") as client:
        with pytest.raises(TokenError) as raised:
            await client.ask("wallets.get", "alice")
    assert raised.value.tries == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_many_calls_that_are_refused_together_ask_for_one_token(server: Server, kind: Kind) -> None:
    """Also from threads, which share the client's connections."""
    signer = Signer(secret=server.secret)
    expired = Signer(secret=server.secret, ttl_s=-60).token("alice", ["send"])
    provider = Provider(expired, signer.token("alice", ["send"]))
    async with client_of(kind, url_of(server), provider) as client:
        found = await asyncio.gather(*(client.ask("wallets.get", "alice") for _ in range(20)))
    assert [wallet.balance_fen for wallet in found] == [0] * 20
    assert provider.asked == 2


async def test_a_provider_may_be_awaited(server: Server) -> None:
    signer = Signer(secret=server.secret)

    async def provider() -> str:
        await asyncio.sleep(0)
        return signer.token("alice", ["send"])

    async with AsyncClient(url_of(server), token=provider) as client:
        assert (await client.wallets.get("alice")).balance_fen == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_backend_acts_for_whom_it_names(server: Server, kind: Kind) -> None:
    tokens: TokenProvider = Signer(secret=server.secret).tokens("backend", "act")
    await server.deposit(f"payer-{kind}", 300)
    async with client_of(kind, url_of(server), tokens) as client:
        payer = client.acting_for(f"payer-{kind}")
        assert (await payer.ask("wallets.get", f"payer-{kind}")).balance_fen == 300
        with pytest.raises(NotAllowedError):
            await client.acting_for("stranger").ask("wallets.get", f"payer-{kind}")
        with pytest.raises(NotAllowedError) as raised:
            await client.ask("alerts.list")
        assert (raised.value.code, raised.value.tries) == ("forbidden", 1)
