"""A set's terms, checked together, so that the answer names every bad field."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.cards.draws import most_completers
from engine.errors import FieldProblem, InvalidFieldsError
from engine.packets.split import TOTAL_FEN_MAX
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import TEXT_RULE, is_readable

CARDS_MIN, CARDS_MAX = 2, 20
COUNT_MAX = 100_000_000
"""Of one card."""
COMPLETERS_MAX = 10_000_000
"""As many as can share a pool."""
AHEAD_S_MAX = 90 * 86_400
CLAIM_SECONDS_MIN, CLAIM_SECONDS_MAX = 60, 90 * 86_400
GRANTS_A_USER_MAX = 1_000
NAME_LENGTH_MAX, CARD_NAME_LENGTH_MAX = 60, 40


class Payout(StrEnum):
    """How a completer gets their share of the pool."""

    CLAIMABLE = "claimable"  # each asks for it, until a deadline
    AT_ONCE = "at_once"  # into the wallet, at the draw


@dataclass(frozen=True, slots=True, kw_only=True)
class CardTerms:
    """A card: how many there are of it, and how many of those are kept for grants."""

    name: str
    count: int
    granted_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTerms:
    """Checked terms. ``wild``: it stands for any missing card. ``claim_seconds``: how long shares can be claimed."""

    name: str
    cards: tuple[CardTerms, ...]
    wild: CardTerms | None
    pool_fen: int
    split: SplitKind
    min_fen: int
    payout: Payout
    claim_seconds: int | None
    grants_a_user_max: int
    ends_at_ms: int
    draws_at_ms: int

    @property
    def kinds(self) -> tuple[CardTerms, ...]:
        """All cards in the order of their numbers, the wild one last."""
        return self.cards if self.wild is None else (*self.cards, self.wild)

    @property
    def committed(self) -> tuple[object, ...]:
        """What the commitment covers besides the cards."""
        return committed_terms(
            pool_fen=self.pool_fen,
            split=self.split,
            min_fen=self.min_fen,
            payout=self.payout,
            claim_seconds=self.claim_seconds,
            grants_a_user_max=self.grants_a_user_max,
            ends_at_ms=self.ends_at_ms,
            draws_at_ms=self.draws_at_ms,
        )


def committed_terms(
    *,
    pool_fen: int,
    split: SplitKind,
    min_fen: int,
    payout: Payout,
    claim_seconds: int | None,
    grants_a_user_max: int,
    ends_at_ms: int,
    draws_at_ms: int,
) -> tuple[object, ...]:
    """The terms that the commitment covers, in its order."""
    times = (claim_seconds or 0, grants_a_user_max, ends_at_ms, draws_at_ms)
    return (pool_fen, split.value, min_fen, payout.value, *times)


def set_terms(
    *,
    settings: Settings,
    now_ms: int,
    name: str,
    cards: Sequence[CardTerms],
    wild: CardTerms | None,
    pool_fen: int,
    split: SplitKind,
    min_fen: int | None,
    payout: Payout,
    claim_seconds: int | None,
    grants_a_user_max: int,
    ends_at_ms: int,
    draws_at_ms: int,
) -> SetTerms:
    """Checked terms with their defaults. Raises InvalidFieldsError naming every bad field. ``now_ms``: the clock."""
    least = settings.share_fen_min if min_fen is None else min_fen
    problems = _name_problems("name", name, NAME_LENGTH_MAX)
    problems += _card_problems(cards, wild)
    problems += _time_problems(now_ms, ends_at_ms, draws_at_ms)
    if payout is Payout.AT_ONCE and claim_seconds is not None:
        problems.append(FieldProblem("claim_seconds", "must be left out: shares are paid at once"))
    elif payout is Payout.CLAIMABLE and (
        claim_seconds is None or not CLAIM_SECONDS_MIN <= claim_seconds <= CLAIM_SECONDS_MAX
    ):
        rule = f"must be from {CLAIM_SECONDS_MIN} to {CLAIM_SECONDS_MAX}: how long shares can be claimed"
        problems.append(FieldProblem("claim_seconds", rule))
    granted = sum(card.granted_count for card in cards) + (wild.granted_count if wild is not None else 0)
    if not (1 if granted else 0) <= grants_a_user_max <= GRANTS_A_USER_MAX:
        rule = f"must be from {1 if granted else 0} to {GRANTS_A_USER_MAX}"
        problems.append(FieldProblem("grants_a_user_max", rule))
    if least < settings.share_fen_min:
        problems.append(FieldProblem("min_fen", f"must be at least {settings.share_fen_min}"))
    if not 1 <= pool_fen <= TOTAL_FEN_MAX:
        problems.append(FieldProblem("pool_fen", f"must be from 1 to {TOTAL_FEN_MAX}"))
    if not problems:
        problems = _pool_problems(cards, wild, pool_fen, least)
    if problems:
        raise InvalidFieldsError(problems)
    return SetTerms(
        name=name,
        cards=tuple(cards),
        wild=wild,
        pool_fen=pool_fen,
        split=split,
        min_fen=least,
        payout=payout,
        claim_seconds=claim_seconds,
        grants_a_user_max=grants_a_user_max,
        ends_at_ms=ends_at_ms,
        draws_at_ms=draws_at_ms,
    )


def _name_problems(field: str, name: str, length_max: int) -> list[FieldProblem]:
    if not 1 <= len(name) <= length_max:
        return [FieldProblem(field, f"must have 1 to {length_max} characters")]
    return [] if is_readable(name) else [FieldProblem(field, TEXT_RULE)]


def _card_problems(cards: Sequence[CardTerms], wild: CardTerms | None) -> list[FieldProblem]:
    if not CARDS_MIN <= len(cards) <= CARDS_MAX:
        return [FieldProblem("cards", f"must be {CARDS_MIN} to {CARDS_MAX}, without the wild card")]
    problems, names = [], set[str]()
    named = [(f"cards[{place}]", card) for place, card in enumerate(cards)]
    for field, card in [*named, *([] if wild is None else [("wild", wild)])]:
        problems += _name_problems(f"{field}.name", card.name, CARD_NAME_LENGTH_MAX)
        if card.name in names:
            problems.append(FieldProblem(f"{field}.name", "must be another than those before it"))
        names.add(card.name)
        if not 1 <= card.count <= COUNT_MAX:
            problems.append(FieldProblem(f"{field}.count", f"must be from 1 to {COUNT_MAX}"))
        if not 0 <= card.granted_count <= max(0, card.count):
            problems.append(FieldProblem(f"{field}.granted_count", "must be from 0 to the card's count"))
    return problems


def _time_problems(now_ms: int, ends_at_ms: int, draws_at_ms: int) -> list[FieldProblem]:
    problems, latest_ms = [], now_ms + AHEAD_S_MAX * 1000
    if not now_ms < ends_at_ms <= latest_ms:
        problems.append(FieldProblem("ends_at_ms", f"must be later than now, within {AHEAD_S_MAX // 86_400} days"))
    if not ends_at_ms <= draws_at_ms <= latest_ms:
        rule = f"must not be before ends_at_ms, and must be within {AHEAD_S_MAX // 86_400} days"
        problems.append(FieldProblem("draws_at_ms", rule))
    return problems


def _pool_problems(
    cards: Sequence[CardTerms], wild: CardTerms | None, pool_fen: int, min_fen: int
) -> list[FieldProblem]:
    """Whoever completes the set gets a share, so the pool must be enough for as many as the cards allow."""
    most = most_completers([card.count for card in cards], 0 if wild is None else wild.count)
    if most > COMPLETERS_MAX:
        return [FieldProblem("cards", f"must allow at most {COMPLETERS_MAX} complete sets: these allow {most}")]
    if pool_fen < most * min_fen:
        rule = f"must be at least {most * min_fen}: {most} users can complete the set, with {min_fen} or more each"
        return [FieldProblem("pool_fen", rule)]
    return []
