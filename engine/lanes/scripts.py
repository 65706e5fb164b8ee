"""Loads a Lua script from ``lua/`` and calls it by its hash."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Send = Callable[..., Awaitable[Any]]
"""Sends one command to Redis, word by word, and returns the reply."""


class Script:
    """One script. ``call`` also works if the server has forgotten it (a restart, SCRIPT FLUSH)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = files("lua").joinpath(f"{name}.lua").read_bytes()
        # Redis names scripts by their SHA-1. Nothing here depends on its strength.
        self.sha1 = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    async def call(self, send: Send, keys: Sequence[str], arguments: Sequence[str | int]) -> list[Any]:
        """Run it. Raises redis.exceptions.RedisError as ``send`` does."""
        try:
            reply: list[Any] = await send("EVALSHA", self.sha1, len(keys), *keys, *arguments)
        except NoScriptError:
            reply = await send("EVAL", self.source, len(keys), *keys, *arguments)
        return reply
