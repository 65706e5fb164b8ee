"""The audit of cards: as many of each are there as were published, and the pool goes to those who completed the set."""

import asyncpg

from engine.auditing.books import SQL, Result, Scope
from engine.cards import draws
from engine.cards.draws import commitment, draw_key, granted_card, shares
from engine.cards.register import SQL as CARDS
from engine.cards.register import Known, known_from
from engine.cards.terms import committed_terms
from engine.errors import InvalidFieldsError
from engine.ledger.database import Connection

_GRANTS_PAGE = 20_000


async def cards_add_up(connection: Connection, scope: Scope) -> Result:
    """Cards are where grants, offers and complete sets say, and shares are what the seed makes them."""
    problems = [_card_problem(row) for row in await connection.fetch(SQL["wrong_cards"])]
    problems += [
        f"card set {row['set_id']}: {row['completions']} completed it with {row['wild']} wild cards, so {row['due']} "
        f"cards are spent, but {row['spent']} are, {row['wild_spent']} of them wild"
        for row in await connection.fetch(SQL["wrong_completions"], *scope.ids)
    ]
    problems += [_pool_problem(row) for row in await connection.fetch(SQL["wrong_pools"], *scope.ids)]
    problems += [
        f"{row['what']}: entry {row['transfer_id']} is not its {row['kind']}"
        for row in await connection.fetch(SQL["wrong_card_entries"], *scope.ids)
    ]
    sets = {row["set_id"]: await _known(connection, row["set_id"]) for row in await connection.fetch(SQL["card_sets"])}
    problems += [problem for known in sets.values() for problem in _wrong_commitment(known)]
    for row in await connection.fetch(SQL["sets_drawn"], *scope.ids):
        problems += await _wrong_shares(connection, sets[row["set_id"]])
    for row in await connection.fetch(SQL["sets_granted"], *scope.ids):
        problems += await _wrong_grants(connection, sets[row["set_id"]])
    return len(sets), problems


def _card_problem(row: asyncpg.Record) -> str:
    return (
        f"card {row['card']} of set {row['set_id']}: {row['issued']} of {row['count']} are there, {row['set_aside']} "
        f"of {row['to_grant']} to be granted, {row['in_escrow']} of {row['offered']} offered"
    )


def _pool_problem(row: asyncpg.Record) -> str:
    strangers = f", {row['strangers']} of those who did not complete it" if row["strangers"] else ""
    return (
        f"card set {row['set_id']} is {row['state']}: of the pool of {row['pool_fen']} fen {row['paid_fen']} are paid "
        f"and {row['returned_fen']} returned, it holds {row['held_fen']}; {row['shares']} shares of "
        f"{row['shares_fen']} fen for {row['completers']} completers of {row['completions']}{strangers}"
    )


async def _known(connection: Connection, number: int) -> Known:
    (row,) = await connection.fetch(CARDS["set"], number)
    return known_from(row, await connection.fetch(CARDS["kinds"], number))


def _wrong_commitment(known: Known) -> list[str]:
    terms = committed_terms(
        pool_fen=known.pool_fen,
        split=known.split,
        min_fen=known.min_fen,
        payout=known.payout,
        claim_seconds=known.claim_seconds,
        grants_a_user_max=known.grants_a_user_max,
        ends_at_ms=known.ends_at_ms,
        draws_at_ms=known.draws_at_ms,
    )
    cards = [(kind.card, kind.count, kind.granted_count, kind.is_wild, kind.name) for kind in known.kinds]
    if commitment(known.set_id, known.seed, terms, cards) == known.commitment:
        return []
    return [f"card set {known.set_id}: its seed and terms are not those it committed to"]


async def _wrong_shares(connection: Connection, known: Known) -> list[str]:
    """Redo the draw, part by part. Of a set the first difference is told: the others follow from it."""
    (row,) = await connection.fetch(CARDS["completers"], known.number)
    terms = (known.split, known.pool_fen, row["count"], known.min_fen, known.seed, known.set_id)
    last = b""
    for first in range(0, row["count"], draws.PART):
        found = await connection.fetch(SQL["drawn_shares"], known.number, first, draws.PART)
        try:
            due = shares(*terms, first)
        except InvalidFieldsError as error:
            return [f"card set {known.set_id}: its pool cannot be split: {error}"]
        for place, share in enumerate(found):
            key = draw_key(known.seed, known.set_id, share["user_id"])
            if share["number"] != first + place or key != share["draw_key"] or key <= last:
                return [f"card set {known.set_id}: {share['user_id']} is not the one with share {first + place}"]
            if share["share_fen"] != due[place]:
                return [
                    f"card set {known.set_id}: share {share['number']} of {share['user_id']} is "
                    f"{share['share_fen']} fen, by the seed {due[place]}"
                ]
            last = key
    return []


async def _wrong_grants(connection: Connection, known: Known) -> list[str]:
    """Redo the grants from the first one on: each depends on those before it."""
    remaining, number = [kind.granted_count for kind in known.kinds], 0
    while rows := await connection.fetch(CARDS["grants"], known.number, number, _GRANTS_PAGE):
        for row in rows:
            number += 1
            if row["number"] != number or not any(remaining):
                return [f"card set {known.set_id}: grant {row['number']} follows none before it"]
            place = granted_card(known.seed, known.set_id, number, remaining)
            if place + 1 != row["card"]:
                return [
                    f"card set {known.set_id}: grant {number} to {row['user_id']} is card {row['card']}, by the seed "
                    f"{place + 1}"
                ]
            remaining[place] -= 1
    return []
