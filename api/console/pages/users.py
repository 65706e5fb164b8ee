"""Users: search by how an id begins; one user with wallet, limits, freezes, debts, entries, packets, withdrawals."""

from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.pages.packets import note_of
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.backoffice.notes import SubjectKind, add_in
from engine.backoffice.user_file import UserFiles
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import is_user_id
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.packets.views import Views
from engine.paging import Page as Rows
from engine.records import FreezeScope
from engine.risk.freezes import Freezes
from engine.risk.limits import AccountKind
from engine.risk.limits_reached import LimitsReached
from engine.risk.profiles import ADDRESSES_MAX, Profiles
from engine.wallets.users import ListedUser, Users
from engine.wallets.wallets import Wallets, WalletTransfer
from engine.wallets.withdrawal_lists import WithdrawalFilter, WithdrawalLists

FREEZE, PROFILE, NOTE = "freezes.freeze", "profiles.put", "users.note"
TABS = ("entries", "sent", "received", "withdrawals")
_LIMITS = ("transaction_fen_max", "day_sent_fen_max", "day_received_fen_max")


async def show(visit: Visit) -> Response:
    """Users whose id begins with what was typed."""
    prefix, after = _prefix(visit), visit.query.text("after") or None
    found = await Users(visit.desk.looks).page(prefix, after=_user_after(after), limit=filtering.PAGE)
    return await visit.page("users.html", found=found, now_ms=await now_ms(visit.desk.looks))


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    users, prefix, _ = Users(visit.desk.looks), _prefix(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedUser]:
        return await users.page(prefix, after=after, limit=limit)

    columns: list[Column[ListedUser]] = [
        exports.text(_("User"), lambda row: row.user_id),
        exports.amount(_("Balance"), lambda row: row.balance_fen),
        exports.text(_("Frozen"), lambda row: "yes" if row.frozen else ""),
        exports.time(_("Sending frozen until"), lambda row: row.sending_frozen_until_ms),
    ]
    return await exports.file_of(visit, "users", columns, page)


async def show_one(visit: Visit) -> Response:
    """One user, and one of their long lists."""
    user_id, desk = _user(visit), visit.desk
    tab = visit.query.text("show") or TABS[0]
    if tab not in TABS:
        raise filtering.refuse("show", f"must be one of {', '.join(TABS)}")
    say = sayer(visit.gettext)
    freezes = Freezes(desk.looks, desk.engine.store)
    profiles = Profiles(desk.looks, freezes, LimitsReached(desk.looks, desk.engine.store), desk.settings)
    wallets = Wallets(desk.looks, desk.settings)
    return await visit.page(
        "users_one.html",
        file=await UserFiles(desk.looks, wallets, profiles).one(user_id),
        user_id=user_id,
        tab=tab,
        tabs=TABS,
        listed=await _listed(visit, tab, wallets),
        now_ms=await now_ms(desk.looks),
        say=say,
        scopes=choices(say, "scope", FreezeScope),
        kinds=choices(say, "account", AccountKind),
    )


async def _listed(visit: Visit, tab: str, wallets: Wallets) -> dict[str, Any]:
    """The rows of a tab, and the cursor of the next page."""
    user_id, desk, after = _user(visit), visit.desk, visit.query.text("after") or None
    if tab == "entries":
        entries = await wallets.transfers(user_id, after=after, limit=filtering.PAGE)
        return {"rows": entries.transfers, "next": entries.next}
    if tab == "withdrawals":
        found = await WithdrawalLists(desk.looks).page(
            WithdrawalFilter(user_id=user_id), after=after, limit=filtering.PAGE
        )
        return {"rows": found.rows, "next": found.next}
    views = Views(desk.looks, desk.engine.store, desk.settings)
    records = await views.records(user_id, role=tab, after=after, limit=filtering.PAGE)
    return {"rows": records.packets, "next": records.next}


