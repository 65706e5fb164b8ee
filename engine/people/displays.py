"""Display names: what others see of a user in place of the id. They can be deleted, and no record of money has them."""

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from engine.errors import FieldProblem, InvalidFieldsError
from engine.ledger.database import ledger_change, ledger_errors
from engine.queries import load
from engine.text import TEXT_RULE, is_readable

SQL = load("displays")
NAME_LENGTH_MAX = 32
_HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """What others see of a user. ``name`` None: the user has not chosen one, and ``masked_id`` stands for it."""

    user_id: str
    name: str | None
    masked_id: str


class Displays:
    """Use cases of display names. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, user_id: str) -> Display:
        """What others see of a user, whether they have a wallet or not."""
        return _display(user_id, (await self.names_of([user_id])).get(user_id))

    async def put(self, user_id: str, name: str) -> Display:
        """Give a user a name, in place of the one before. Raises InvalidFieldsError."""
        if not 1 <= len(name) <= NAME_LENGTH_MAX:
            raise InvalidFieldsError([FieldProblem("name", f"must have 1 to {NAME_LENGTH_MAX} characters")])
        if not is_readable(name):
            raise InvalidFieldsError([FieldProblem("name", TEXT_RULE)])
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["put"], user_id, name)
        return _display(user_id, name)

    async def delete(self, user_id: str) -> Display:
        """Forget a user's name, if there is one. Nothing of it is kept."""
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["delete"], user_id)
        return _display(user_id, None)

    async def names_of(self, user_ids: Collection[str]) -> dict[str, str]:
        """The names of those of these users who have one."""
        if not user_ids:
            return {}
        with ledger_errors():
            rows = await self._pool.fetch(SQL["names"], list(user_ids))
        return {row["user_id"]: row["name"] for row in rows}


def masked(user_id: str) -> str:
    """A user's id with nothing but its first and its last character, so that users know their own and no one else's."""
    return f"{user_id[0]}{_HIDDEN}{user_id[-1] if len(user_id) > 2 else ''}"


def _display(user_id: str, name: str | None) -> Display:
    return Display(user_id=user_id, name=name, masked_id=masked(user_id))
