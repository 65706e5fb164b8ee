"""Making a campaign: its terms, what they come to, and its payment from a merchant's account by two operators."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from api.console import filtering
from api.console.desk import Desk
from api.console.forms import Fields
from api.console.pages.campaigns import WHO, WRITE, local, moment, percent
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.calendar.china_time import begin_ms, today
from engine.campaigns.campaigns import request_of
from engine.campaigns.draws import MILLION, divided
from engine.campaigns.terms import (
    GUESTS_MAX,
    PRIZES_MAX,
    WAVES_MAX,
    CampaignTerms,
    Entry,
    PrizeTerms,
    WaveTerms,
    Who,
    campaign_terms,
)
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import USER_ID_RULE, is_user_id
from engine.ledger.idempotency import forbid
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Arguments, Doing, Effect, always, as_text, hash_of
from engine.packets.split import new_seed, split
from engine.records import SplitKind
from engine.risk.limits import AccountKind
from engine.text import decimal

FUND, FUND_RIGHT = "campaign.fund", "campaigns:fund"
_WAVES_SHOWN, _PRIZES_SHOWN = 10, 5
"""Rows of the form. Larger campaigns are made through the API."""
_SHARES_SHOWN, _SAMPLE_MAX = 24, 100_000
_DAY_MS = 86_400_000
_OF_THE_PAYMENT = ("reason", "key", "code")
_NO_MERCHANT = marked("must be a merchant's account: an operator with the role risk makes it one, on the user's page")
_NO_AMOUNT = marked("must be an amount, without more decimals than the asset has")
_NO_TIME = marked("must be a time as 2026-12-01T20:00:00")
_NO_NUMBER = marked("must be a whole number")
_PART = re.compile(r"w([0-9]+)(?:p[0-9]+)?_([a-z]+)", re.ASCII)
_PART_OF_TERMS = re.compile(r"waves\[([0-9]+)\]\.(?:prizes\[[0-9]+\]\.)?([a-z_]+)", re.ASCII)
_LABELS = {
    "owner": marked("Paid by this merchant"),
    "starts": marked("Starts, in China"),
    "starts_at_ms": marked("Starts, in China"),
    "seconds": marked("Seconds"),
    "asset": marked("Asset"),
    "split": marked("Split"),
    "prizes": marked("Prizes in each"),
    "total": marked("Total"),
    "total_fen": marked("Total"),
    "count": marked("Shares"),
}
"""What a field is called on the form, by its name or, in a wave, by the end of its name."""
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)
_PERCENT = re.compile(r"(100|[0-9]{1,2})(?:\.([0-9]{1,4}))?", re.ASCII)


async def show(visit: Visit) -> Response:
    """The form, with as many waves and prizes as the address asks for."""
    return await _form(visit, visit.query)


async def preview(visit: Visit) -> Response:
    """What the terms come to, and the form that has it paid. With ``again``: the form once more, as it was typed."""
    if visit.form.text("again"):
        return await _form(visit, visit.form)
    try:
        arguments = await _arguments(visit.desk, visit.form, visit.address)
        terms = await _terms(visit.desk, arguments)
        effect = await _effect(visit.desk, arguments)
    except InvalidFieldsError as error:
        return await _form(visit, visit.form, error.problems)
    return await visit.page(
        "campaign_drafts_preview.html",
        arguments=arguments,
        terms=terms,
        effect=[(visit.gettext(label), value) for label, value in effect],
        samples=await _samples(visit.desk, terms),
        hidden=[(name, visit.form.text(name)) for name in visit.form.names() if name not in _OF_THE_PAYMENT],
        buckets=sum(terms.buckets_of(prize) for wave in terms.waves for prize in wave.prizes),
    )


async def fund(visit: Visit) -> Response:
    """Have it paid: it waits for another operator."""
    arguments = await _arguments(visit.desk, visit.form, visit.address)
    await _terms(visit.desk, arguments)
    done = await visit.perform(FUND, arguments, subject=("user", str(arguments["owner"])))
    if done.result is None:
        return visit.redirect(f"/approvals/{done.approval_id}", notice="waits")
    return visit.redirect(f"/campaigns/{done.result['campaign_id']}", notice="done")


async def _form(visit: Visit, typed: Fields, problems: Sequence[FieldProblem] = ()) -> Response:
    waves = min(max(_whole(typed.text("waves")) or 1, 1), _WAVES_SHOWN)
    prizes = min(max(_whole(typed.text("prizes")) or 1, 1), _PRIZES_SHOWN)
    return await visit.page(
        "campaign_drafts_new.html",
        status=422 if problems else 200,
        problems=[_in_words(visit, problem) for problem in problems],
        typed=typed,
        waves=waves,
        prizes=prizes,
        waves_max=_WAVES_SHOWN,
        prizes_max=_PRIZES_SHOWN,
        who={value: visit.desk.front.texts.anywhere(visit.language, text) for value, text in WHO.items()},
        tomorrow=local(begin_ms(today()) + _DAY_MS + 20 * 3_600_000),
        currency=visit.desk.settings.currency,
    )


def _in_words(visit: Visit, problem: FieldProblem) -> FieldProblem:
    """A problem with the label that its field has on the form, in the operator's language as far as we have it."""
    named, wave = problem.field, None
    if part := _PART.fullmatch(problem.field):
        wave, named = int(part[1]), part[2]
    elif part := _PART_OF_TERMS.fullmatch(problem.field):
        wave, named = int(part[1]) + 1, part[2]
    if named in _LABELS:
        named = visit.gettext(_LABELS[named])
    if wave is not None:
        named = f"{visit.gettext('Wave %(number)s') % {'number': wave}}: {named}"
    return FieldProblem(named, visit.gettext(problem.message))


