"""A campaign's terms, checked together, so that the answer names every bad field."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.calendar.china_time import day_of
from engine.campaigns.draws import MILLION
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import USER_ID_RULE, is_user_id
from engine.packets import split as splitting
from engine.packets.terms import share_fen_max_on
from engine.records import SplitKind
from engine.settings import Settings
from engine.text import TEXT_RULE, is_readable

WAVES_MAX, PRIZES_MAX = 50, 20
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
WINS_MAX, WAVE_WINS_MAX = 1_000, 20
INTERVAL_MS_MAX = 60_000
GUESTS_MAX = 10_000


class Who(StrEnum):
    """Who may grab in a campaign."""

    ANYONE = "anyone"
    LISTED = "listed"  # those whom its owner has named
    ADMITTED = "admitted"  # whoever brings an admission that a backend has signed


@dataclass(frozen=True, slots=True, kw_only=True)
class PrizeTerms:
    """A part of a wave's pool: shares of one asset. ``asset`` None: money. Bounds None: the product's."""

    total_fen: int
    count: int
    split: SplitKind
    min_fen: int | None = None
    max_fen: int | None = None
    asset: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveTerms:
    """A wave: when it begins, how long it lasts, and what it gives."""

    starts_at_ms: int
    seconds: int
    prizes: tuple[PrizeTerms, ...]

    @property
    def ends_at_ms(self) -> int:
        """When it is over."""
        return self.starts_at_ms + self.seconds * 1000

    @property
    def count(self) -> int:
        """How many shares it has."""
        return sum(max(0, prize.count) for prize in self.prizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who may grab, and how often. ``wave_wins_max``, ``wins_max``: how many shares a user wins at most, in a wave and
    in all (None: no bound). ``interval_ms``: the least time between two grabs of a user. ``guests``: the users of
    LISTED. ``label``: ADMITTED also takes admissions of this group.
    """

    who: Who = Who.ANYONE
    wave_wins_max: int = 1
    wins_max: int | None = None
    interval_ms: int = 0
    guests: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignTerms:
    """Checked terms. All prizes have their bounds. ``lanes``: over how many lanes each prize is spread."""

    name: str
    waves: tuple[WaveTerms, ...]
    odds_millionths: int
    lanes: int
    entry: Entry

    @property
    def count(self) -> int:
        """How many shares it has."""
        return sum(wave.count for wave in self.waves)

    @property
    def budgets_fen(self) -> dict[str | None, int]:
        """What it gives in all, asset by asset."""
        budgets: dict[str | None, int] = {}
        for wave in self.waves:
            for prize in wave.prizes:
                budgets[prize.asset] = budgets.get(prize.asset, 0) + prize.total_fen
        return budgets

    def buckets_of(self, prize: PrizeTerms) -> int:
        """In how many packets a prize lies. A user wins at most one share of each."""
        return _buckets(prize, self.lanes, self.entry)


def campaign_terms(
    *,
    settings: Settings,
    now_ms: int,
    name: str,
    waves: Sequence[WaveTerms],
    odds_millionths: int = MILLION,
    lanes: int | None = None,
    entry: Entry | None = None,
) -> CampaignTerms:
    """Checked terms with their defaults. Raises InvalidFieldsError naming every bad field.

    ``now_ms``: the clock. ``lanes`` None: all.
    """
    entry = entry or Entry()
    problems = _problems(name, odds_millionths, lanes, settings) + _entry_problems(entry)
    problems += _wave_problems(waves, now_ms, settings)
    share_fen_max = _share_fen_max(waves, now_ms, settings)
    checked = []
    for place, wave in enumerate(waves):
        prizes = []
        for prize_place, prize in enumerate(wave.prizes):
            bounded, found = _bounded(prize, settings, share_fen_max)
            prizes.append(bounded)
            problems += [
                FieldProblem(f"waves[{place}].prizes[{prize_place}].{problem.field}", problem.message)
                for problem in found
            ]
        checked.append(replace(wave, prizes=tuple(prizes)))
    spread = settings.lanes if lanes is None else lanes
    if not problems:
        buckets = sum(_buckets(prize, spread, entry) for wave in waves for prize in wave.prizes)
        if buckets > BUCKETS_MAX:
            over = f"it would lie in {buckets} packets, and at most {BUCKETS_MAX} are possible: fewer lanes or prizes"
            problems.append(FieldProblem("lanes", over))
    terms = CampaignTerms(name=name, waves=tuple(checked), odds_millionths=odds_millionths, lanes=spread, entry=entry)
    if not problems and max(terms.budgets_fen.values()) > splitting.TOTAL_FEN_MAX:
        problems.append(FieldProblem("waves", f"must be of at most {splitting.TOTAL_FEN_MAX} in all"))
    if problems:
        raise InvalidFieldsError(problems)
    return terms


def _buckets(prize: PrizeTerms, lanes: int, entry: Entry) -> int:
    return min(prize.count, max(lanes, entry.wave_wins_max))


