"""Versions of the libraries whose private parts we use. Another version may start and fail later.

Each private part is used in one place, named in the table. pyproject.toml has the same bounds.
"""

from importlib.metadata import version

from engine.errors import OperatorError

KNOWN = {
    "uvicorn": ("0.50", "0.55"),  # api/wire/connection.py: its protocol's hooks
    "redis": ("8", "9"),  # engine/lanes/clients.py, connections.py: how a pool makes a connection
    "asyncpg": ("0.31", "0.33"),  # engine/ledger/database.py: what a pool is made of
    "prometheus-client": ("0.23", "0.27"),  # engine/observability/metrics.py: buckets, and values shared by files
}
"""Library -> the first tested version, and the first untested one."""


def check() -> None:
    """Raise OperatorError for an untested version."""
    for name, (first, beyond) in KNOWN.items():
        found = version(name)
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
