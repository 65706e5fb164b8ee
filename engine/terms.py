"""What a sender may ask for: the product's limits, checked together so that every bad field is named at once."""

import unicodedata
from collections.abc import Sequence

from engine import split as splitting
from engine.errors import FieldProblem, InvalidFieldsError
from engine.records import Ack, SplitKind, Terms
from engine.settings import Settings
from engine.users import USER_ID_RULE, is_user_id


def terms_from(
    *,
    settings: Settings,
    total_fen: int,
    count: int,
    split: SplitKind,
    min_fen: int | None = None,
    max_fen: int | None = None,
    ttl_s: int | None = None,
    greeting: str = "",
    recipients: Sequence[str] = (),
    ack: Ack | None = None,
) -> Terms:
    """Checked terms, with the defaults filled in. Raises InvalidFieldsError naming every bad field."""
    terms = Terms(
        total_fen=total_fen,
        count=count,
        split=split,
        min_fen=settings.share_fen_min if min_fen is None else min_fen,
        max_fen=settings.share_fen_max if max_fen is None else max_fen,
        ttl_s=settings.ttl_s_default if ttl_s is None else ttl_s,
        greeting=greeting,
        recipients=tuple(recipients),
        ack=ack,
    )
    problems = _limit_problems(terms, settings) + _recipient_problems(terms, settings)
    try:
        splitting.check(terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen)
    except InvalidFieldsError as error:
        named = {problem.field for problem in problems}
        problems += [problem for problem in error.problems if problem.field not in named]
    if problems:
        raise InvalidFieldsError(problems)
    return terms


def _limit_problems(terms: Terms, settings: Settings) -> list[FieldProblem]:
    problems = []
    if terms.count > settings.count_max:
        problems.append(FieldProblem("count", f"must be at most {settings.count_max}"))
    if terms.min_fen < settings.share_fen_min:
        problems.append(FieldProblem("min_fen", f"must be at least {settings.share_fen_min}"))
    if terms.max_fen > settings.share_fen_max:
        problems.append(FieldProblem("max_fen", f"must be at most {settings.share_fen_max}"))
    if not 1 <= terms.ttl_s <= settings.ttl_s_max:
        problems.append(FieldProblem("ttl_s", f"must be from 1 to {settings.ttl_s_max}"))
    if len(terms.greeting) > settings.greeting_length_max:
        problems.append(FieldProblem("greeting", f"must have at most {settings.greeting_length_max} characters"))
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in terms.greeting):
        problems.append(FieldProblem("greeting", "must not have control characters or lone surrogates"))
    if terms.ack is not None and terms.ack.is_weaker_than(settings.ack):
        problems.append(
            FieldProblem("ack", f"must be at least as strong as {settings.ack}, which holds for all packets")
        )
    return problems


def _recipient_problems(terms: Terms, settings: Settings) -> list[FieldProblem]:
    recipients = terms.recipients
    if len(recipients) > settings.recipients_max:
        return [FieldProblem("recipients", f"must name at most {settings.recipients_max} users")]
    problems = [
        FieldProblem(f"recipients[{place}]", USER_ID_RULE)
        for place, user_id in enumerate(recipients)
        if not is_user_id(user_id)
    ]
    if len(set(recipients)) < len(recipients):
        problems.append(FieldProblem("recipients", "must name each user once"))
    if recipients and terms.count > len(recipients):
        problems.append(FieldProblem("count", f"must be at most {len(recipients)}, the number of recipients"))
    return problems
