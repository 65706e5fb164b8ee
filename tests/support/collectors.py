"""Sets of cards for tests: made, dropped and completed as clients do it, and their time over when it must be."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from engine.cards.drawing import draw_due
from engine.cards.draws import commitment
from engine.cards.sets import CardSetMade
from engine.cards.terms import CardTerms, Payout, SetTerms, committed_terms, set_terms
from engine.engine import Engine
from engine.records import SplitKind
from engine.risk.limits import AccountKind
from tests.support.scenes import fund

OWNER = "mall"


def key() -> dict[str, Any]:
    """A new Idempotency-Key and the hash of its body."""
    return {"idempotency_key": uuid4().hex, "request_hash": b"cards"}


async def make(
    engine: Engine,
    counts: Sequence[int] = (10, 10, 10),
    *,
    granted: Sequence[int] | None = None,
    wild: int = 0,
    pool_fen: int = 10_000,
    seconds: int = 3_600,
    idempotency_key: str | None = None,
    has_money: bool = True,
    kind: AccountKind = AccountKind.MERCHANT,
    **changed: Any,  # noqa: ANN401  # terms of the set
) -> CardSetMade:
    """A set with these numbers of cards, by a merchant with enough money."""
    if has_money:
        await fund(engine, OWNER, pool_fen)
    await engine.profiles.put(OWNER, kind, [], {}, changed_by="root")
    cards = [
        CardTerms(name=f"福{place}", count=count, granted_count=granted[place - 1] if granted else 0)
        for place, count in enumerate(counts, start=1)
    ]

    def terms(now_ms: int) -> SetTerms:
        values: dict[str, Any] = {
            "name": "集五福",
            "cards": cards,
            "wild": CardTerms(name="万能福", count=wild) if wild else None,
            "pool_fen": pool_fen,
            "split": SplitKind.LUCKY,
            "min_fen": None,
            "payout": Payout.AT_ONCE,
            "claim_seconds": None,
            "grants_a_user_max": 5 if granted else 0,
            "ends_at_ms": now_ms + seconds * 1000,
            "draws_at_ms": now_ms + seconds * 1000,
        }
        return set_terms(settings=engine.settings, now_ms=now_ms, **values | changed)

    return await engine.card_sets.make(
        OWNER, terms, address="", idempotency_key=idempotency_key or uuid4().hex, request_hash=b"set"
    )


async def deal(engine: Engine, set_id: str, user_id: str, *cards: int) -> None:
    """Give a user some of the owner's cards."""
    for card in cards:
        await engine.collecting.give(set_id, OWNER, card, user_id, **key())


async def complete(engine: Engine, set_id: str, user_id: str) -> None:
    """Have a user spend a complete set, which they have got before."""
    await engine.collecting.complete(set_id, user_id, **key())


async def held(engine: Engine, set_id: str, user_id: str) -> list[int]:
    """How many of each card a user has."""
    return [card.count for card in (await engine.card_views.of_user(set_id, user_id)).cards]


async def end(engine: Engine, set_id: str) -> None:
    """Let the set's time be over: it is made as if its times had been earlier, and processes hear of it."""
    await move_times(engine, set_id)
    engine.collecting._register._known.clear()  # which all of the engine's use cases share


async def move_times(engine: Engine, set_id: str) -> None:
    """The same, and processes go on with the former times."""
    known = await engine.collecting._register._read(set_id)
    terms = committed_terms(
        pool_fen=known.pool_fen,
        split=known.split,
        min_fen=known.min_fen,
        payout=known.payout,
        claim_seconds=known.claim_seconds,
        grants_a_user_max=known.grants_a_user_max,
        ends_at_ms=known.created_at_ms,
        draws_at_ms=known.created_at_ms,
    )
    kinds = [(kind.card, kind.count, kind.granted_count, kind.is_wild, kind.name) for kind in known.kinds]
    changed = "ends_at_ms = created_at_ms, draws_at_ms = created_at_ms, commitment = $2"
    query = f"UPDATE card_sets SET {changed} WHERE set_id = $1"
    await engine.pool.execute(query, int(set_id), commitment(set_id, known.seed, terms, kinds))


async def draw(engine: Engine) -> None:
    """Draw every set whose time has come, to its end."""
    while await draw_due(engine.pool):
        pass
