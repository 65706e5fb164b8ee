"""ARCHITECTURE.md names every room, every file beside them, and every Redis key."""

import pytest

from engine.lanes.keys import TrialKeys
from tests.support.repository import ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def names_in(folder: str) -> set[str]:
    """The rooms and modules at the root of a folder, as the page writes them."""
    root = ROOT / folder
    rooms = {path.parent.name for path in root.glob("*/__init__.py")}
    return rooms | {path.name for path in root.glob("*.py")} - {"__init__.py"}


@pytest.mark.parametrize("folder", ["engine", "api"])
def test_every_room_and_file_is_in_a_table(folder: str) -> None:
    assert [name for name in sorted(names_in(folder)) if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("folder", ["benchmarks", "loadtest"])
def test_every_room_of_a_tool_is_in_the_table(folder: str) -> None:
    rooms = {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert [name for name in sorted(rooms) if f"`{name}/`" not in PAGE] == []


def test_every_key_is_in_the_table() -> None:
    assert [
        name for name in TrialKeys._fields if f"| `…:{name}` |" not in PAGE and f"| `…:{name}:N` |" not in PAGE
    ] == []