async def _arguments(desk: Desk, form: Fields, address: str) -> dict[str, Any]:
    """What the form says, as it will be kept: texts, whole numbers, lists. Raises InvalidFieldsError."""
    problems: list[FieldProblem] = []
    owner = form.text("owner")
    if not is_user_id(owner):
        problems.append(FieldProblem("owner", USER_ID_RULE))
    waves = [
        await _wave(desk, form, wave, problems) for wave in range(1, WAVES_MAX + 1) if form.text(f"w{wave}_starts")
    ]
    # A wave that the form has and that nobody has filled in is not left out in silence.
    wanted = min(max(_whole(form.text("waves")) or 1, 1), WAVES_MAX)
    problems += [
        FieldProblem(f"w{wave}_starts", _NO_TIME) for wave in range(1, wanted + 1) if not form.text(f"w{wave}_starts")
    ]
    odds = _PERCENT.fullmatch(form.text("odds") or "100")
    odds_millionths = 0 if odds is None else int(odds[1]) * 10_000 + int((odds[2] or "").ljust(4, "0"))
    if not 1 <= odds_millionths <= MILLION:
        problems.append(FieldProblem("odds", "must be from 0.0001 to 100"))
    who = form.text("who") or Who.ANYONE.value
    if who not in set(Who):
        problems.append(FieldProblem("who", "must be anyone, listed or admitted"))
    guests = form.text("guests").split()
    if len(guests) > GUESTS_MAX:
        problems.append(FieldProblem("guests", f"must be at most {GUESTS_MAX} users"))
    numbers = {
        name: _number_of(form, name, problems, default=default)
        for name, default in (("wave_wins_max", 1), ("wins_max", None), ("interval_ms", 0), ("lanes", None))
    }
    if problems:
        raise InvalidFieldsError(problems)
    return {
        "owner": owner,
        "name": form.text("name"),
        "waves": waves,
        "odds_millionths": odds_millionths,
        "who": who,
        "guests": guests,
        "label": form.text("label"),
        **numbers,
        "address": address,
    }


async def _wave(desk: Desk, form: Fields, wave: int, problems: list[FieldProblem]) -> list[Any]:
    """A wave: its start, its seconds, and its prizes (asset, split, total, count)."""
    starts_at_ms = moment(form.text(f"w{wave}_starts"))
    if starts_at_ms is None:
        problems.append(FieldProblem(f"w{wave}_starts", _NO_TIME))
    seconds = _number_of(form, f"w{wave}_seconds", problems, default=None) or 0
    prizes = []
    for prize in range(1, PRIZES_MAX + 1):
        name = f"w{wave}p{prize}"
        if form.text(f"{name}_total") or form.text(f"{name}_count"):
            prizes.append(await _prize(desk, form, name, problems))
    return [starts_at_ms or 0, seconds, prizes]


async def _prize(desk: Desk, form: Fields, name: str, problems: list[FieldProblem]) -> list[Any]:
    asset, scale, kind = "", 2, form.text(f"{name}_split") or SplitKind.LUCKY.value
    try:
        known = await filtering.asset(desk.engine.assets, form, f"{name}_asset")
        asset, scale = known.code or "", known.scale
    except InvalidFieldsError as error:
        problems.extend(error.problems)
    if kind not in set(SplitKind):
        problems.append(FieldProblem(f"{name}_split", "must be lucky or equal"))
        kind = SplitKind.LUCKY.value
    total = filtering.amount_of(form.text(f"{name}_total"), scale)
    if total is None:
        problems.append(FieldProblem(f"{name}_total", _NO_AMOUNT))
    return [asset, kind, total or 0, _number_of(form, f"{name}_count", problems, default=None) or 0]


