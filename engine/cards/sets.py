"""Making sets of cards: every card is issued, once and for all, and the pool is paid for, in one transaction."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from engine.cards.draws import commitment
from engine.cards.register import SQL
from engine.cards.terms import CardTerms, SetTerms
from engine.errors import InsufficientFundsError, LimitExceededError, NotMerchantError
from engine.ledger import idempotency
from engine.ledger.database import Connection
from engine.ledger.money import lock_wallet, move, now_ms
from engine.packets.split import SEED_BYTES
from engine.records import SplitKind, Terms
from engine.risk import limits, watch
from engine.risk.freezes import Freezes
from engine.settings import Settings
from engine.wallets.assets import card_code, hold

WHAT = "card set"
ACCOUNTS = 8
"""In how many accounts each card lies that is offered, and that is spent, so that users seldom wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSetMade:
    """The answer to making a set."""

    set_id: str
    pool_fen: int
    commitment: str
    replayed: bool


class CardSets:
    """An owner's use cases. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, freezes: Freezes) -> None:
        self._pool, self._settings, self._freezes = pool, settings, freezes

    async def make(
        self,
        owner: str,
        terms: Callable[[int], SetTerms],
        *,
        address: str,
        idempotency_key: str,
        request_hash: bytes,
    ) -> CardSetMade:
        """Make a set: its owner gets all of its cards but those for grants, and pays for the pool.

        ``terms`` checks and returns the terms, by this clock. It is called for a first request only. Raises
        NotMerchantError, and as ``limits.admit`` and ``idempotency.once`` do.
        """

        async def check() -> SetTerms:
            return terms(await now_ms(self._pool))

        async def work(connection: Connection, checked: SetTerms) -> dict[str, Any]:
            try:
                at_ms = await self._admit(connection, owner, checked, address)
                return await _make(connection, owner, checked, at_ms)
            except InsufficientFundsError as error:
                raise InsufficientFundsError(str(error), field="pool_fen") from None
            except LimitExceededError as error:
                error.field = "pool_fen"
                raise

        request = idempotency.Request(
            principal=owner, operation="card_set", key=idempotency_key, request_hash=request_hash
        )
        answered = await idempotency.once(self._pool, request, check=check, work=work)
        if answered.checked is not None and not answered.replayed:
            pool_fen = answered.checked.pool_fen
            await watch.freeze_if_large(self._freezes, self._settings, owner, pool_fen, what=WHAT)
        return CardSetMade(**answered.answer, replayed=answered.replayed)

    async def _admit(self, connection: Connection, owner: str, terms: SetTerms, address: str) -> int:
        """As for a packet of the pool, by a merchant. Returns Postgres's clock."""
        at_ms = await now_ms(connection)
        whole = Terms(
            total_fen=terms.pool_fen,
            count=1,
            split=SplitKind.EQUAL,
            min_fen=terms.pool_fen,
            max_fen=terms.pool_fen,
            ttl_s=0,
            greeting=terms.name,
            recipients=(),
        )
        if not await connection.fetchval(SQL["is_merchant"], owner):
            raise NotMerchantError("Only a merchant's account can make a set of cards.")
        await limits.admit(connection, self._settings, owner, whole, address=address, at_ms=at_ms)
        await watch.look(connection, self._settings, owner, terms.pool_fen, what=WHAT, address=address, at_ms=at_ms)
        return at_ms


async def _make(connection: Connection, owner: str, terms: SetTerms, at_ms: int) -> dict[str, Any]:
    number: int = await connection.fetchval(SQL["new_number"])
    seed, wallet = secrets.token_bytes(SEED_BYTES), await lock_wallet(connection, owner)
    pool_account: int = await connection.fetchval(SQL["add_pool"])
    kinds = [
        (card, kind.count, kind.granted_count, kind is terms.wild, kind.name)
        for card, kind in enumerate(terms.kinds, start=1)
    ]
    committed = commitment(str(number), seed, terms.committed, kinds)
    split_terms = (terms.pool_fen, terms.split.value, terms.min_fen, terms.payout.value, terms.claim_seconds)
    times = (terms.ends_at_ms, terms.draws_at_ms)
    await connection.execute(
        SQL["add_set"],
        *(number, owner, terms.name, len(terms.cards), *split_terms, terms.grants_a_user_max, *times),
        *(seed, committed, pool_account, at_ms),
    )
    for card, kind in enumerate(terms.kinds, start=1):
        await _issue(connection, owner, (number, card), kind, is_wild=kind is terms.wild, at_ms=at_ms)
    paid = await move(
        connection,
        "pool_fund",
        payer=wallet.account_id,
        payee=pool_account,
        amount_fen=terms.pool_fen,
        at_ms=at_ms,
    )
    if paid is None:
        raise InsufficientFundsError("The wallet holds less than the pool.")
    return {"set_id": str(number), "pool_fen": terms.pool_fen, "commitment": committed.hex()}


async def _issue(
    connection: Connection, owner: str, place: tuple[int, int], kind: CardTerms, *, is_wild: bool, at_ms: int
) -> None:
    """Make a card, as many as are published of it, for the owner, and set aside those for grants."""
    asset = card_code(*place)
    values = (*place, asset, kind.name, is_wild, kind.count, kind.granted_count, at_ms, owner, ACCOUNTS)
    (row,) = await connection.fetch(SQL["add_card"], *values)
    holding = await hold(connection, owner, asset)
    moves = [("issue", row["issuer"], holding, kind.count)]
    if kind.granted_count:
        moves.append(("card_reserve", holding, row["reserve_account"], kind.granted_count))
    for what, payer, payee, amount in moves:
        await move(connection, what, payer=payer, payee=payee, amount_fen=amount, at_ms=at_ms)