def _share_fen_max(waves: Sequence[WaveTerms], now_ms: int, settings: Settings) -> int:
    """The largest share of money: the smallest bound of the days on which a wave starts.

    No calendar has the days that are refused elsewhere.
    """
    latest_ms = now_ms + AHEAD_S_MAX * 1000
    days = {day_of(wave.starts_at_ms) for wave in waves if now_ms <= wave.starts_at_ms <= latest_ms}
    return min(share_fen_max_on(day, settings) for day in days or {day_of(now_ms)})


def _bounded(prize: PrizeTerms, settings: Settings, money_fen_max: int) -> tuple[PrizeTerms, list[FieldProblem]]:
    """A prize with both bounds, and what is wrong with it."""
    is_money, problems = prize.asset is None, []
    share_fen_min, share_fen_max = (settings.share_fen_min, money_fen_max) if is_money else (1, splitting.TOTAL_FEN_MAX)
    least, most = prize.min_fen or share_fen_min, prize.max_fen or share_fen_max
    if least < share_fen_min:
        problems.append(FieldProblem("min_fen", f"must be at least {share_fen_min}"))
    if most > share_fen_max:
        problems.append(FieldProblem("max_fen", f"must be at most {share_fen_max}"))
    if prize.count > settings.merchant_count_max:
        problems.append(FieldProblem("count", f"must be at most {settings.merchant_count_max}"))
    try:
        splitting.check(prize.split, prize.total_fen, prize.count, least, most)
    except InvalidFieldsError as error:
        problems += error.problems
    return replace(prize, min_fen=least, max_fen=most), problems


def _problems(name: str, odds_millionths: int, lanes: int | None, settings: Settings) -> list[FieldProblem]:
    problems = []
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        problems.append(FieldProblem("name", f"must have 1 to {NAME_LENGTH_MAX} characters"))
    elif not is_readable(name):
        problems.append(FieldProblem("name", TEXT_RULE))
    if not 1 <= odds_millionths <= MILLION:
        problems.append(FieldProblem("odds_millionths", f"must be from 1 to {MILLION}"))
    if lanes is not None and not 1 <= lanes <= settings.lanes:
        problems.append(FieldProblem("lanes", f"must be from 1 to {settings.lanes}, the server's lanes"))
    return problems


def _entry_problems(entry: Entry) -> list[FieldProblem]:
    problems = []
    if not 1 <= entry.wave_wins_max <= WAVE_WINS_MAX:
        problems.append(FieldProblem("wave_wins_max", f"must be from 1 to {WAVE_WINS_MAX}"))
    if entry.wins_max is not None and not 1 <= entry.wins_max <= WINS_MAX:
        problems.append(FieldProblem("wins_max", f"must be from 1 to {WINS_MAX}"))
    if not 0 <= entry.interval_ms <= INTERVAL_MS_MAX:
        problems.append(FieldProblem("interval_ms", f"must be from 0 to {INTERVAL_MS_MAX}"))
    if (entry.who is Who.LISTED) != bool(entry.guests):
        problems.append(FieldProblem("guests", "must name the users if, and only if, `who` is listed"))
    elif len(entry.guests) > GUESTS_MAX:
        problems.append(FieldProblem("guests", f"must be at most {GUESTS_MAX} users"))
    problems += [
        FieldProblem(f"guests[{place}]", USER_ID_RULE)
        for place, user_id in enumerate(entry.guests)
        if not is_user_id(user_id)
    ]
    if entry.label is not None and entry.who is not Who.ADMITTED:
        problems.append(FieldProblem("label", "must be left out unless `who` is admitted"))
    elif entry.label is not None and not is_user_id(entry.label):
        problems.append(FieldProblem("label", USER_ID_RULE))
    return problems


def _wave_problems(waves: Sequence[WaveTerms], now_ms: int, settings: Settings) -> list[FieldProblem]:
    if not 1 <= len(waves) <= WAVES_MAX:
        return [FieldProblem("waves", f"must be 1 to {WAVES_MAX}")]
    shares = sum(wave.count for wave in waves)
    lead_s = LEAD_S_MIN + min(shares, SHARES_MAX) // LEAD_SHARES_A_S
    problems, over_ms = [], now_ms + lead_s * 1000
    for place, wave in enumerate(waves):
        where = f"waves[{place}]"
        if wave.starts_at_ms < over_ms:
            rule = f"must be at least {lead_s} s from now" if place == 0 else "must be after the wave before it"
            problems.append(FieldProblem(f"{where}.starts_at_ms", rule))
        if wave.starts_at_ms > now_ms + AHEAD_S_MAX * 1000:
            problems.append(FieldProblem(f"{where}.starts_at_ms", f"must be within {AHEAD_S_MAX // 86_400} days"))
        if not 1 <= wave.seconds <= SECONDS_MAX:
            problems.append(FieldProblem(f"{where}.seconds", f"must be from 1 to {SECONDS_MAX}"))
        if not 1 <= len(wave.prizes) <= PRIZES_MAX:
            problems.append(FieldProblem(f"{where}.prizes", f"must be 1 to {PRIZES_MAX}"))
        over_ms = max(over_ms, wave.ends_at_ms)
    if shares > SHARES_MAX:
        problems.append(FieldProblem("waves", f"must have at most {SHARES_MAX} shares in all"))
    return problems
