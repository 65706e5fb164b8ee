"""The two clients of the Python package as one, so that a test says once what must hold of both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from hongbao_client import AsyncClient, Client, Retries
from hongbao_client.tokens import TokenProvider

Kind = Literal["sync", "async"]
KINDS: tuple[Kind, ...] = ("sync", "async")
QUICK = Retries(tries_max=4, deadline_s=20.0, timeout_s=1.0, backoff_s=0.01, backoff_s_max=0.05)
"""For tests in which answers get lost."""


class Both:
    """A client of either kind. Whoever waits for the one with threads does not stop the loop."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def ask(self, name: str, *args: object, **fields: object) -> Any:  # noqa: ANN401  # any method's
        """Call a method by its name, as ``packets.send``."""
        noun, _, method = name.partition(".")
        called: Callable[..., Any] = getattr(getattr(self.client, noun), method)
        if isinstance(self.client, AsyncClient):
            return await called(*args, **fields)
        return await asyncio.to_thread(called, *args, **fields)

    async def all(self, name: str, *args: object, **fields: object) -> list[Any]:
        """All that an iterator returns."""
        noun, _, method = name.partition(".")
        found = getattr(getattr(self.client, noun), method)(*args, **fields)
        if isinstance(self.client, AsyncClient):
            return [each async for each in found]
        return await asyncio.to_thread(list, found)

    def acting_for(self, user_id: str) -> "Both":
        """The same for a user."""
        return Both(self.client.acting_for(user_id))


@asynccontextmanager
async def client_of(
    kind: Kind, url: str, token: str | TokenProvider | None, retries: Retries = QUICK
) -> AsyncIterator[Both]:
    """A client of this kind, closed after the block."""
    if kind == "async":
        async with AsyncClient(url, token=token, retries=retries) as client:
            yield Both(client)
    else:
        with Client(url, token=token, retries=retries) as threaded:
            yield Both(threaded)
