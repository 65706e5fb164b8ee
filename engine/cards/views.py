"""What can be read of sets of cards: a set, a user's cards, grants and shares, and the proof after the draw."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import asyncpg

from engine.cards.register import KNOWN_MAX, Known, Register
from engine.cards.terms import Payout
from engine.errors import NotDrawnError
from engine.ledger.database import ledger_errors
from engine.paging import NEWEST, parse
from engine.queries import load
from engine.records import SplitKind

SQL = load("cards")
FRESH_S = 1.0
"""How old a set's counts may be."""
LISTED_MAX = 1_000
"""A proof lists the grants and the shares of sets with at most so many. The others' are read page by page."""


class CardSetState(StrEnum):
    """A set's state: ``collecting -> ended -> drawing -> drawn -> settled``."""

    COLLECTING = "collecting"
    ENDED = "ended"  # nobody can complete it any more, and the draw is to come
    DRAWING = "drawing"  # shares of the pool are being drawn
    DRAWN = "drawn"  # each completer has a share, and those who have not claimed it can
    SETTLED = "settled"  # the pool is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """A card of a set. ``card``: its number. ``count``: how many there are, ever. ``is_wild``: it stands for any other.

    ``granted_count``: how many of them are set aside for grants. Of all of them ``with_owner`` have not been dropped,
    ``left_to_grant`` have not been granted, ``offered`` are in open offers, and ``spent`` are in complete sets.
    """

    card: int
    name: str
    is_wild: bool
    asset: str
    count: int
    granted_count: int
    with_owner: int
    left_to_grant: int
    offered: int
    spent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSetView:
    """A set as everybody sees it. ``now_ms``: the server's clock, for countdowns.

    ``completers``: how many have completed it so far. ``prizes_until_ms``: until when shares can be claimed, once they
    are drawn. ``returned_fen``: what the owner has got back, once it is settled.
    """

    set_id: str
    owner: str
    name: str
    state: CardSetState
    now_ms: int
    cards: Sequence[CardView]
    completers: int
    pool_fen: int
    split: SplitKind
    min_fen: int
    payout: Payout
    claim_seconds: int | None
    grants_a_user_max: int
    ends_at_ms: int
    draws_at_ms: int
    commitment: str
    drawn_at_ms: int | None
    prizes_until_ms: int | None
    returned_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSetLine:
    """One line of an owner's sets."""

    set_id: str
    owner: str
    name: str
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSetsPage:
    """An owner's sets, newest first."""

    sets: list[CardSetLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCard:
    """How many of a card a user has, and how many more are in their open offers."""

    card: int
    name: str
    is_wild: bool
    count: int
    offered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCards:
    """A user's part in a set. ``share_fen`` and ``paid_at_ms``: of the pool, once it is drawn and paid."""

    set_id: str
    user_id: str
    cards: Sequence[HeldCard]
    grants: int
    completed_at_ms: int | None
    number: int | None
    share_fen: int | None
    paid_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLine:
    """A completer's share. ``number``: their place in the order of the draw, from 0."""

    number: int
    user_id: str
    share_fen: int
    paid_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesPage:
    """Shares of a set's pool in the order of the draw."""

    shares: list[ShareLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLine:
    """A card that was drawn for a user."""

    number: int
    user_id: str
    card: int
    granted_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantsPage:
    """A set's grants in their order."""

    grants: list[GrantLine]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofCard:
    """A card as it was published."""

    card: int
    name: str
    is_wild: bool
    count: int
    granted_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSetProof:
    """What a set was committed to when it was made, and what chance decided (docs/cards.md).

    ``grants``, ``shares``: None if they are too many. Then they are read page by page.
    """

    set_id: str
    seed: str
    commitment: str
    pool_fen: int
    split: SplitKind
    min_fen: int
    payout: Payout
    claim_seconds: int | None
    grants_a_user_max: int
    ends_at_ms: int
    draws_at_ms: int
    cards: Sequence[ProofCard]
    completers: int
    grants: Sequence[GrantLine] | None
    shares: Sequence[ShareLine] | None


class CardViews:
    """Read-only use cases. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, register: Register) -> None:
        self._pool, self._register = pool, register
        self._seen: OrderedDict[str, tuple[float, CardSetView]] = OrderedDict()

    async def get(self, set_id: str) -> CardSetView:
        """A set, whose counts are at most FRESH_S old. Raises UnknownCardSetError."""
        known, seen = await self._register.known(set_id), self._seen.get(set_id)
        if seen is None or time.monotonic() - seen[0] >= FRESH_S:
            self._seen[set_id] = seen = (time.monotonic(), await self._look(known))
            if len(self._seen) > KNOWN_MAX:
                self._seen.popitem(last=False)
        at_s, view = seen
        now_ms = view.now_ms + int((time.monotonic() - at_s) * 1000)
        return replace(view, now_ms=now_ms, state=_state(view.state, known, now_ms))

    async def _look(self, known: Known) -> CardSetView:
        with ledger_errors():
            counts = await self._pool.fetch(SQL["counts"], known.number, known.owner)
            row = (await self._pool.fetch(SQL["progress"], known.number))[0]
        cards = [
            CardView(
                card=kind.card,
                name=kind.name,
                is_wild=kind.is_wild,
                asset=kind.asset,
                count=kind.count,
                granted_count=kind.granted_count,
                with_owner=found["with_owner"],
                left_to_grant=found["set_aside"],
                offered=found["offered"],
                spent=found["spent"],
            )
            for kind, found in zip(known.kinds, counts, strict=True)
        ]
        drawn_at_ms = row["drawn_at_ms"]
        is_claimed = drawn_at_ms is not None and known.claim_seconds is not None
        return CardSetView(
            set_id=known.set_id,
            owner=known.owner,
            name=known.name,
            state=CardSetState(row["state"]),
            now_ms=row["now_ms"],
            cards=cards,
            # Each has spent as many cards as make a set.
            completers=sum(card.spent for card in cards) // len(known.cards),
            pool_fen=known.pool_fen,
            split=known.split,
            min_fen=known.min_fen,
            payout=known.payout,
            claim_seconds=known.claim_seconds,
            grants_a_user_max=known.grants_a_user_max,
            ends_at_ms=known.ends_at_ms,
            draws_at_ms=known.draws_at_ms,
            commitment=known.commitment.hex(),
            drawn_at_ms=drawn_at_ms,
            prizes_until_ms=drawn_at_ms + (known.claim_seconds or 0) * 1000 if is_claimed else None,
            returned_fen=row["returned_fen"],
        )

    async def of_owner(self, owner: str, *, after: str | None, limit: int) -> CardSetsPage:
        """An owner's sets, newest first. Raises InvalidFieldsError for an invalid cursor."""
        (below,) = parse(after, parts=1, start=(NEWEST,))
        with ledger_errors():
            rows = await self._pool.fetch(SQL["of_owner"], owner, below, limit + 1)
        sets = [CardSetLine(**{**row, "set_id": str(row["set_id"])}) for row in rows[:limit]]
        return CardSetsPage(sets=sets, next=sets[-1].set_id if len(rows) > limit else None)

    async def of_user(self, set_id: str, user_id: str) -> UserCards:
        """A user's part in a set. Raises UnknownCardSetError."""
        known = await self._register.known(set_id)
        with ledger_errors():
            held = await self._pool.fetch(SQL["cards_of_user"], known.number, user_id)
            part = await self._pool.fetchrow(SQL["part_of_user"], known.number, user_id)
            grants = await self._pool.fetchval(SQL["grants_of_user"], known.number, user_id)
        cards = [
            HeldCard(card=kind.card, name=kind.name, is_wild=kind.is_wild, count=row["count"], offered=row["offered"])
            for kind, row in zip(known.kinds, held, strict=True)
        ]
        return UserCards(
            set_id=set_id,
            user_id=user_id,
            cards=cards,
            grants=grants,
            completed_at_ms=None if part is None else part["completed_at_ms"],
            number=None if part is None else part["number"],
            share_fen=None if part is None else part["share_fen"],
            paid_at_ms=None if part is None else part["paid_at_ms"],
        )

    async def shares(self, set_id: str, *, after: str | None, limit: int) -> SharesPage:
        """A page of the shares, as far as they are drawn. Raises UnknownCardSetError, InvalidFieldsError."""
        (above,) = parse(after, parts=1, start=(-1,))
        known = await self._register.known(set_id)
        found = await self._shares(known, above, limit + 1)
        page = found[:limit]
        return SharesPage(shares=page, next=str(page[-1].number) if len(found) > limit else None)

    async def grants(self, set_id: str, *, after: str | None, limit: int) -> GrantsPage:
        """A page of the grants. Raises UnknownCardSetError, NotDrawnError as ``proof``, InvalidFieldsError."""
        (above,) = parse(after, parts=1, start=(0,))
        known = await self._register.known(set_id)
        await self._must_be_drawn(known)
        found = await self._grants(known, above, limit + 1)
        page = found[:limit]
        return GrantsPage(grants=page, next=str(page[-1].number) if len(found) > limit else None)

    async def _shares(self, known: Known, above: int, limit: int) -> list[ShareLine]:
        with ledger_errors():
            rows = await self._pool.fetch(SQL["shares"], known.number, min(above, 2**31 - 1), limit)
        return [ShareLine(**row) for row in rows]

    async def _grants(self, known: Known, above: int, limit: int) -> list[GrantLine]:
        with ledger_errors():
            rows = await self._pool.fetch(SQL["grants"], known.number, min(above, 2**31 - 1), limit)
        return [
            GrantLine(
                number=row["number"], user_id=row["user_id"], card=row["card"], granted_at_ms=row["granted_at_ms"]
            )
            for row in rows
        ]

    async def _must_be_drawn(self, known: Known) -> asyncpg.Record:
        with ledger_errors():
            row = (await self._pool.fetch(SQL["progress"], known.number))[0]
        if row["drawn_at_ms"] is None:
            raise NotDrawnError("This is available once the pool has been drawn.")
        return row

    async def proof(self, set_id: str) -> CardSetProof:
        """What binds the set, with its seed. Raises UnknownCardSetError, NotDrawnError before the end of the draw."""
        known = await self._register.known(set_id)
        row = await self._must_be_drawn(known)
        grants = await self._grants(known, 0, LISTED_MAX + 1)
        shares = await self._shares(known, -1, LISTED_MAX + 1)
        return CardSetProof(
            set_id=set_id,
            seed=known.seed.hex(),
            commitment=known.commitment.hex(),
            pool_fen=known.pool_fen,
            split=known.split,
            min_fen=known.min_fen,
            payout=known.payout,
            claim_seconds=known.claim_seconds,
            grants_a_user_max=known.grants_a_user_max,
            ends_at_ms=known.ends_at_ms,
            draws_at_ms=known.draws_at_ms,
            cards=[
                ProofCard(
                    card=kind.card,
                    name=kind.name,
                    is_wild=kind.is_wild,
                    count=kind.count,
                    granted_count=kind.granted_count,
                )
                for kind in known.kinds
            ],
            completers=row["completers"],
            grants=grants if len(grants) <= LISTED_MAX else None,
            shares=shares if len(shares) <= LISTED_MAX else None,
        )


def _state(state: CardSetState, known: Known, now_ms: int) -> CardSetState:
    is_ended = state is CardSetState.COLLECTING and now_ms >= known.ends_at_ms
    return CardSetState.ENDED if is_ended else state
