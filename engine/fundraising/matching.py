"""Matches: for each fen that is given to a fundraiser, a merchant adds so much, up to a budget."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.errors import (
    FieldProblem,
    InsufficientFundsError,
    InvalidFieldsError,
    NotMerchantError,
    TooManyMatchesError,
    UnknownFundraiserError,
)
from engine.fundraising.admission import SQL, TOO_LITTLE, admit, lock_open
from engine.fundraising.terms import amount_problems
from engine.ledger import idempotency
from engine.ledger.database import Connection, ledger_errors
from engine.ledger.money import move
from engine.risk import watch
from engine.risk.freezes import Freezes
from engine.risk.limits import AccountKind
from engine.settings import Settings

MATCH = "match"
MATCHES_MAX = 10
"""How many matches a fundraiser can have: each gift goes through all of them."""
PERCENT_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchMade:
    """The answer to a match. ``transfer_id``: the ledger entry of its budget."""

    match_id: str
    fundraiser_id: str
    percent: int
    budget_fen: int
    transfer_id: str
    created_at_ms: int
    replayed: bool


class Matching:
    """Use cases of merchants who match. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, freezes: Freezes) -> None:
        self._pool, self._settings, self._freezes = pool, settings, freezes

    async def match(
        self,
        fundraiser_id: str,
        merchant: str,
        *,
        percent: int,
        budget_fen: int,
        address: str = "",
        idempotency_key: str,
        request_hash: bytes,
    ) -> MatchMade:
        """Match later gifts to a fundraiser, once per merchant and Idempotency-Key. The budget is paid at once.

        Raises InvalidFieldsError, UnknownFundraiserError, NotMerchantError, FundraiserEndedError, TooManyMatchesError,
        as ``limits.admit`` does, and as ``idempotency.once`` does.
        """

        async def check() -> None:
            problems = amount_problems("budget_fen", budget_fen)
            if not 1 <= percent <= PERCENT_MAX:
                problems.append(FieldProblem("percent", f"must be from 1 to {PERCENT_MAX}"))
            if problems:
                raise InvalidFieldsError(problems)
            with ledger_errors():
                if await self._pool.fetchrow(SQL["fundraiser"], int(fundraiser_id)) is None:
                    raise UnknownFundraiserError("No fundraiser has this number.")

        async def work(connection: Connection, _: None) -> dict[str, Any]:
            if await connection.fetchval(SQL["merchant_kind"], merchant) != AccountKind.MERCHANT:
                raise NotMerchantError("Only a merchant can match gifts.")
            wallet = await admit(
                connection, self._settings, merchant, budget_fen, what=MATCH, address=address, field="budget_fen"
            )
            return await _pay(connection, fundraiser_id, wallet, (merchant, percent, budget_fen))

        request = idempotency.Request(
            principal=merchant, operation="match", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        if not answered.replayed:
            await watch.freeze_if_large(self._freezes, self._settings, merchant, budget_fen, what=MATCH)
        return MatchMade(**answered.answer, replayed=answered.replayed)


async def _pay(connection: Connection, fundraiser_id: str, wallet: int, terms: tuple[str, int, int]) -> dict[str, Any]:
    """Pay for a match and record it. ``terms``: the merchant, the percent and the budget."""
    merchant, percent, budget_fen = terms
    fund = await lock_open(connection, fundraiser_id)
    at_ms = fund.now_ms
    if fund.match_count >= MATCHES_MAX:
        raise TooManyMatchesError(f"A fundraiser can have {MATCHES_MAX} matches.")
    account_id = await connection.fetchval(SQL["new_fund"])
    transfer_id = await move(
        connection, "match_budget", payer=wallet, payee=account_id, amount_fen=budget_fen, at_ms=at_ms
    )
    if transfer_id is None:
        raise InsufficientFundsError(TOO_LITTLE, "budget_fen")
    values = (int(fundraiser_id), merchant, percent, budget_fen, account_id, at_ms, transfer_id)
    return {
        "match_id": str(await connection.fetchval(SQL["add_match"], *values)),
        "fundraiser_id": fundraiser_id,
        "percent": percent,
        "budget_fen": budget_fen,
        "transfer_id": str(transfer_id),
        "created_at_ms": at_ms,
    }
