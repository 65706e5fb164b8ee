"""Fundraisers for tests: made, given to, matched, and brought to their end."""

from typing import Any
from uuid import uuid4

from engine.engine import Engine
from engine.fundraising.giving import GiftTerms, Given
from engine.fundraising.matching import MatchMade
from engine.fundraising.settling import settle_some
from engine.fundraising.terms import FundraiserTerms, Mode
from engine.fundraising.views import FundraiserState
from engine.ledger.money import now_ms
from engine.risk.limits import AccountKind
from tests.support.scenes import fund

HOUR_MS = 3_600_000
SETTLED = (FundraiserState.PAID_OUT, FundraiserState.RETURNED)


async def make_fundraiser(
    engine: Engine,
    *,
    goal_fen: int = 1_000,
    mode: Mode = Mode.ALL_OR_NOTHING,
    owner: str = "org",
    beneficiary: str = "school",
    **other: Any,  # noqa: ANN401  # those of ``FundraiserTerms``
) -> str:
    """A fundraiser that is open for an hour; its number."""
    values: dict[str, Any] = {
        "title": "图书馆",
        "story": "Books for the school.\nOne for each child.",
        "ends_at_ms": await now_ms(engine.pool) + HOUR_MS,
    }
    terms = FundraiserTerms(goal_fen=goal_fen, mode=mode, beneficiary=beneficiary, **values | other)
    made = await engine.fundraisers.make(owner, terms, idempotency_key=uuid4().hex, request_hash=b"make")
    return made.fundraiser_id


async def give(
    engine: Engine,
    fundraiser_id: str,
    giver: str = "ada",
    amount_fen: int | None = 100,
    *,
    key: str | None = None,
    has_money: bool = True,
    **terms: Any,  # noqa: ANN401  # those of ``GiftTerms``
) -> Given:
    """A gift that its giver was given the money for."""
    if has_money and amount_fen is not None:
        await fund(engine, giver, amount_fen)
    return await engine.giving.give(
        fundraiser_id,
        giver,
        GiftTerms(amount_fen=amount_fen, **terms),
        idempotency_key=key or uuid4().hex,
        request_hash=b"give",
    )


async def match(
    engine: Engine, fundraiser_id: str, merchant: str = "mall", *, percent: int = 100, budget_fen: int = 500
) -> MatchMade:
    """A match by a merchant who was given the money for it."""
    await fund(engine, merchant, budget_fen)
    await be_merchant(engine, merchant)
    return await engine.matching.match(
        fundraiser_id,
        merchant,
        percent=percent,
        budget_fen=budget_fen,
        idempotency_key=uuid4().hex,
        request_hash=b"match",
    )


async def be_merchant(engine: Engine, user_id: str) -> None:
    """Make a user a merchant."""
    await engine.profiles.put(user_id, AccountKind.MERCHANT, [], {}, changed_by="root")


async def let_time_be_over(engine: Engine, fundraiser_id: str) -> None:
    """Make a fundraiser's time be over now."""
    await engine.pool.execute("UPDATE fundraisers SET ends_at_ms = 1 WHERE fundraiser_id = $1", int(fundraiser_id))


async def settle(engine: Engine) -> None:
    """Do all that a sweeper has to do for fundraisers."""
    has_more, after = True, 0
    while has_more:
        after, has_more = await settle_some(engine.pool, after=after)


async def balance(engine: Engine, user_id: str) -> int:
    """What a user's wallet holds."""
    return (await engine.wallets.get(user_id)).balance_fen


async def in_funds(engine: Engine) -> int:
    """What all funds hold."""
    held: int = await engine.pool.fetchval("SELECT coalesce(sum(balance_fen), 0) FROM accounts WHERE kind = 'fund'")
    return held