async def export_entries(visit: Visit) -> Response:
    """All entries of a user's wallet as a file."""
    user_id, _ = _user(visit), visit.gettext
    wallets = Wallets(visit.desk.looks, visit.desk.settings)

    async def page(after: str | None, limit: int) -> Rows[WalletTransfer]:
        found = await wallets.transfers(user_id, after=after, limit=limit)
        return Rows(found.transfers, found.next)

    columns: list[Column[WalletTransfer]] = [
        exports.text(_("Ledger entry"), lambda row: row.transfer_id),
        exports.text(_("User"), lambda _row: user_id),
        exports.text(_("Kind"), lambda row: row.kind),
        exports.amount(_("Amount"), lambda row: row.amount_fen),
        exports.time(_("Time"), lambda row: row.at_ms),
        exports.text(_("Packet"), lambda row: row.packet_id),
    ]
    return await exports.file_of(visit, "entries", columns, page, rows_max=exports.OF_ONE_MAX)


async def freeze(visit: Visit) -> Response:
    """Freeze a user."""
    user_id = _user(visit)
    scope = filtering.choice(visit.form, "scope", FreezeScope) or FreezeScope.ACCOUNT
    await visit.perform(FREEZE, {"user_id": user_id, "scope": scope.value})
    return visit.redirect(f"/users/{user_id}", notice="done")


async def put_profile(visit: Visit) -> Response:
    """Replace a user's profile."""
    user_id, form = _user(visit), visit.form
    kind = filtering.choice(form, "kind", AccountKind) or AccountKind.PERSON
    addresses = [line.strip() for line in form.text("addresses").replace(",", "\n").splitlines() if line.strip()]
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidFieldsError([FieldProblem("addresses", f"must name at most {ADDRESSES_MAX} networks")])
    limits = {name: filtering.fen(form, name) for name in _LIMITS}
    await visit.perform(PROFILE, {"user_id": user_id, "kind": kind.value, "addresses": addresses, **limits})
    return visit.redirect(f"/users/{user_id}", notice="done")


async def add_note(visit: Visit) -> Response:
    """Keep a note about a user."""
    user_id = _user(visit)
    await visit.perform(NOTE, {"user_id": user_id, "note": note_of(visit)}, needs_reason=False)
    return visit.redirect(f"/users/{user_id}", notice="saved")


def _prefix(visit: Visit) -> str:
    prefix = visit.query.text("q")
    if prefix and not is_user_id(prefix) and prefix not in (".", ".."):
        raise filtering.refuse("q", "must be how a user id begins: letters, digits and . _ : @ -")
    return prefix


def _user_after(after: str | None) -> str | None:
    if after is not None and not is_user_id(after):
        raise filtering.refuse("after", "must be the `next` of the page before")
    return after


def _user(visit: Visit) -> str:
    user_id = visit.path["user_id"]
    if not is_user_id(user_id):
        raise filtering.refuse("user_id", "must be a user id")
    return user_id


async def _freeze(doing: Doing[Desk]) -> dict[str, Any]:
    everywhere = await doing.tools.engine.freezes.freeze(
        doing.arguments["user_id"],
        reason=doing.reason,
        frozen_by=doing.by,
        scope=FreezeScope(doing.arguments["scope"]),
    )
    return {"everywhere": everywhere}


async def _put_profile(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    own = {name: arguments[name] for name in _LIMITS}
    await doing.tools.engine.profiles.put(
        arguments["user_id"], AccountKind(arguments["kind"]), arguments["addresses"], own, changed_by=doing.by
    )
    return {}


async def _note(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    number = await add_in(doing.connection, SubjectKind.USER, arguments["user_id"], arguments["note"], by=doing.by)
    return {"note_id": number}


ACTIONS = (
    Action(name=FREEZE, permission="freezes:write", execute=_freeze),
    Action(name=PROFILE, permission="profiles:write", execute=_put_profile),
    Action(name=NOTE, permission="notes:write", execute=_note),
)
_ONE = ("user", "user_id")
ROUTES = (
    Page("GET", "/users", show, "users:read"),
    Page("GET", "/users.csv", export, "users:export", action="export users", is_export=True),
    Page("GET", "/users/{user_id}", show_one, "users:read", action="look at a user", subject=_ONE, is_look=True),
    Page(
        "GET",
        "/users/{user_id}/entries.csv",
        export_entries,
        "statements:export",
        action="export entries",
        subject=_ONE,
        is_export=True,
    ),
    Page("POST", "/users/{user_id}/freeze", freeze, "freezes:write", action="freeze", subject=_ONE),
    Page("POST", "/users/{user_id}/profile", put_profile, "profiles:write", action="change a profile", subject=_ONE),
    Page("POST", "/users/{user_id}/notes", add_note, "notes:write", action="note", subject=_ONE),
)
