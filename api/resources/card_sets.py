"""Sets of cards: making them, collecting, exchanging, completing, and the shares of the pool."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import SENDING
from api.paths import ROW_NUMBER_FORM
from api.payloads import PLAIN_TEXT, NewestFirstQuery, PageQuery, Payload, UserId
from api.resources.card_offers import MOVING, READING, USER, answer_of
from engine import errors
from engine.cards.collecting import CardGift, CardGrant, Completion
from engine.cards.prizes import Prize
from engine.cards.terms import CARDS_MAX, CARDS_MIN, CardTerms, Payout, SetTerms, set_terms
from engine.cards.views import CardSetProof, CardSetsPage, CardSetView, GrantsPage, SharesPage, UserCards
from engine.records import SplitKind

_REASON_LENGTH_MAX = 200
Card = Annotated[int, Field(description="A card's number in the set, from 1")]


class CardBody(Payload):
    """A card of a set."""

    name: Annotated[str, Field(description="1 to 40 characters that people can read")]
    count: Annotated[int, Field(description="How many of it there will ever be: the fewer, the scarcer")]
    granted_count: Annotated[
        int, Field(description="How many of them are set aside for grants; the others are the owner's to drop")
    ] = 0


class CardSetBody(Payload):
    """A set of cards. All of them are issued, and the pool is paid for, when it is made."""

    name: Annotated[str, Field(description="1 to 60 characters that people can read")]
    cards: Annotated[
        list[CardBody], Field(min_length=CARDS_MIN, max_length=CARDS_MAX, description="The cards: one of each is a set")
    ]
    wild: Annotated[
        CardBody | None, Field(description="Another card, with the same fields, that stands for any missing one")
    ] = None
    pool_fen: Annotated[int, Field(description="What those who complete the set share, in the ledger's currency")]
    split: Annotated[Literal["lucky", "equal"], Field(description="lucky: shares differ; equal: all the same")]
    min_fen: Annotated[
        int | None,
        Field(description="The smallest share; the pool must be enough for as many as the cards allow to complete it"),
    ] = None
    payout: Annotated[
        Literal["claimable", "at_once"],
        Field(description="claimable: each asks for their share; at_once: it is paid at the draw"),
    ]
    claim_seconds: Annotated[
        int | None, Field(description="With claimable: how long after the draw shares can be claimed, 60 to 7776000")
    ] = None
    grants_a_user_max: Annotated[int, Field(description="How many grants a user gets at most, 0 to 1000")] = 0
    ends_at_ms: Annotated[int, Field(description="Until when cards move and sets are completed")]
    draws_at_ms: Annotated[int, Field(description="When the pool is shared; not before ends_at_ms")]


class CardGiftBody(Payload):
    """A card for another user."""

    card: Card
    to_user: Annotated[UserId, Field(description="Who gets it")]


class CardGrantBody(Payload):
    """A card that a backend has drawn for a user."""

    user_id: Annotated[UserId, Field(description="Who gets it")]
    reason: Annotated[
        str,
        Field(min_length=1, max_length=_REASON_LENGTH_MAX, description="Why: what was shared, who was invited"),
        PLAIN_TEXT,
    ]


class CardsQuery(BaseModel):
    """Which set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    set_id: Annotated[str, Field(pattern=ROW_NUMBER_FORM, description="The set's number")]


class CardSetAnswer(Payload):
    """A set was made."""

    set_id: str
    pool_fen: int
    commitment: str