def _whole(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _number_of(form: Fields, name: str, problems: list[FieldProblem], *, default: int | None) -> int | None:
    text = form.text(name)
    if not text:
        return default
    if (number := _whole(text)) is None:
        problems.append(FieldProblem(name, _NO_NUMBER))
    return number


async def _terms(desk: Desk, arguments: Arguments) -> CampaignTerms:
    """The terms, checked as for every campaign, at this moment. Raises InvalidFieldsError."""
    owner = str(arguments["owner"])
    if (await desk.engine.profiles.account(owner)).profile.kind is not AccountKind.MERCHANT:
        raise InvalidFieldsError([FieldProblem("owner", _NO_MERCHANT)])
    wins_max, lanes = arguments["wins_max"], arguments["lanes"]
    return campaign_terms(
        settings=desk.settings,
        now_ms=await now_ms(desk.looks),
        name=str(arguments["name"]),
        waves=[
            WaveTerms(
                starts_at_ms=starts_at_ms,
                seconds=seconds,
                prizes=tuple(
                    PrizeTerms(asset=asset or None, split=SplitKind(kind), total_fen=total, count=count)
                    for asset, kind, total, count in prizes
                ),
            )
            for starts_at_ms, seconds, prizes in arguments["waves"]
        ],
        odds_millionths=int(arguments["odds_millionths"]),
        lanes=None if lanes is None else int(lanes),
        entry=Entry(
            who=Who(arguments["who"]),
            wave_wins_max=int(arguments["wave_wins_max"]),
            wins_max=None if wins_max is None else int(wins_max),
            interval_ms=int(arguments["interval_ms"]),
            guests=tuple(arguments["guests"]),
            label=str(arguments["label"]) or None,
        ),
    )


async def _samples(desk: Desk, terms: CampaignTerms) -> list[Mapping[str, Any]]:
    """Of each prize, one part as a seed of chance would split it. The campaign's own seed will be another one."""
    samples: list[Mapping[str, Any]] = []
    for wave_number, wave in enumerate(terms.waves, start=1):
        for prize in wave.prizes:
            total_fen, count = divided(prize.total_fen, prize.count, terms.buckets_of(prize))[0]
            scale = (await desk.engine.assets.named(prize.asset)).scale
            sample: Mapping[str, Any] = {
                "wave": wave_number,
                "asset": prize.asset or desk.settings.currency,
                "split": prize.split.value,
                "parts": terms.buckets_of(prize),
                "count": count,
                "total": decimal(total_fen, scale),
                "shares": [],
            }
            if count <= _SAMPLE_MAX:
                bounds = prize.min_fen or 1, prize.max_fen or total_fen
                shares = split(prize.split, total_fen, count, *bounds, new_seed())
                sample = {
                    **sample,
                    "shares": [decimal(int(share), scale) for share in shares[:_SHARES_SHOWN]],
                    "least": decimal(int(shares.min()), scale),
                    "most": decimal(int(shares.max()), scale),
                }
            samples.append(sample)
    return samples


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    """What the payment changes, for both operators."""
    owner, budgets = str(arguments["owner"]), dict[str, int]()
    for _, _, prizes in arguments["waves"]:
        for asset, _, total, _ in prizes:
            budgets[asset] = budgets.get(asset, 0) + total
    effect: Effect = [
        (marked("Paid by"), owner),
        (marked("Name"), str(arguments["name"])),
        (
            marked("Waves, their start and length"),
            ", ".join(f"{local(starts).replace('T', ' ')} + {seconds} s" for starts, seconds, _ in arguments["waves"]),
        ),
        (marked("Shares"), f"{sum(count for _, _, prizes in arguments['waves'] for _, _, _, count in prizes):,}"),
        (marked("Who may win in a wave"), f"{percent(arguments['odds_millionths'])} %"),
    ]
    for asset, total in budgets.items():
        known = await desk.engine.assets.named(asset or None)
        held = (await desk.engine.wallets.get(owner, known)).balance_fen
        now, afterwards = decimal(held, known.scale), decimal(held - total, known.scale)
        effect.append((marked("Cost"), f"{decimal(total, known.scale)} {known.asset}"))
        effect.append((marked("Balance, now and afterwards"), f"{now} → {afterwards} {known.asset}"))
    return effect


async def _execute(doing: Doing[Desk]) -> dict[str, Any]:
    """Pay for it, once: the engine does it in a transaction of its own, under a key that is the approval's."""

    async def terms(_now_ms: int) -> CampaignTerms:
        return await _terms(doing.tools, doing.arguments)

    made = await doing.tools.engine.campaigns.make(
        str(doing.arguments["owner"]),
        terms,
        address=str(doing.arguments["address"]),
        idempotency_key=_key(doing),
        request_hash=hash_of(as_text(doing.arguments)),
    )
    return {"campaign_id": made.campaign_id, "commitment": made.commitment, "count": made.count}


def _key(doing: Doing[Desk]) -> str:
    return hashlib.sha256(f"console: {doing.key}".encode()).hexdigest()


async def _was_done(doing: Doing[Desk]) -> bool:
    """Whether it is paid. If not, it never will be under this key."""
    request = request_of(str(doing.arguments["owner"]), _key(doing), hash_of(as_text(doing.arguments)))
    return not await forbid(doing.connection, request)


ACTIONS = (
    Action(name=FUND, permission=FUND_RIGHT, execute=_execute, needs_two=always, effect=_effect, was_done=_was_done),
)
ROUTES = (
    Page("GET", "/campaigns/new", show, WRITE),
    Page("POST", "/campaigns/new", preview, WRITE, action="preview a campaign", subject=("user", "owner")),
    Page(
        *("POST", "/campaigns", fund, FUND_RIGHT),
        action=FUND,
        subject=("user", "owner"),
        needs_proof=True,
    ),
)
