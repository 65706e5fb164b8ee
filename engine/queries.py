"""Reads SQL from files, which have ``-- name --`` blocks."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """The statements of ``engine/sql/<file>.sql`` by name."""
    text = files("engine").joinpath(f"sql/{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}
