"""A campaign's terms, checked together, so that the answer names every bad field."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.calendar.china_time import day_of
from engine.campaigns.draws import MILLION
from engine.errors import FieldProblem, InvalidFieldsError
from engine.packets import split as splitting
from engine.packets.terms import share_fen_max_on
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import TEXT_RULE, is_readable

WAVES_MAX = 50
BUCKETS_MAX = 600
"""How many packets a campaign may be: all are paid in one transaction."""
SECONDS_MAX = 86_400
AHEAD_S_MAX = 90 * 86_400
"""How long before its last wave a campaign can be made."""
LEAD_S_MIN, LEAD_SHARES_A_S = 5, 200_000
"""How long before its first wave, and a second more for each so many shares: they must be in Redis by then. One
publisher loads three times as many in a second, and no wave before the others."""
NAME_LENGTH_MAX = 60
SHARES_MAX = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveTerms:
    """A wave: when it begins, how long it lasts, and what it gives."""

    starts_at_ms: int
    seconds: int
    total_fen: int
    count: int

    @property
    def ends_at_ms(self) -> int:
        """When it is over."""
        return self.starts_at_ms + self.seconds * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignTerms:
    """Checked terms. ``buckets``: in how many packets each wave lies. ``asset`` None: money."""

    name: str
    split: SplitKind
    waves: tuple[WaveTerms, ...]
    min_fen: int
    max_fen: int
    odds_millionths: int
    buckets: int
    asset: str | None

    @property
    def total_fen(self) -> int:
        """The budget."""
        return sum(wave.total_fen for wave in self.waves)

    @property
    def count(self) -> int:
        """How many shares it has."""
        return sum(wave.count for wave in self.waves)


def campaign_terms(
    *,
    settings: Settings,
    now_ms: int,
    name: str,
    split: SplitKind,
    waves: Sequence[WaveTerms],
    min_fen: int | None = None,
    max_fen: int | None = None,
    odds_millionths: int = MILLION,
    buckets: int | None = None,
    asset: str | None = None,
) -> CampaignTerms:
    """Checked terms with their defaults. Raises InvalidFieldsError naming every bad field.

    ``now_ms``: the clock. ``buckets`` None: one per lane, as far as each wave has a share for it.
    """
    is_money = asset is None
    share_fen_min = settings.share_fen_min if is_money else 1
    share_fen_max = splitting.TOTAL_FEN_MAX
    if is_money:  # the smallest of the days on which it gives; no calendar has the days that are refused below
        latest_ms = now_ms + AHEAD_S_MAX * 1000
        days = {day_of(wave.starts_at_ms) for wave in waves if now_ms <= wave.starts_at_ms <= latest_ms}
        share_fen_max = min(share_fen_max_on(day, settings) for day in days or {day_of(now_ms)})
    least, most = min_fen or share_fen_min, max_fen or share_fen_max
    problems = _problems(name, odds_millionths, buckets, settings)
    if least < share_fen_min:
        problems.append(FieldProblem("min_fen", f"must be at least {share_fen_min}"))
    if most > share_fen_max:
        problems.append(FieldProblem("max_fen", f"must be at most {share_fen_max}"))
    problems += _wave_problems(waves, now_ms, settings, (split, least, most))
    fewest = min((wave.count for wave in waves), default=1)
    if buckets is not None and buckets > fewest:
        problems.append(FieldProblem("lanes", f"must be at most {fewest}, the shares of the smallest wave"))
    chosen = min(settings.lanes, max(1, fewest)) if buckets is None else buckets
    if not problems and chosen * len(waves) > BUCKETS_MAX:
        problems.append(FieldProblem("lanes", f"must be at most {BUCKETS_MAX // len(waves)} with so many waves"))
    if problems:
        raise InvalidFieldsError(problems)
    return CampaignTerms(
        name=name,
        split=split,
        waves=tuple(waves),
        min_fen=least,
        max_fen=most,
        odds_millionths=odds_millionths,
        buckets=chosen,
        asset=asset,
    )


def _problems(name: str, odds_millionths: int, buckets: int | None, settings: Settings) -> list[FieldProblem]:
    problems = []
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        problems.append(FieldProblem("name", f"must have 1 to {NAME_LENGTH_MAX} characters"))
    elif not is_readable(name):
        problems.append(FieldProblem("name", TEXT_RULE))
    if not 1 <= odds_millionths <= MILLION:
        problems.append(FieldProblem("odds_millionths", f"must be from 1 to {MILLION}"))
    if buckets is not None and not 1 <= buckets <= settings.lanes:
        problems.append(FieldProblem("lanes", f"must be from 1 to {settings.lanes}, the server's lanes"))
    return problems


def _wave_problems(
    waves: Sequence[WaveTerms], now_ms: int, settings: Settings, split_as: tuple[SplitKind, int, int]
) -> list[FieldProblem]:
    if not 1 <= len(waves) <= WAVES_MAX:
        return [FieldProblem("waves", f"must be 1 to {WAVES_MAX}")]
    shares = sum(max(0, wave.count) for wave in waves)
    lead_s = LEAD_S_MIN + min(shares, SHARES_MAX) // LEAD_SHARES_A_S
    problems, over_ms = [], now_ms + lead_s * 1000
    split, min_fen, max_fen = split_as
    for place, wave in enumerate(waves):
        where = f"waves[{place}]"
        if wave.starts_at_ms < over_ms:
            rule = f"must be at least {lead_s} s from now" if place == 0 else "must be after the wave before it"
            problems.append(FieldProblem(f"{where}.starts_at_ms", rule))
        if wave.starts_at_ms > now_ms + AHEAD_S_MAX * 1000:
            problems.append(FieldProblem(f"{where}.starts_at_ms", f"must be within {AHEAD_S_MAX // 86_400} days"))
        if not 1 <= wave.seconds <= SECONDS_MAX:
            problems.append(FieldProblem(f"{where}.seconds", f"must be from 1 to {SECONDS_MAX}"))
        if wave.count > settings.merchant_count_max:
            problems.append(FieldProblem(f"{where}.count", f"must be at most {settings.merchant_count_max}"))
        try:
            splitting.check(split, wave.total_fen, wave.count, min_fen, max_fen)
        except InvalidFieldsError as error:
            problems += [
                FieldProblem(
                    f"{where}.{problem.field}" if problem.field in ("total_fen", "count") else problem.field,
                    problem.message,
                )
                for problem in error.problems
            ]
        over_ms = max(over_ms, wave.ends_at_ms)
    if shares > SHARES_MAX:
        problems.append(FieldProblem("waves", f"must have at most {SHARES_MAX} shares in all"))
    if sum(wave.total_fen for wave in waves) > splitting.TOTAL_FEN_MAX:
        problems.append(FieldProblem("waves", f"must be of at most {splitting.TOTAL_FEN_MAX} in all"))
    return problems
