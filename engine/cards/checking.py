"""Checks a set's proof without a server: its seed and terms are those committed to, and chance decided as it must."""

from engine.cards import draws
from engine.cards.draws import commitment, draw_key, granted_card, shares
from engine.cards.terms import CARDS_MAX, COMPLETERS_MAX, COUNT_MAX, committed_terms
from engine.cards.views import LISTED_MAX, CardSetProof
from engine.errors import InvalidFieldsError
from engine.ids import is_user_id
from engine.packets import proof
from engine.packets.split import SEED_BYTES, TOTAL_FEN_MAX


def read(text: bytes) -> CardSetProof:
    """Read a proof as the server returns it. Raises OperatorError that says what is wrong with it."""
    return proof.read_as(text, CardSetProof, _check_form, "a card set's proof")


def _check_form(found: CardSetProof) -> None:
    """Raise ValueError for what ``verify`` cannot look at: anyone may have written it."""
    bytes.fromhex(found.commitment)
    if len(bytes.fromhex(found.seed)) != SEED_BYTES:
        raise ValueError(f"`seed` must have {SEED_BYTES} bytes")
    if not (found.set_id.isascii() and found.set_id.isdigit()):
        raise ValueError("`set_id` is not a number")
    if [card.card for card in found.cards] != list(range(1, len(found.cards) + 1)) or len(found.cards) > CARDS_MAX + 1:
        raise ValueError("`cards` must be numbered from 1")
    if any("\n" in card.name or not 0 <= card.granted_count <= card.count <= COUNT_MAX for card in found.cards):
        raise ValueError("`cards` has impossible counts or names")
    if not (0 <= found.completers <= COMPLETERS_MAX and 1 <= found.pool_fen <= TOTAL_FEN_MAX):
        raise ValueError("`completers` or `pool_fen` is impossible")
    if len(found.grants or ()) > LISTED_MAX or len(found.shares or ()) > LISTED_MAX:
        raise ValueError(f"it lists more than {LISTED_MAX}")
    users = [line.user_id for line in found.grants or ()] + [line.user_id for line in found.shares or ()]
    if not all(map(is_user_id, users)):
        raise ValueError("it names no users")


def verify(found: CardSetProof, given_commitment: str | None = None) -> list[str]:
    """What is wrong with a set's proof. ``given_commitment``: the one that counts, as it was published."""
    terms = committed_terms(
        pool_fen=found.pool_fen,
        split=found.split,
        min_fen=found.min_fen,
        payout=found.payout,
        claim_seconds=found.claim_seconds,
        grants_a_user_max=found.grants_a_user_max,
        ends_at_ms=found.ends_at_ms,
        draws_at_ms=found.draws_at_ms,
    )
    seed, due = bytes.fromhex(found.seed), (given_commitment or found.commitment).lower()
    cards = [(card.card, card.count, card.granted_count, card.is_wild, card.name) for card in found.cards]
    problems = []
    if commitment(found.set_id, seed, terms, cards).hex() != due:
        problems.append(f"seed, terms and cards are not those that were committed to ({due})")
    return problems + _wrong_grants(found, seed) + _wrong_shares(found, seed)


def _wrong_grants(found: CardSetProof, seed: bytes) -> list[str]:
    remaining = [card.granted_count for card in found.cards]
    for number, grant in enumerate(found.grants or (), start=1):
        if grant.number != number or not any(remaining):
            return [f"grant {grant.number} cannot be"]
        place = granted_card(seed, found.set_id, number, remaining)
        if place + 1 != grant.card:
            return [f"grant {number} to {grant.user_id} is card {place + 1}, not {grant.card}"]
        remaining[place] -= 1
    return []


def _wrong_shares(found: CardSetProof, seed: bytes) -> list[str]:
    if found.shares is None:
        return []
    if len(found.shares) != found.completers:
        return [f"{found.completers} users completed the set, and {len(found.shares)} have a share"]
    keys = [draw_key(seed, found.set_id, line.user_id) for line in found.shares]
    if keys != sorted(set(keys)) or [line.number for line in found.shares] != list(range(len(found.shares))):
        return ["the shares are not in the order that the seed decides"]
    terms = (found.split, found.pool_fen, found.completers, found.min_fen, seed, found.set_id)
    try:
        due = [fen for first in range(0, found.completers, draws.PART) for fen in shares(*terms, first)]
    except InvalidFieldsError as error:
        return [f"the pool cannot be split: {error}"]
    return [
        f"share {line.number} of {line.user_id} is {fen} fen, not {line.share_fen}"
        for line, fen in zip(found.shares, due, strict=True)
        if line.share_fen != fen
    ]
