"""What each role may do, as a line for whoever gives it: derived from the rights, so that it is true to them."""

from collections.abc import Callable

from api.console.texts import marked
from engine.operators.roles import ROLES

DUTIES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(("freezes:write",)), marked("freeze accounts and lift freezes")),
    (frozenset(("alerts:write",)), marked("acknowledge and assign alerts")),
    (frozenset(("profiles:write", "labels:write")), marked("set the limits of accounts and labels")),
    (frozenset(("deposits:make",)), marked("deposit money")),
    (frozenset(("quarantine:retry", "quarantine:write_off")), marked("retry and write off quarantined changes")),
    (frozenset(("disputes:decide",)), marked("decide and assign disputes")),
    (frozenset(("campaigns:write", "campaigns:fund")), marked("make, pay and change campaigns")),
    (frozenset(("withdrawals:ask", "withdrawals:accounts")), marked("follow withdrawals up, with their bank accounts")),
    (frozenset(("refunds:close",)), marked("close packets whose time is over")),
    (frozenset(("reconciliation:run",)), marked("run reconciliations")),
    (frozenset(("reconciliation:explain",)), marked("explain their differences")),
    (frozenset(("audit:run",)), marked("run audits")),
    (frozenset(("lanes:recover", "lanes:force")), marked("rebuild lanes")),
    (frozenset(("system:examine",)), marked("examine the installation")),
    (frozenset(("analysis:run",)), marked("run analyses")),
    (frozenset(("disputes:evidence",)), marked("see the evidence of disputes")),
    (frozenset(("notes:write",)), marked("write notes")),
    (frozenset(("statements:export",)), marked("download a user's statement")),
    (frozenset(("operators:read", "operators:write")), marked("add, change and disable operators")),
    (frozenset(("log:export",)), marked("download the operator log")),
    (frozenset(("approvals:decide",)), marked("approve what another operator asks for in these")),
)
"""Rights that a role has all of or none of, and what they are for."""
_FILES = frozenset(right for rights in ROLES.values() for right in rights if right.endswith(":export")) - frozenset(
    ("statements:export", "log:export")
)

_ALL_FILES, _SOME_FILES = marked("download the files of all lists"), marked("download some lists")
_NOTHING, _MAY = marked("only looks: changes nothing and downloads nothing"), marked("looks, and may: ")


def lines(gettext: Callable[[str], str]) -> list[tuple[str, str]]:
    """Each role with what it may do, beside looking."""
    return [(role, _line(gettext, rights)) for role, rights in ROLES.items()]


def _line(gettext: Callable[[str], str], rights: frozenset[str]) -> str:
    duties = [gettext(text) for needed, text in DUTIES if needed <= rights]
    if files := rights & _FILES:
        duties.append(gettext(_ALL_FILES if files == _FILES else _SOME_FILES))
    if not duties:
        return gettext(_NOTHING)
    return gettext(_MAY) + gettext(marked("; ")).join(duties)
