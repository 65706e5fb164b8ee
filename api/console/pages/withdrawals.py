"""Withdrawals of all users. Of a bank account only the end is shown. The provider can be asked again."""

from typing import Any

from starlette.responses import Response

from api.console import exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Doing
from engine.paging import Page as Rows
from engine.wallets.payouts import provider_of
from engine.wallets.withdrawal_lists import ListedWithdrawal, WithdrawalFilter, WithdrawalLists, ask_again
from engine.wallets.withdrawals import WithdrawalState

ASK = "withdrawals.ask"
_COUNTED_MAX = 10_001


async def show(visit: Visit) -> Response:
    """The list, the newest first."""
    lists, say = WithdrawalLists(visit.desk.looks), sayer(visit.gettext)
    found = await lists.page(_wanted(visit), after=visit.query.text("after") or None, limit=filtering.PAGE)
    return await visit.page(
        "withdrawals.html",
        found=found,
        processing=await lists.processing(_COUNTED_MAX),
        now_ms=await now_ms(visit.desk.looks),
        say=say,
        states=choices(say, "withdrawal", WithdrawalState),
    )


def _wanted(visit: Visit) -> WithdrawalFilter:
    query = visit.query
    return WithdrawalFilter(
        state=filtering.choice(query, "state", WithdrawalState),
        user_id=filtering.user_id(query, "user"),
        from_ms=filtering.from_ms(query),
        before_ms=filtering.before_ms(query),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, wanted, _ = WithdrawalLists(visit.desk.looks), _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedWithdrawal]:
        return await lists.page(wanted, after=after, limit=limit)

    columns: list[Column[ListedWithdrawal]] = [
        exports.text(_("Withdrawal"), lambda row: row.withdrawal_id),
        exports.text(_("User"), lambda row: row.user_id),
        exports.text(_("State"), lambda row: row.state.value),
        exports.amount(_("Amount"), lambda row: row.amount_fen),
        exports.amount(_("Fee"), lambda row: row.fee_fen),
        exports.text(_("End of the bank account"), lambda row: row.bank_account_end),
        exports.text(_("Reference"), lambda row: row.reference),
        exports.time(_("Asked"), lambda row: row.asked_at_ms),
        exports.time(_("Ended"), lambda row: row.ended_at_ms),
        exports.text(_("Failure"), lambda row: row.failure),
    ]
    return await exports.file_of(visit, "withdrawals", columns, page)


async def show_one(visit: Visit) -> Response:
    """One withdrawal."""
    number = filtering.number_in(visit.path["withdrawal_id"], "withdrawal_id")
    return await visit.page(
        "withdrawals_one.html",
        row=await WithdrawalLists(visit.desk.looks).one(number),
        now_ms=await now_ms(visit.desk.looks),
        say=sayer(visit.gettext),
    )


async def ask(visit: Visit) -> Response:
    """Ask the provider about a withdrawal now. Raises UnknownWithdrawalError."""
    number = filtering.number_in(visit.path["withdrawal_id"], "withdrawal_id")
    await WithdrawalLists(visit.desk.looks).one(number)
    await visit.perform(ASK, {"withdrawal_id": str(number)}, needs_reason=False)
    return visit.redirect(f"/withdrawals/{number}", notice="done")


async def _ask(doing: Doing[Desk]) -> dict[str, Any]:
    engine = doing.tools.engine
    provider = provider_of(engine.pool, engine.settings)
    return {"was_under_way": await ask_again(engine.pool, provider, int(doing.arguments["withdrawal_id"]))}


ACTIONS = (Action(name=ASK, permission="withdrawals:ask", execute=_ask),)
_ONE = ("withdrawal", "withdrawal_id")
ROUTES = (
    Page("GET", "/withdrawals", show, "withdrawals:read"),
    Page("GET", "/withdrawals.csv", export, "withdrawals:export", action="export withdrawals", is_export=True),
    Page(
        "GET",
        "/withdrawals/{withdrawal_id}",
        show_one,
        "withdrawals:read",
        action="look at a withdrawal",
        subject=_ONE,
        is_look=True,
    ),
    Page(
        *("POST", "/withdrawals/{withdrawal_id}/ask", ask, "withdrawals:ask"),
        action="ask the provider",
        subject=_ONE,
        needs_proof=True,
    ),
)
