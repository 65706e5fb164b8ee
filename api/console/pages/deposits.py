"""Deposits: money from outside into a wallet. Always with a second operator, if the installation has two."""

from typing import Any

from starlette.responses import Response

from api.console import filtering
from api.console.desk import Desk
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import USER_ID_RULE, is_user_id
from engine.ledger.currency import SCALE, unit_of
from engine.ledger.idempotency import Request
from engine.operators.actions import Action, Arguments, Doing, Effect, always, as_text, hash_of
from engine.text import yuan
from engine.wallets.depositing import deposit_on
from engine.wallets.users import Users

DEPOSIT = marked("deposit")


async def show(visit: Visit) -> Response:
    """The form and, with a user and an amount, what the deposit would change."""
    problems, arguments, effect, is_known = [], {}, [], True
    if visit.query.text("user_id") or visit.query.text("amount"):
        try:
            arguments = _arguments(visit.query.text("user_id"), visit.query.text("amount"), visit.desk)
            effect = await _effect(visit.desk, arguments)
            is_known = await Users(visit.desk.looks).exists(str(arguments["user_id"]))
        except InvalidFieldsError as error:
            problems = error.problems
    return await visit.page(
        "deposits.html",
        status=422 if problems else 200,
        problems=problems,
        unit=unit_of(visit.desk.settings.currency),
        arguments=arguments,
        is_known=is_known,
        effect=[(visit.gettext(label), value) for label, value in effect],
    )


async def deposit(visit: Visit) -> Response:
    """Have it done, or have it wait for another operator."""
    arguments = _arguments(visit.form.text("user_id"), visit.form.text("amount"), visit.desk)
    done = await visit.perform(DEPOSIT, arguments, subject=("user", str(arguments["user_id"])))
    if done.approval_id is not None:
        return visit.redirect(f"/approvals/{done.approval_id}", notice="waits")
    return visit.redirect("/deposits", notice="done")


def _arguments(user_id: str, amount: str, desk: Desk) -> dict[str, Any]:
    problems = [] if is_user_id(user_id) else [FieldProblem("user_id", USER_ID_RULE)]
    amount_fen = filtering.amount_of(amount, SCALE)
    fen_max = desk.settings.deposit_fen_max
    if amount_fen is None or not 1 <= amount_fen <= fen_max:
        problems.append(FieldProblem("amount", f"must be an amount as 12.34, from 0.01 to {yuan(fen_max)}"))
    if problems:
        raise InvalidFieldsError(problems)
    return {"user_id": user_id, "amount_fen": amount_fen}


async def _effect(desk: Desk, arguments: Arguments) -> Effect:
    user_id, amount_fen = str(arguments["user_id"]), int(arguments["amount_fen"])
    wallet = await desk.engine.wallets.get(user_id)
    return [
        (marked("User"), user_id),
        (marked("Amount"), yuan(amount_fen)),
        (marked("Balance now"), yuan(wallet.balance_fen)),
        (marked("Balance afterwards"), yuan(wallet.balance_fen + amount_fen)),
    ]


async def _execute(doing: Doing[Desk]) -> dict[str, Any]:
    user_id, amount_fen = str(doing.arguments["user_id"]), int(doing.arguments["amount_fen"])
    request = Request(
        principal=user_id,
        operation="deposit_into",
        key=doing.key,
        request_hash=hash_of(as_text(doing.arguments)),
    )
    answer, _ = await deposit_on(doing.connection, request, amount_fen)
    return answer


ACTIONS = (Action(name=DEPOSIT, permission="deposits:make", execute=_execute, needs_two=always, effect=_effect),)
ROUTES = (
    Page(
        "GET",
        "/deposits",
        show,
        "deposits:make",
        is_look=True,
        action=marked("look at a deposit"),
        subject=("user", "user_id"),
    ),
    Page(
        *("POST", "/deposits", deposit, "deposits:make"), action=DEPOSIT, subject=("user", "user_id"), needs_proof=True
    ),
)
