"""Disputes: open ones by deadline, decided ones; one with its evidence, both parties, and what upholding would do."""

from typing import Any

from starlette.responses import Response

from api.console import assigning, exports, filtering
from api.console.desk import Desk
from api.console.exports import Column
from api.console.refusals import NotDoneError
from api.console.texts import marked
from api.console.visits import Page, Visit
from api.console.words import choices, sayer
from engine.disputes.filing import DisputeKind, DisputeState
from engine.disputes.lists import DisputeFilter, DisputeLists, Effect, ListedDispute, assign_in, decided_as
from engine.ledger.money import now_ms
from engine.operators.actions import Action, Arguments, Doing, by_both, is_kept_of
from engine.operators.actions import Effect as Told
from engine.paging import Page as Rows
from engine.text import yuan

DECIDE, ASSIGN = "disputes.decide", "disputes.assign"
DECIDE_RIGHT = "disputes:decide"
_IS_DECIDED = marked("The dispute is decided: it needs nobody any more.")
_COUNTED_MAX = 10_001
EFFECTS = {
    Effect.TRANSFER: marked("The amount moves from the counterparty's wallet to the complainant's."),
    Effect.DEBT: marked("The counterparty's wallet holds less. Nothing moves, and the amount is noted as a debt."),
    Effect.RETURN: marked("The packet ends now, and what is unclaimed goes back to the sender."),
    Effect.NOTHING_LEFT: marked("The packet has ended: what was unclaimed has gone back already. Nothing moves."),
}


async def show(visit: Visit) -> Response:
    """The list."""
    lists, say = DisputeLists(visit.desk.looks), sayer(visit.gettext)
    found = await lists.page(_wanted(visit), after=visit.query.text("after") or None, limit=filtering.PAGE)
    return await visit.page(
        "disputes.html",
        found=found,
        counts=await lists.counts(_COUNTED_MAX),
        now_ms=await now_ms(visit.desk.looks),
        say=say,
        kinds=choices(say, "dispute", DisputeKind),
        states=[*choices(say, "decision", DisputeState), ("decided", visit.gettext("decided"))],
    )


def _wanted(visit: Visit) -> DisputeFilter:
    query = visit.query
    state = DisputeState.OPEN if not query.text("state") else None
    if query.text("state") not in ("", "decided"):
        state = filtering.choice(query, "state", DisputeState)
    return DisputeFilter(
        state=state,
        kind=filtering.choice(query, "kind", DisputeKind),
        user_id=filtering.user_id(query, "user"),
        due_before_ms=filtering.before_ms(query, "due"),
        **assigning.whose(visit)._asdict(),
    )


async def export(visit: Visit) -> Response:
    """The same rows as a file."""
    lists, wanted, _ = DisputeLists(visit.desk.looks), _wanted(visit), visit.gettext

    async def page(after: str | None, limit: int) -> Rows[ListedDispute]:
        return await lists.page(wanted, after=after, limit=limit)

    columns: list[Column[ListedDispute]] = [
        exports.text(_("Dispute"), lambda row: row.dispute_id),
        exports.text(_("Kind"), lambda row: row.kind.value),
        exports.text(_("State"), lambda row: row.state.value),
        exports.text(_("Packet"), lambda row: row.number),
        exports.text(_("Complainant"), lambda row: row.complainant),
        exports.text(_("Counterparty"), lambda row: row.counterparty),
        exports.amount(_("Amount"), lambda row: row.amount_fen),
        exports.time(_("Filed"), lambda row: row.filed_at_ms),
        exports.time(_("Deadline"), lambda row: row.deadline_at_ms),
        exports.time(_("Decided"), lambda row: row.decided_at_ms),
        exports.text(_("Decided by"), lambda row: row.decided_by),
        exports.amount(_("Returned"), lambda row: row.returned_fen),
        exports.text(_("Assigned to"), lambda row: row.assigned_to),
    ]
    return await exports.file_of(visit, "disputes", columns, page)


async def show_one(visit: Visit) -> Response:
    """One dispute."""
    number, lists = filtering.number_in(visit.path["dispute_id"], "dispute_id"), DisputeLists(visit.desk.looks)
    told = await lists.one(number)
    dispute, preview = told.dispute, told.preview
    effect = None if preview is None else EFFECTS[preview.effect]
    return await visit.page(
        "disputes_one.html",
        file=told,
        dispute=dispute,
        effect=None if effect is None else visit.gettext(effect),
        needs_two=dispute.amount_fen > visit.desk.settings.console_uphold_alone_fen_max,
        assignees=await assigning.who_may(visit, DECIDE_RIGHT),
        of_complainant=await lists.of_user(dispute.complainant),
        of_counterparty=[] if dispute.counterparty is None else await lists.of_user(dispute.counterparty),
        now_ms=await now_ms(visit.desk.looks),
        say=sayer(visit.gettext),
    )


