"""Making a campaign: the form, what it would be like, and having it paid for, which always takes two operators."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.responses import Response

from api.console.desk import Desk
from api.console.forms import Fields
from api.console.pages.deposits import amount_fen_of
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.calendar.china_time import CHINA
from engine.campaigns.draws import MILLION
from engine.campaigns.outlook import crowds, sample
from engine.campaigns.terms import WAVES_MAX, CampaignTerms, Entry, PrizeTerms, WaveTerms, Who, campaign_terms
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import USER_ID_RULE, is_user_id
from engine.operators.actions import Action, Arguments, Doing, Effect, always, as_text, hash_of
from engine.records import SplitKind
from engine.text import yuan

FUND = marked("make and fund a campaign")
FIELDS = (
    *("owner", "name", "starts_at", "waves", "every_s", "seconds", "total", "count", "split", "odds", "who"),
    *("wave_wins_max", "wins_max", "interval_ms"),
)
_DEFAULTS = {"waves": "1", "every_s": "600", "seconds": "60", "split": "lucky", "odds": "100", "who": "anyone"} | {
    "wave_wins_max": "1",
    "interval_ms": "0",
}
_ODDS = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?")
_PER_CENT = MILLION // 100
_DIGITS_MAX = 12


@dataclass(frozen=True, slots=True)
class Wanted:
    """A campaign as its form says: ``arguments`` are kept and hashed, ``terms`` are made of them."""

    arguments: dict[str, Any]
    terms: CampaignTerms


async def show(visit: Visit) -> Response:
    """The form and, once it is filled in, what the campaign would be like."""
    values = {name: visit.query.text(name) or _DEFAULTS.get(name, "") for name in FIELDS}
    problems, outlook = [], None
    if visit.query.text("owner"):
        try:
            wanted = await _wanted(visit.desk, visit.query)
            outlook = await _outlook(visit.desk, wanted)
        except InvalidFieldsError as error:
            problems = error.problems
    return await visit.page(
        "campaign_making.html",
        status=422 if problems else 200,
        problems=problems,
        values=values,
        outlook=outlook,
        waves_max=WAVES_MAX,
    )


async def fund(visit: Visit) -> Response:
    """Have it made and paid for, once another operator has approved it."""
    wanted = await _wanted(visit.desk, visit.form)
    done = await visit.perform(FUND, wanted.arguments, subject=("user", str(wanted.arguments["owner"])))
    if done.approval_id is not None:
        return visit.redirect(f"/approvals/{done.approval_id}", notice="waits")
    result = done.result or {}
    return visit.redirect(f"/campaigns/{result.get('campaign_id', '')}", notice="done")


async def _wanted(desk: Desk, fields: Fields) -> Wanted:
    """What a form asks for. Raises InvalidFieldsError naming every bad field."""
    arguments, problems = _arguments(fields)
    if problems:
        raise InvalidFieldsError(problems)
    return Wanted(arguments, _terms(desk, arguments, await _now_ms(desk)))


def _arguments(fields: Fields) -> tuple[dict[str, Any], list[FieldProblem]]:
    """The form's values, as far as they can be read, and what is wrong with the others."""
    read = {name: _READ[name](fields.text(name) or _OPTIONAL.get(name, "")) for name in FIELDS}
    problems = [FieldProblem(name, _RULES[name]) for name, value in read.items() if value is None]
    arguments = {_KEPT.get(name, name): value for name, value in read.items()}
    arguments["wins_max"] = arguments["wins_max"] or None
    return arguments, problems


def _terms(desk: Desk, arguments: Arguments, now_ms: int) -> CampaignTerms:
    """The terms of these arguments, checked by this clock. Raises InvalidFieldsError."""
    prize = PrizeTerms(total_fen=arguments["total_fen"], count=arguments["count"], split=SplitKind(arguments["split"]))
    waves = [
        WaveTerms(
            starts_at_ms=arguments["starts_at_ms"] + place * arguments["every_s"] * 1_000,
            seconds=arguments["seconds"],
            prizes=(prize,),
        )
        for place in range(arguments["waves"])
    ]
    entry = Entry(
        who=Who(arguments["who"]),
        wave_wins_max=arguments["wave_wins_max"],
        wins_max=arguments["wins_max"],
        interval_ms=arguments["interval_ms"],
    )
    return campaign_terms(
        settings=desk.settings,
        now_ms=now_ms,
        name=arguments["name"],
        waves=waves,
        odds_millionths=arguments["odds_millionths"],
        entry=entry,
    )


