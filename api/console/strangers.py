"""Rows of the operator log about people without a session: a bounded number, for the log never forgets."""

import structlog

from api.console.bounds import Bounds
from api.console.desk import Desk
from engine.operators.log import REFUSED, Actor

_log = structlog.get_logger(__name__)


async def note(
    desk: Desk,
    bounds: Bounds,
    address: str,
    action: str,
    told: str,
    *,
    name: str = "",
    subject: tuple[str, str] = ("", ""),
    outcome: str = REFUSED,
    about: int | None = None,
) -> None:
    """Write one or, if there were too many lately, a line of the process's log.

    ``name``: what they say they are called. The row has it only if an operator is: else it may be a password that was
    typed into the wrong field.
    """
    if not bounds.nobodys.take():
        _log.warning("too many refusals for the operator log", address=address, action=action, told=told)
        return
    is_known = bool(name) and await desk.operators.is_known(name)
    actor = Actor(name=name if is_known else "", role="", address=address)
    await desk.log.write(actor, action, outcome, subject=subject, told=told, about=about)