async def decide(visit: Visit) -> Response:
    """Uphold or reject."""
    number = filtering.number_in(visit.path["dispute_id"], "dispute_id")
    outcome = filtering.choice(visit.form, "outcome", DisputeState)
    if outcome in (None, DisputeState.OPEN):
        raise filtering.refuse("outcome", "must be upheld or rejected")
    filtering.check_typed(visit.form, str(number))
    dispute = (await DisputeLists(visit.desk.looks).one(number)).dispute
    arguments = {"dispute_id": str(number), "outcome": str(outcome), "amount_fen": dispute.amount_fen}
    done = await visit.perform(DECIDE, arguments)
    return visit.redirect(f"/disputes/{number}", notice="done" if done.approval_id is None else "waits")


async def assign(visit: Visit) -> Response:
    """Give a dispute to an operator, or to nobody."""
    number = filtering.number_in(visit.path["dispute_id"], "dispute_id")
    await DisputeLists(visit.desk.looks).one(number)
    arguments = {"dispute_id": str(number), "to": assigning.wanted(visit)}
    await visit.perform(ASSIGN, arguments, needs_reason=False)
    return visit.redirect(f"/disputes/{number}", notice="done")


async def _assign(doing: Doing[Desk]) -> dict[str, Any]:
    to = await assigning.checked(doing, DECIDE_RIGHT)
    if not await assign_in(doing.connection, int(doing.arguments["dispute_id"]), to):
        raise NotDoneError(_IS_DECIDED)
    return {"assigned_to": to}


async def _needs_two(desk: Desk, arguments: Arguments) -> bool:
    is_large = arguments["amount_fen"] > desk.settings.console_uphold_alone_fen_max
    return bool(is_large and arguments["outcome"] == DisputeState.UPHELD)


async def _decide(doing: Doing[Desk]) -> dict[str, Any]:
    arguments = doing.arguments
    dispute = await doing.tools.engine.dispute_decisions.decide(
        int(arguments["dispute_id"]),
        DisputeState(arguments["outcome"]),
        reason=doing.reason,
        decided_by=by_both(doing),
    )
    return {"state": dispute.state.value, "transfer_id": dispute.transfer_id, "debt_id": dispute.debt_id}


async def _was_done(doing: Doing[Desk]) -> bool:
    return is_kept_of(doing, *await decided_as(doing.connection, int(doing.arguments["dispute_id"])))


async def _effect(desk: Desk, arguments: Arguments) -> Told:
    told = await DisputeLists(desk.looks).one(int(arguments["dispute_id"]))
    dispute = told.dispute
    rows: Told = [
        (marked("Dispute"), dispute.dispute_id),
        (marked("Outcome"), str(arguments["outcome"])),
        (marked("Amount"), f"¥{yuan(dispute.amount_fen)}"),
        (marked("From"), dispute.counterparty or "–"),
        (marked("To"), dispute.complainant),
    ]
    if told.preview is not None:
        rows.append((marked("What it does now"), EFFECTS[told.preview.effect]))
    return rows


ACTIONS = (
    Action(name=ASSIGN, permission=DECIDE_RIGHT, execute=_assign),
    Action(
        name=DECIDE,
        permission="disputes:decide",
        execute=_decide,
        needs_two=_needs_two,
        effect=_effect,
        was_done=_was_done,
    ),
)
_ONE = ("dispute", "dispute_id")
ROUTES = (
    Page("GET", "/disputes", show, "disputes:read"),
    Page("GET", "/disputes.csv", export, "disputes:export", action="export disputes", is_export=True),
    Page(
        "GET",
        "/disputes/{dispute_id}",
        show_one,
        "disputes:read",
        action="look at a dispute",
        subject=_ONE,
        is_look=True,
    ),
    Page(
        *("POST", "/disputes/{dispute_id}/assign", assign, DECIDE_RIGHT),
        action="assign a dispute",
        subject=_ONE,
    ),
    Page(
        "POST",
        "/disputes/{dispute_id}/decide",
        decide,
        "disputes:decide",
        action="decide a dispute",
        subject=_ONE,
        needs_proof=True,
    ),
)
