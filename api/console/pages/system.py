"""How the installation is set up and how it is: settings without secrets, versions, what `hongbao doctor` says."""

import asyncio
import platform
from importlib.metadata import version
from typing import Any

from pydantic import SecretStr
from starlette.responses import Response

from api.console.desk import Desk
from api.console.texts import marked
from api.console.visits import Page, Visit
from engine.doctor.doctor import examine
from engine.doctor.lines import place_of
from engine.errors import BusyError
from engine.ledger.database import ledger_errors
from engine.ledger.schema import migrations
from engine.settings import Settings

LIBRARIES = ("hongbao", "starlette", "uvicorn", "asyncpg", "redis", "jinja2", "pyotp", "argon2-cffi")
RUNBOOKS = (
    ("imbalance", marked("The books do not balance")),
    ("quarantine", marked("A change is in quarantine")),
    ("persister-behind", marked("The persister is behind")),
    ("reconciliation", marked("A reconciliation differs")),
    ("redis-lost", marked("Redis has lost data")),
    ("postgres-down", marked("Postgres does not answer")),
    ("server-refuses", marked("A server refuses")),
    ("bad-entry", marked("An entry of a stream is bad")),
    ("hot-packet", marked("One packet is very hot")),
    ("alerts-not-delivered", marked("Alerts are not delivered")),
)
EXAMINE_S_MAX = 20.0
_SET, _UNSET = "***", "–"
_examining = asyncio.Lock()


async def show(visit: Visit) -> Response:
    """Versions, settings and runbooks. The doctor's lines come after it, for they take a while."""
    return await visit.page(
        "system.html",
        versions=await _versions(visit.desk),
        settings=settings_shown(visit.desk.settings),
        runbooks=[(f"docs/runbooks/{name}.md", visit.gettext(title)) for name, title in RUNBOOKS],
    )


async def doctor(visit: Visit) -> Response:
    """The lines of `hongbao doctor`, as a part of the page. One at a time."""
    if _examining.locked():
        raise BusyError("Somebody else examines the installation now: try again in a moment.")
    async with _examining, asyncio.timeout(EXAMINE_S_MAX):
        lines = await examine(visit.desk.settings, is_embedded=False)
    return await visit.page("system_doctor.html", lines=lines)


def settings_shown(settings: Settings) -> list[tuple[str, str, bool]]:
    """Each setting's variable, its value without secrets, and whether it is the default."""
    shown = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True)
        shown.append((f"HONGBAO_{name.upper()}", _shown(name, value), value == default))
    return shown


def _shown(name: str, value: Any) -> str:  # noqa: ANN401  # a setting has any type
    if value is None or value == "":
        return _UNSET
    if isinstance(value, SecretStr):
        return _SET
    if name.endswith("_url"):
        return ", ".join(place_of(url) for url in str(value).split(","))
    return str(value)


async def _versions(desk: Desk) -> list[tuple[str, str]]:
    with ledger_errors():
        postgres = await desk.looks.fetchval("SELECT current_setting('server_version')")
    return [
        ("Python", platform.python_version()),
        ("Postgres", str(postgres)),
        (marked("Schema"), str(migrations()[-1][0])),
        *((name, version(name)) for name in LIBRARIES),
    ]


ROUTES = (
    Page("GET", "/system", show, "system:read"),
    Page("GET", "/system/doctor", doctor, "system:read"),
)
