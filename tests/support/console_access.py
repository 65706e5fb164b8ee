"""The table of docs/console-access.md: which role may see which page. ``python -m tests.support.console_access``."""

import sys
from pathlib import Path

from api.console.pages import PAGES
from api.console.visits import SIGNED_IN, PublicPage
from engine.operators.roles import ROLES
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "console-access.md"
YES, NO = "yes", "–"
_BEGIN, _END = "<!-- the table begins -->", "<!-- the table ends -->"


def read() -> dict[tuple[str, str], dict[str, str]]:
    """The page's rows: method and path -> role -> what the cell says. Column "anyone": without signing in."""
    text = PAGE.read_text(encoding="utf-8").partition(_BEGIN)[2]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    rows = {}
    for line in lines[1:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].startswith("`"):
            method, path = cells[0].strip("`").split(" ")
            rows[method, path] = dict(zip(head[2:], cells[2:], strict=True))
    return rows


def table() -> str:
    """The table as the route table and the roles have it."""
    roles = [*ROLES, "anyone"]
    lines = [f"| route | right | {' | '.join(roles)} |", f"| --- | --- |{' --- |' * len(roles)}"]
    for row in PAGES:
        if isinstance(row, PublicPage):
            right, cells = "", [YES] * len(roles)
        else:
            right = "every operator" if row.permission == SIGNED_IN else f"`{row.permission}`"
            may = [row.permission == SIGNED_IN or row.permission in ROLES[role] for role in ROLES]
            cells = [*(YES if one else NO for one in may), NO]
        lines.append(f"| `{row.method} {row.path}` | {right} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(page: Path = PAGE) -> None:
    """Bring the page's table to what the code says. Read what changes before you commit it."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n\n{table()}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} has {len(read())} routes\n")