async def _outlook(desk: Desk, wanted: Wanted) -> dict[str, Any]:
    terms = wanted.terms
    wave = terms.waves[0]
    budget_fen = terms.budgets_fen[None]
    wallet = await desk.engine.wallets.get(wanted.arguments["owner"])
    return {
        "terms": terms,
        "budget_fen": budget_fen,
        "balance_fen": wallet.balance_fen,
        "is_enough": wallet.balance_fen >= budget_fen,
        "sample": sample(wave.prizes[0]),
        "crowds": crowds(terms, wave.count),
    }


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    """What the second operator sees before they approve."""
    wallet = await desk.engine.wallets.get(str(arguments["owner"]))
    budget_fen = int(arguments["total_fen"]) * int(arguments["waves"])
    starts_at = datetime.fromtimestamp(int(arguments["starts_at_ms"]) // 1_000, CHINA)
    return [
        (marked("Name"), str(arguments["name"])),
        (marked("Owner"), str(arguments["owner"])),
        (marked("First wave"), f"{starts_at:%Y-%m-%d %H:%M:%S}"),
        (marked("Waves"), str(arguments["waves"])),
        (marked("Shares per wave"), f"{int(arguments['count']):,}"),
        (marked("Odds"), f"{int(arguments['odds_millionths']) / _PER_CENT:g} %"),
        (marked("Budget"), yuan(budget_fen)),
        (marked("Owner's balance now"), yuan(wallet.balance_fen)),
        (marked("Balance afterwards"), yuan(wallet.balance_fen - budget_fen)),
    ]


async def _execute(doing: Doing[Desk]) -> dict[str, Any]:
    """Make it, by the clock of now: a first wave that has become too near is refused, and nothing is paid."""

    async def terms(now_ms: int) -> CampaignTerms:
        return _terms(doing.tools, doing.arguments, now_ms)

    made = await doing.tools.engine.campaigns.make(
        str(doing.arguments["owner"]),
        terms,
        address="",
        idempotency_key=hash_of(doing.key).hex(),
        request_hash=hash_of(as_text(doing.arguments)),
    )
    return {"campaign_id": made.campaign_id, "count": made.count, "commitment": made.commitment}


async def _now_ms(desk: Desk) -> int:
    now_ms: int = await desk.engine.store.earliest_ms()
    return now_ms


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _DIGITS_MAX else None


def _waves(text: str) -> int | None:
    waves = _whole(text)
    return waves if waves is not None and 1 <= waves <= WAVES_MAX else None


def _moment_ms(text: str) -> int | None:
    """A time in China as a browser's field gives it."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=CHINA)
        return int(moment.timestamp() * 1_000)
    except (OverflowError, OSError, ValueError):
        return None


def _odds_millionths(text: str) -> int | None:
    found = _ODDS.fullmatch(text.removesuffix("%").strip())
    if found is None:
        return None
    odds = int(found[1]) * _PER_CENT + int((found[2] or "").ljust(4, "0"))
    return odds if 1 <= odds <= MILLION else None


def _one_of(*words: str) -> Callable[[str], str | None]:
    return lambda text: text if text in words else None


_SPLITS, _WHO = [kind.value for kind in SplitKind], [Who.ANYONE.value, Who.ADMITTED.value]
_READ: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("every_s", "seconds", "count", "wave_wins_max", "wins_max", "interval_ms"), _whole),
    "owner": lambda text: text if is_user_id(text) else None,
    "name": str,
    "starts_at": _moment_ms,
    "waves": _waves,
    "total": amount_fen_of,
    "split": _one_of(*_SPLITS),
    "odds": _odds_millionths,
    "who": _one_of(*_WHO),
}
"""How each field is read. None: it cannot be."""
_RULES: Mapping[str, str] = {
    **dict.fromkeys(
        ("every_s", "seconds", "count", "wave_wins_max", "wins_max", "interval_ms"), "must be a whole number"
    ),
    "owner": USER_ID_RULE,
    "starts_at": "must be a time in China as 2027-02-05T20:00",
    "waves": f"must be a whole number from 1 to {WAVES_MAX}",
    "total": "must be an amount as 12.34",
    "split": f"must be one of: {', '.join(_SPLITS)}",
    "odds": "must be a percentage above 0 and up to 100, with at most 4 decimals",
    "who": f"must be one of: {', '.join(_WHO)}",
}
_OPTIONAL = {"wave_wins_max": "1", "wins_max": "0", "interval_ms": "0"}
_KEPT = {"starts_at": "starts_at_ms", "total": "total_fen", "odds": "odds_millionths"}
"""The names of arguments whose unit is not that of their field."""


ACTIONS = (Action(name=FUND, permission="campaigns:fund", execute=_execute, needs_two=always, effect=_effect),)
ROUTES = (
    Page("GET", "/campaigns/new", show, "campaigns:write"),
    Page("POST", "/campaigns", fund, "campaigns:fund", action=FUND, subject=("user", "owner"), needs_proof=True),
)
