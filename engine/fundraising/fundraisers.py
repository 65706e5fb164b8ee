"""An owner's fundraisers: making one, and ending it early."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.errors import FrozenError, NotSenderError, TooManyFundraisersError, UnknownFundraiserError
from engine.fundraising.terms import FundraiserTerms, check
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_change, ledger_errors
from engine.ledger.money import lock_wallet, now_ms
from engine.queries import load
from engine.settings import Settings

SQL = load("fundraising")


@dataclass(frozen=True, slots=True, kw_only=True)
class FundraiserMade:
    """The answer to making a fundraiser."""

    fundraiser_id: str
    created_at_ms: int
    ends_at_ms: int
    replayed: bool


class Fundraisers:
    """An owner's use cases. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool, self._settings = pool, settings

    async def make(
        self, owner: str, terms: FundraiserTerms, *, idempotency_key: str, request_hash: bytes
    ) -> FundraiserMade:
        """Make a fundraiser, which is open at once. Costs nothing.

        Raises InvalidFieldsError, FrozenError, TooManyFundraisersError, and as ``idempotency.once`` does.
        """

        async def checked() -> None:
            with ledger_errors():
                at_ms = await now_ms(self._pool)
            check(terms, at_ms)

        async def work(connection: Connection, _: None) -> dict[str, Any]:
            # The wallet is locked, so that of two requests at once the second sees the first's fundraiser.
            if (await lock_wallet(connection, owner)).frozen:
                raise FrozenError("This account is frozen and cannot raise funds.")
            most = self._settings.open_fundraisers_max
            if await connection.fetchval(SQL["open_of_owner"], owner) >= most:
                raise TooManyFundraisersError(f"A user can have {most} open fundraisers.")
            at_ms = await now_ms(connection)
            values = (owner, terms.beneficiary, terms.title, terms.story, terms.goal_fen, terms.mode.value)
            number = await connection.fetchval(SQL["add"], *values, at_ms, terms.ends_at_ms)
            return {"fundraiser_id": str(number), "created_at_ms": at_ms, "ends_at_ms": terms.ends_at_ms}

        request = idempotency.Request(
            principal=owner, operation="fundraiser", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=checked, work=work)
        return FundraiserMade(**answered.answer, replayed=answered.replayed)

    async def end(self, fundraiser_id: str, owner: str) -> None:
        """End a fundraiser now, as if its time were over. A repeat changes nothing.

        Raises UnknownFundraiserError, NotSenderError.
        """
        with ledger_errors(is_undone=True):
            row = await self._pool.fetchrow(SQL["fundraiser"], int(fundraiser_id))
        if row is None:
            raise UnknownFundraiserError("No fundraiser has this number.")
        if row["owner"] != owner:
            raise NotSenderError("Only its owner can end a fundraiser.")
        await set_ended(self._pool, fundraiser_id)


async def set_ended(pool: asyncpg.Pool, fundraiser_id: str) -> None:
    """End a fundraiser, if it is open. The sweeper then decides and settles it. Raises UnavailableError."""
    async with ledger_change(pool) as connection:
        await connection.execute(SQL["end"], int(fundraiser_id))
