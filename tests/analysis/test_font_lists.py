"""A user without a home draws pictures without a warning, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

pytestmark = pytest.mark.long
DRAW = """
import logging, os, tempfile
from engine.analysis.font_lists import kept_somewhere
logging.basicConfig()
with kept_somewhere():
    from engine.analysis import pictures
    print(os.environ.get("MPLCONFIGDIR"))
print(os.listdir(tempfile.gettempdir()), os.environ.get("MPLCONFIGDIR"), pictures.mpl.get_backend() != "")
"""


def draw(tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: matplotlib looks once for its folder."""
    (tmp_path / "temporary").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    variables = {**kept, "TMPDIR": str(tmp_path / "temporary"), **variables}
    words = [sys.executable, "-c", DRAW]
    return subprocess.run(words, env=variables, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)


def test_without_a_home_the_list_of_fonts_is_in_a_folder_that_goes(tmp_path: Path) -> None:
    drawn = draw(tmp_path, HOME="/dev/null")
    during, after = drawn.stdout.splitlines()
    assert Path(during).parent == tmp_path / "temporary"
    assert after == "[] None True"
    assert drawn.stderr == ""


def test_with_a_home_it_is_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    drawn = draw(tmp_path, HOME=str(home))
    assert drawn.stdout.splitlines() == ["None", "[] None True"]
    assert list((home / ".cache" / "matplotlib").iterdir()) != []


@pytest.mark.parametrize("home", ["home", "/dev/null"])
def test_a_folder_that_somebody_has_chosen_is_left_alone(tmp_path: Path, home: str) -> None:
    chosen = tmp_path / "chosen"
    drawn = draw(tmp_path, HOME=home, MPLCONFIGDIR=str(chosen))
    assert drawn.stdout.splitlines() == [str(chosen), f"[] {chosen} True"]
