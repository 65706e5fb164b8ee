"""Assigning work to operators: who may be given it, what a form and a filter say."""

from typing import NamedTuple

from api.console import filtering
from api.console.desk import Desk
from api.console.visits import Visit
from engine.operators.accounts import may_in
from engine.operators.actions import Doing

NOBODY = "-"
"""In a form. No operator can have this name."""
MINE, FOR_NOBODY = "mine", "nobody"


class Whose(NamedTuple):
    """A filter: of this operator, or only what is assigned to nobody."""

    assigned_to: str | None
    is_for_nobody: bool


def whose(visit: Visit) -> Whose:
    """What the query asks for. Raises InvalidFieldsError."""
    text = visit.query.text("assigned")
    if text not in ("", MINE, FOR_NOBODY):
        raise filtering.refuse("assigned", f"must be one of {MINE}, {FOR_NOBODY}")
    return Whose(visit.operator.name if text == MINE else None, text == FOR_NOBODY)


def wanted(visit: Visit) -> str:
    """To whom the form assigns: a name, or NOBODY. Raises InvalidFieldsError."""
    name = visit.form.text("to")
    if not name:
        raise filtering.refuse("to", "must be an operator who may do this")
    return name


async def who_may(visit: Visit, permission: str) -> list[str]:
    """Those to whom this operator may assign something, without themselves. Nobody if they may not."""
    if not visit.may(permission):
        return []
    return [name for name in await visit.desk.operators.who_may(permission) if name != visit.operator.name]


async def checked(doing: Doing[Desk], permission: str) -> str | None:
    """The operator of an action's arguments, None for nobody. Raises InvalidFieldsError if they may not do it now."""
    name = str(doing.arguments["to"])
    if name == NOBODY:
        return None
    if not await may_in(doing.connection, name, permission):
        raise filtering.refuse("to", "must be an operator who may do this")
    return name
