"""What waits for a second operator: exactly what would be done, and by whom it was asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from api.console import asked
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.operators.accounts import Operator
from engine.operators.approvals import WAITING, Approval, decidable_actions
from engine.operators.refusals import UnknownApprovalError
from engine.operators.roles import ROLES

ROWS = 50


async def show_all(visit: Visit) -> Response:
    """Those that wait or, with ``all=1``, every one."""
    only_waiting = visit.query.text("all") != "1"
    rows, following = await visit.desk.approvals.page(
        only_waiting=only_waiting, after=visit.query.text("after") or None, limit=ROWS
    )
    decidable = decidable_actions(visit.desk.actions, visit.operator)
    return await visit.page(
        "approvals.html",
        rows=rows,
        next=following,
        only_waiting=only_waiting,
        to_decide={one.approval_id for one in rows if _may_decide(one, decidable, visit.operator)},
    )


async def show(visit: Visit) -> Response:
    """One, with what it would change now."""
    approval = await visit.desk.approvals.get(_number(visit))
    action = visit.desk.actions.get(approval.action)
    effect: asked.Shown = []
    if action is not None and approval.state == WAITING:
        # Only then: done once more, it would change what is there now, and that nobody has asked for.
        page = action.execute.__module__.rpartition(".")[2]
        effect = asked.told(visit, page, await action.effect(visit.desk, approval.arguments))
    is_own = approval.asked_by == visit.operator.name
    may = approval.action in decidable_actions(visit.desk.actions, visit.operator)
    return await visit.page(
        "approvals_one.html",
        one=approval,
        effect=effect,
        about=asked.link(approval.subject_kind, approval.subject_id),
        arguments=await asked.named(visit, approval.arguments),
        result=await asked.named(visit, approval.result or {}),
        is_own=is_own,
        may=may,
        deciders=[] if action is None or (may and not is_own) else _deciders(action.permission),
        result_path=_made(approval.result or {}),
    )


async def approve(visit: Visit) -> Response:
    """Do it."""
    number = visit.approval_id = _number(visit)
    seen_hash = visit.form.text("hash")
    await visit.desk.approvals.approve(
        number, visit.desk.actions, visit.desk, by=visit.operator, seen_hash=seen_hash, reason=visit.reason()
    )
    return visit.redirect(f"/approvals/{number}", notice="approved")


async def refuse(visit: Visit) -> Response:
    """Refuse it, or withdraw what one has asked for oneself."""
    number = visit.approval_id = _number(visit)
    await visit.desk.approvals.refuse(number, visit.desk.actions, visit.desk, by=visit.operator, reason=visit.reason())
    return visit.redirect(f"/approvals/{number}", notice="refused")


def _may_decide(one: Approval, decidable: Sequence[str], by: Operator) -> bool:
    return one.state == WAITING and one.action in decidable and one.asked_by != by.name


def _deciders(permission: str) -> list[str]:
    """The roles that may approve what needs this permission."""
    return [role for role, permissions in ROLES.items() if {permission, "approvals:decide"} <= permissions]


def _made(result: Mapping[str, Any]) -> str:
    """The page of what was made, if it has one."""
    if "campaign_id" in result:
        return f"/campaigns/{result['campaign_id']}"
    return f"/users/{result['user_id']}" if "user_id" in result else ""


def _number(visit: Visit) -> int:
    text = visit.path["approval_id"]
    if not (text.isdecimal() and text.isascii() and len(text) <= 18):
        raise UnknownApprovalError("There is no such approval.")
    return int(text)


_SUBJECT = ("approval", "approval_id")
ROUTES = (
    Page("GET", "/approvals", show_all, "approvals:read"),
    Page("GET", "/approvals/{approval_id}", show, "approvals:read"),
    Page(
        *("POST", "/approvals/{approval_id}/approve", approve, "approvals:decide"),
        action=marked("approve"),
        subject=_SUBJECT,
        needs_proof=True,
    ),
    Page(
        *("POST", "/approvals/{approval_id}/refuse", refuse, "approvals:decide"),
        action=marked("refuse approval"),
        subject=_SUBJECT,
    ),
)
