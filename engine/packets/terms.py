"""The limits on a packet's terms. They are checked together, so that the answer names every bad field."""

from collections.abc import Sequence
from datetime import date

from engine.calendar.china_time import today
from engine.calendar.festivals import festivals_in, is_festival
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import USER_ID_RULE, is_user_id
from engine.packets import split as splitting
from engine.records import Ack, SplitKind, Terms
from engine.settings import Settings
from engine.text import TEXT_RULE, is_readable


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
    label: str | None = None,
    is_exclusive: bool = False,
    is_timed: bool = False,
    day: date | None = None,
    asset: str | None = None,
) -> Terms:
    """Checked terms with their defaults. Raises InvalidFieldsError naming every bad field.

    ``is_exclusive``: for one recipient. ``is_timed``: for a minute. ``day``: the day of sending in China, if not today.
    ``asset``: the settings' bounds on a share are about money, and do not bind other assets.
    """
    share_fen_min, share_fen_max = settings.share_fen_min, share_fen_max_on(day or today(), settings)
    if asset is not None:
        share_fen_min, share_fen_max = 1, splitting.TOTAL_FEN_MAX
    if ttl_s is None:
        ttl_s = settings.timed_ttl_s if is_timed else settings.ttl_s_default
        is_timed = False
    terms = Terms(
        total_fen=total_fen,
        count=count,
        split=split,
        min_fen=share_fen_min if min_fen is None else min_fen,
        max_fen=share_fen_max if max_fen is None else max_fen,
        ttl_s=ttl_s,
        greeting=greeting,
        recipients=tuple(recipients),
        ack=ack,
        label=label,
        asset=asset,
    )
    problems = _limit_problems(terms, settings, share_fen_min, share_fen_max) + _recipient_problems(terms, settings)
    if is_exclusive and (count != 1 or len(recipients) != 1):
        field, rule = ("count", "must be 1") if count != 1 else ("recipients", "must name one user")
        problems.append(FieldProblem(field, f"{rule} for an exclusive packet"))
    if is_timed:
        problems.append(FieldProblem("ttl_s", f"must not be given for a timed packet: it is {settings.timed_ttl_s}"))
    if label is not None and not is_user_id(label):
        problems.append(FieldProblem("label", USER_ID_RULE))
    try:
        splitting.check(terms.split, terms.total_fen, terms.count, terms.min_fen, terms.max_fen)
    except InvalidFieldsError as error:
        named = {problem.field for problem in problems}
        problems += [problem for problem in error.problems if problem.field not in named]
    if problems:
        raise InvalidFieldsError(problems)
    return terms


def share_fen_max_on(day: date, settings: Settings) -> int:
    """The largest share of a packet that is sent on a day (in China)."""
    if is_festival(day, festivals_in(settings.festivals)):
        return max(settings.share_fen_max, settings.festival_share_fen_max)
    return settings.share_fen_max


def _limit_problems(terms: Terms, settings: Settings, share_fen_min: int, share_fen_max: int) -> list[FieldProblem]:
    problems = []
    count_max = max(
        settings.count_max, settings.merchant_count_max
    )  # limits.admit knows the sender and checks the limits per person
    if terms.count > count_max:
        problems.append(FieldProblem("count", f"must be at most {count_max}"))
    if terms.min_fen < share_fen_min:
        problems.append(FieldProblem("min_fen", f"must be at least {share_fen_min}"))
    if terms.max_fen > share_fen_max:
        problems.append(FieldProblem("max_fen", f"must be at most {share_fen_max}"))
    if not 1 <= terms.ttl_s <= settings.ttl_s_max:
        problems.append(FieldProblem("ttl_s", f"must be from 1 to {settings.ttl_s_max}"))
    if len(terms.greeting) > settings.greeting_length_max:
        problems.append(FieldProblem("greeting", f"must have at most {settings.greeting_length_max} characters"))
    if not is_readable(terms.greeting):
        problems.append(FieldProblem("greeting", TEXT_RULE))
    if terms.ack is not None and terms.ack.is_weaker_than(settings.ack):
        problems.append(FieldProblem("ack", f"must be at least as strong as {settings.ack}, the server's setting"))
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
