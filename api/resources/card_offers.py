"""Offers of a card for another, between two users of a set."""

from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import NewestFirstQuery, Payload, UserId
from engine import errors
from engine.cards.offers import SECONDS_DEFAULT, CardOffer, CardOffersPage


class OfferBody(Payload):
    """A card for another card."""

    give: Annotated[int, Field(description="The number of the card that is offered")]
    want: Annotated[int, Field(description="The number of the card that is wanted for it")]
    to_user: Annotated[UserId | None, Field(description="Who can accept it; left out: anyone")] = None
    seconds: Annotated[
        int, Field(description="How long it can be accepted, 60 to 604800, and not after the set's end")
    ] = SECONDS_DEFAULT


class OffersQuery(NewestFirstQuery):
    """A part of a user's offers."""

    role: Annotated[Literal["made", "received"], Field(description="Which of the user's offers")]


async def offer_card(call: Call) -> Answer:
    """Offer a card for another."""
    body: OfferBody = call.body
    offer, is_replayed = await call.engine.card_offers.make(
        call.path["set_id"],
        call.caller.user,
        give=body.give,
        want=body.want,
        to_user=body.to_user,
        seconds=body.seconds,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    return answer_of(offer, 201, is_replayed=is_replayed)


async def list_open_card_offers(call: Call) -> Answer:
    """Return the offers of a set that anyone can accept."""
    query = call.query
    return as_json(await call.engine.card_offers.for_anyone(call.path["set_id"], after=query.after, limit=query.limit))


async def list_card_offers(call: Call) -> Answer:
    """Return a user's offers, newest first."""
    user_id, query = call.path["user_id"], call.query
    call.caller.may_read(user_id)
    page = await call.engine.card_offers.of_user(user_id, role=query.role, after=query.after, limit=query.limit)
    return as_json(page)


async def get_card_offer(call: Call) -> Answer:
    """Return an offer."""
    caller = call.caller
    return as_json(await call.engine.card_offers.get(call.path["offer_id"], caller.user_id, sees_all=caller.sees_all))


async def accept_card_offer(call: Call) -> Answer:
    """Accept an offer."""
    return as_json(await call.engine.card_offers.accept(call.path["offer_id"], call.caller.user))


async def decline_card_offer(call: Call) -> Answer:
    """Decline an offer."""
    return as_json(await call.engine.card_offers.decline(call.path["offer_id"], call.caller.user))


async def withdraw_card_offer(call: Call) -> Answer:
    """Withdraw an offer."""
    return as_json(await call.engine.card_offers.withdraw(call.path["offer_id"], call.caller.user))


def answer_of(value: object, status: int, *, is_replayed: bool) -> Answer:
    """An answer that says whether it was given before."""
    return as_json(value, status, *([(b"idempotency-replayed", b"true")] if is_replayed else []))


USER = Access(("send", "act"), for_user=True)
READING = (errors.UnknownCardSetError, errors.UnavailableError)
MOVING = (errors.CardSetEndedError, errors.CardLackingError, errors.FrozenError, *READING)
"""The errors of what reads a set, and of what moves its cards."""
_OFFER = (errors.UnknownCardOfferError, errors.CardOfferEndedError, errors.UnavailableError)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/card-sets/{set_id}/offers",
        endpoint=offer_card,
        summary="Offer a card for another, to one user or to anyone. It is put aside until the offer ends.",
        access=USER,
        body=OfferBody,
        moves_money=True,
        answer=CardOffer,
        status=201,
        problems=(errors.TooManyCardOffersError, *MOVING),
    ),
    Operation(
        method="GET",
        path="/v1/card-sets/{set_id}/offers",
        endpoint=list_open_card_offers,
        summary="The open offers of a set that anyone can accept, newest first.",
        access=ANY_TOKEN,
        query=NewestFirstQuery,
        answer=CardOffersPage,
        problems=READING,
    ),
    Operation(
        method="GET",
        path="/v1/card-offers/{offer_id}",
        endpoint=get_card_offer,
        summary="An offer, for its two users, or for everybody if anyone can accept it.",
        access=ANY_TOKEN,
        answer=CardOffer,
        problems=(errors.UnknownCardOfferError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/card-offers/{offer_id}/accept",
        endpoint=accept_card_offer,
        summary="Accept an offer: both cards move, or none. A repeat changes nothing.",
        access=USER,
        answer=CardOffer,
        problems=(errors.CardSetEndedError, errors.CardLackingError, errors.FrozenError, *_OFFER),
    ),
    Operation(
        method="POST",
        path="/v1/card-offers/{offer_id}/decline",
        endpoint=decline_card_offer,
        summary="Decline an offer that was made to the user: its card goes back.",
        access=USER,
        answer=CardOffer,
        problems=(errors.NotSenderError, *_OFFER),
    ),
    Operation(
        method="POST",
        path="/v1/card-offers/{offer_id}/withdraw",
        endpoint=withdraw_card_offer,
        summary="Withdraw an offer that the user made: its card comes back.",
        access=USER,
        answer=CardOffer,
        problems=(errors.NotSenderError, errors.FrozenError, *_OFFER),
    ),
    Operation(
        method="GET",
        path="/v1/users/{user_id}/card-offers",
        endpoint=list_card_offers,
        summary="The offers that a user made or received, newest first.",
        access=ANY_TOKEN,
        query=OffersQuery,
        answer=CardOffersPage,
        problems=(errors.UnavailableError,),
    ),
)