async def make_card_set(call: Call) -> Answer:
    """Make a set of cards."""
    body: CardSetBody = call.body

    def terms(now_ms: int) -> SetTerms:
        return set_terms(
            settings=call.front.settings,
            now_ms=now_ms,
            name=body.name,
            cards=[CardTerms(**card.model_dump()) for card in body.cards],
            wild=None if body.wild is None else CardTerms(**body.wild.model_dump()),
            pool_fen=body.pool_fen,
            split=SplitKind(body.split),
            min_fen=body.min_fen,
            payout=Payout(body.payout),
            claim_seconds=body.claim_seconds,
            grants_a_user_max=body.grants_a_user_max,
            ends_at_ms=body.ends_at_ms,
            draws_at_ms=body.draws_at_ms,
        )

    made = await call.engine.card_sets.make(
        call.caller.user,
        terms,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = {"set_id": made.set_id, "pool_fen": made.pool_fen, "commitment": made.commitment}
    return answer_of(answer, 201, is_replayed=made.replayed)


async def get_card_set(call: Call) -> Answer:
    """Return a set."""
    return as_json(await call.engine.card_views.get(call.path["set_id"]))


async def list_card_sets(call: Call) -> Answer:
    """Return an owner's sets, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    return as_json(await call.engine.card_views.of_owner(user_id, after=query.after, limit=query.limit))


async def get_cards(call: Call) -> Answer:
    """Return a user's part in a set."""
    user_id = call.path["user_id"]
    call.caller.may_read(user_id)
    return as_json(await call.engine.card_views.of_user(call.query.set_id, user_id))


async def give_card(call: Call) -> Answer:
    """Give a card to another user."""
    gift, is_replayed = await call.engine.collecting.give(
        call.path["set_id"],
        call.caller.user,
        call.body.card,
        call.body.to_user,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return answer_of(gift, 201, is_replayed=is_replayed)


async def grant_card(call: Call) -> Answer:
    """Draw a card for a user."""
    grant, is_replayed = await call.engine.collecting.grant(
        call.path["set_id"],
        call.body.user_id,
        call.body.reason,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return answer_of(grant, 201, is_replayed=is_replayed)


async def complete_card_set(call: Call) -> Answer:
    """Spend a complete set."""
    set_id = call.path["set_id"]
    completion, is_replayed = await call.engine.collecting.complete(
        set_id, call.caller.user, idempotency_key=call.idempotency_key, request_hash=set_id.encode()
    )
    return answer_of(completion, 201, is_replayed=is_replayed)


async def claim_card_prize(call: Call) -> Answer:
    """Take a share of the pool."""
    set_id = call.path["set_id"]
    prize, is_replayed = await call.engine.card_prizes.claim(
        set_id, call.caller.user, idempotency_key=call.idempotency_key, request_hash=set_id.encode()
    )
    return answer_of(prize, 200, is_replayed=is_replayed)


async def list_card_shares(call: Call) -> Answer:
    """Return the shares of a set's pool in the order of the draw."""
    query = call.query
    return as_json(await call.engine.card_views.shares(call.path["set_id"], after=query.after, limit=query.limit))


async def list_card_grants(call: Call) -> Answer:
    """Return a set's grants in their order."""
    query = call.query
    return as_json(await call.engine.card_views.grants(call.path["set_id"], after=query.after, limit=query.limit))


async def get_card_set_proof(call: Call) -> Answer:
    """Return what a set was committed to."""
    return as_json(await call.engine.card_views.proof(call.path["set_id"]))


_CLAIMANT = Access(("claim", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/card-sets",
        endpoint=make_card_set,
        summary="Make a set of cards to collect. Its owner, a merchant, gets all cards but those for grants, and pays "
        "for the pool at once.",
        access=USER,
        body=CardSetBody,
        moves_money=True,
        answer=CardSetAnswer,
        status=201,
        problems=(errors.NotMerchantError, *SENDING),
    ),
    Operation(
        method="GET",
        path="/v1/card-sets/{set_id}",
        endpoint=get_card_set,
        summary="A set: its cards with their numbers, how many have completed it, its state, and the server's clock. "
        "Counts are at most a second old.",
        access=ANY_TOKEN,
        answer=CardSetView,
        problems=READING,
    ),
    Operation(
        method="POST",
        path="/v1/card-sets/{set_id}/gifts",
        endpoint=give_card,
        summary="Give a card to another user.",
        access=USER,
        body=CardGiftBody,
        moves_money=True,
        answer=CardGift,
        status=201,
        problems=MOVING,
    ),
    Operation(
        method="POST",
        path="/v1/card-sets/{set_id}/grants",
        endpoint=grant_card,
        summary="Draw a card for a user who has shared or invited, of those that are set aside.",
        access=Access(("act",)),
        body=CardGrantBody,
        moves_money=True,
        answer=CardGrant,
        status=201,
        problems=(
            errors.CardSetEndedError,
            errors.FrozenError,
            errors.TooManyGrantsError,
            errors.ReserveEmptyError,
            *READING,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/card-sets/{set_id}/grants",
        endpoint=list_card_grants,
        summary="A set's grants in their order, once the pool is drawn: for those who redo them.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=GrantsPage,
        problems=(errors.NotDrawnError, *READING),
    ),
    Operation(
        method="POST",
        path="/v1/card-sets/{set_id}/completions",
        endpoint=complete_card_set,
        summary="Spend one of each card, or a wild card for each that is missing: the user has a share of the pool, "
        "once.",
        access=_CLAIMANT,
        moves_money=True,
        answer=Completion,
        status=201,
        problems=(errors.AlreadyCompletedError, *MOVING),
    ),
    Operation(
        method="POST",
        path="/v1/card-sets/{set_id}/prize",
        endpoint=claim_card_prize,
        summary="Take the user's share of the drawn pool, until the deadline. A repeat pays nothing more.",
        access=_CLAIMANT,
        moves_money=True,
        answer=Prize,
        problems=(errors.NotDrawnError, errors.NoPrizeError, errors.FrozenError, *READING),
    ),
    Operation(
        method="GET",
        path="/v1/card-sets/{set_id}/shares",
        endpoint=list_card_shares,
        summary="The shares of a set's pool in the order of the draw, as far as they are drawn.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=SharesPage,
        problems=READING,
    ),
    Operation(
        method="GET",
        path="/v1/card-sets/{set_id}/proof",
        endpoint=get_card_set_proof,
        summary="A set's seed, once it is drawn, and what it was committed to; `hongbao verify` needs nothing else.",
        access=ANY_TOKEN,
        answer=CardSetProof,
        problems=(errors.NotDrawnError, *READING),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/cards",
        endpoint=get_cards,
        summary="A user's part in a set: their cards, grants, whether they have completed it, and their share.",
        access=ANY_TOKEN,
        query=CardsQuery,
        answer=UserCards,
        problems=READING,
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/card-sets",
        endpoint=list_card_sets,
        summary="A user's own sets of cards, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=CardSetsPage,
        problems=(errors.UnavailableError,),
    ),
)
