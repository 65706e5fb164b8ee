"""Operators' passwords: what they must be, and their argon2id hashes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from engine.errors import OverloadedError
from engine.operators.refusals import WeakPasswordError

CHARACTERS_MIN, CHARACTERS_MAX = 12, 128
HASHED_AT_ONCE = 2
"""How many hashes a process computes at a time. Each needs some tens of MiB, and a core."""
WAITING_MAX = 20
"""A sign-in is refused if more than this many wait ahead of it."""
_DIFFERENT_MIN = 5


def check_strength(name: str, password: str) -> None:
    """Raise WeakPasswordError if an operator of this name must not use the password."""
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        raise WeakPasswordError(f"The password must have {CHARACTERS_MIN} to {CHARACTERS_MAX} characters.")
    if name.casefold() in password.casefold() and len(name) >= 3:
        raise WeakPasswordError("The password must not contain the operator's name.")
    if len(set(password)) < _DIFFERENT_MIN:
        raise WeakPasswordError(f"The password must have at least {_DIFFERENT_MIN} different characters.")


class Passwords:
    """Hashes and compares."""

    def __init__(self, hash_kib: int) -> None:
        self._hasher = PasswordHasher(memory_cost=hash_kib)
        self._turns = asyncio.Semaphore(HASHED_AT_ONCE)
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """The hash that is kept."""
        async with self.turn():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password. ``hashed`` None: it is not, which takes as long to say. Call it in a ``turn``."""
        return await asyncio.to_thread(self._matches, hashed, password)

    def _matches(self, hashed: str | None, password: str) -> bool:
        if self._nobodys is None:
            self._nobodys = self._hasher.hash("nobody has this password")
        try:
            return self._hasher.verify(hashed or self._nobodys, password) and hashed is not None
        except (VerifyMismatchError, InvalidHashError):
            return False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn to compare. Take it before a connection: who waits must not hold one.

        Raises OverloadedError.
        """
        if self._waiting >= WAITING_MAX:
            raise OverloadedError("Too many sign-ins are waiting to be checked.")
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1
