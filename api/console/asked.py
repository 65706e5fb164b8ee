"""What was asked for and what came of it, as a person reads it: labelled, amounts with their unit, links, and words.

An action's arguments and its result are kept as JSON. What is not listed here is shown as it is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from api.console.rendering import amount_of, moment_of, number_of
from api.console.texts import marked
from api.console.visits import Visit
from api.console.words import sayer
from engine.text import decimal, yuan
from engine.wallets.assets import Known

Shown = list[tuple[str, Markup | str]]
"""Labels and values."""
PLACES = {
    "user": "/users/{}",
    "packet": "/packets/{}",
    "dispute": "/disputes/{}",
    "freeze": "/freezes/{}",
    "quarantine": "/quarantine/{}",
    "withdrawal": "/withdrawals/{}",
    "campaign": "/campaigns/{}",
    "lane": "/lanes?lane={}",
    "approval": "/approvals/{}",
    "label": "/labels?label={}",
    "day": "/reconciliation/{}",
}
"""Where a kind of thing is shown. Whoever may see an approval may see all of these."""
_NAMES: Mapping[str, tuple[str, str]] = {
    "user_id": (marked("User"), "user"),
    "owner": (marked("Paid by"), "user"),
    "dispute_id": (marked("Dispute"), "dispute"),
    "freeze_id": (marked("Freeze"), "freeze"),
    "quarantine_id": (marked("Row"), "quarantine"),
    "campaign_id": (marked("Campaign"), "campaign"),
    "lane": (marked("Lane"), "lane"),
    "label": (marked("Label"), "label"),
    "amount_fen": (marked("Amount"), "fen"),
    "balance_fen": (marked("Balance afterwards"), "fen"),
    "outcome": (marked("Outcome"), "decision"),
    "state": (marked("State"), "decision"),
    "frozen_by": (marked("Frozen by"), "who"),
    "name": (marked("Its name"), ""),
    "waves": (marked("Waves"), "waves"),
    "odds_millionths": (marked("Who may win in a wave"), "millionths"),
    "who": (marked("Who may grab"), "guests"),
    "guests": (marked("Named users"), "users"),
    "wave_wins_max": (marked("Wins of a user in a wave, at most"), "number"),
    "wins_max": (marked("Wins in all, at most"), "number"),
    "interval_ms": (marked("Milliseconds between two taps"), "number"),
    "lanes": (marked("Lanes"), "number"),
    "address": (marked("Asked from the address"), ""),
    "transfer_id": (marked("Entry in the ledger"), ""),
    "debt_id": (marked("Debt"), ""),
    "everywhere": (marked("In every lane"), "yes"),
    "rebuilt": (marked("Rebuilt"), "yes"),
    "packets": (marked("Packets"), "number"),
    "claims": (marked("Claims"), "number"),
    "shares_left": (marked("Shares left"), "number"),
    "count": (marked("Shares"), "number"),
    "commitment": (marked("Commitment"), "code"),
    "sentence": (marked("What came of it"), "sentence"),
}
"""What each argument and each part of a result is called, and how it is shown."""
_GUESTS = {
    "anyone": marked("anyone"),
    "listed": marked("those who are named"),
    "admitted": marked("whoever brings an admission"),
}
_EFFECTS = {
    "User": "user",
    "From": "user",
    "To": "user",
    "Paid by": "user",
    "Packet": "packet",
    "Dispute": "dispute",
    "Row": "quarantine",
    "Lane": "lane",
    "Outcome": "decision",
    "What": "scope",
    "Change": "quarantine_kind",
    "By": "who",
    "Reason": "sentence",
    "State now": "sentence",
    "What it does now": "sentence",
}
"""How the values of an effect are shown, by its labels."""
_GUESTS_SHOWN = 100
_PRIZE = marked("%(total)s in %(count)s shares")


def link(kind: str, text: str) -> Markup | str:
    """A thing's id, with a link to it if it has a page."""
    if kind not in PLACES or text in ("", "–"):
        return text
    return Markup('<a class="id" href="{}">{}</a>').format(PLACES[kind].format(quote(text, safe="")), text)


async def named(visit: Visit, values: Mapping[str, Any]) -> Shown:
    """Arguments or a result. Those that say nothing are left out."""
    shown: Shown = []
    for name, value in values.items():
        label, kind = _NAMES.get(name, (name, ""))
        if value is None or value in ("", []):
            continue
        told = await _waves(visit, value) if kind == "waves" else _value(visit, kind, value)
        shown.append((visit.gettext(label), told))
    return shown


def told(visit: Visit, page: str, effect: Sequence[tuple[str, str]]) -> Shown:
    """What an action would do. ``page``: the module that has registered it, whose texts its labels are."""
    texts = visit.desk.front.texts.of(visit.language, page)
    shown: Shown = []
    for label, value in effect:
        kind, text = _EFFECTS.get(label, ""), value
        if kind == "sentence" and value:
            text = texts.gettext(value)  # a sentence of the page's own, or the engine's
        shown.append((texts.gettext(label), _value(visit, kind, text)))
    return shown


def _value(visit: Visit, kind: str, value: Any) -> Markup | str:  # noqa: ANN401  # as JSON has it
    """A value of a kind. One whose kind has nothing of its own is shown as it is."""
    if kind in PLACES:
        return link(kind, str(value))
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    say, common, text = sayer(visit.gettext), visit.common(), str(value)
    spoken: dict[str, Callable[[], str]] = {
        "yes": lambda: visit.gettext("yes") if value else visit.gettext("no"),
        "guests": lambda: visit.gettext(_GUESTS.get(text, text)),
        "decision": lambda: say("decision", text),
        "scope": lambda: say("scope", text),
        "quarantine_kind": lambda: say("quarantine", text),
        "who": lambda: str(common["who"](text)),
        "sentence": lambda: str(common["spoken"](text)),
    }
    return spoken[kind]() if kind in spoken else text


def _users(users: Sequence[str]) -> Markup:
    more = f" … ({len(users)})" if len(users) > _GUESTS_SHOWN else ""
    return Markup(", ").join(link("user", str(user)) for user in users[:_GUESTS_SHOWN]) + more


_PLAIN: Mapping[str, Callable[[Any], Markup | str]] = {
    "fen": lambda value: amount_of(int(value)),
    "number": lambda value: number_of(int(value)),
    "millionths": lambda value: f"{int(value) / 10_000:.4f}".rstrip("0").rstrip(".") + " %",
    "code": lambda value: Markup("<code>{}</code>").format(value),
    "users": _users,
}


async def _waves(visit: Visit, waves: Sequence[Sequence[Any]]) -> Markup:
    """A campaign's waves, one a line: when, how long, and each prize with its amount and its shares."""
    lines = []
    for starts_at_ms, seconds, prizes in waves:
        gives = []
        for asset, _, total, count in prizes:
            amount, shares = _sum(int(total), await _asset(visit, asset)), number_of(int(count))
            gives.append(visit.gettext(_PRIZE, total=amount, count=shares))
        lines.append(f"{moment_of(int(starts_at_ms))} + {seconds} s: {', '.join(gives)}")
    return Markup("<br>").join(lines)


async def _asset(visit: Visit, code: str) -> Known:
    return await visit.desk.engine.assets.named(code or None)


def _sum(amount: int, asset: Known) -> str:
    """Of money as everywhere in the console, of another asset with its code."""
    return f"¥{yuan(amount)}" if asset.code is None else f"{decimal(amount, asset.scale)} {asset.code}"
