"""The collectors, few of them: what is printed, and that what is wrong is noticed."""

import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.collecting.__main__ import main, show
from loadtest.collecting.story import Sizes, Story

pytestmark = pytest.mark.long

TINY = Sizes(users=120, completers=60, gifts=30, offers=30, late=12, seconds=12, hands=12)


@pytest.fixture(autouse=True)
def temporary(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it puts its data directory; in a folder that others pass through, as /tmp is."""
    folder = quick_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))  # what it starts must find the same place for sockets
    return folder


def test_a_few_collectors_share_a_pool_and_nothing_is_left(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TINY) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert "120 users" in printed
    assert "completion" in printed
    assert "12,077 fen in all" in printed
    assert "each card and each fen is where it must be" in printed
    assert list(temporary.iterdir()) == []


def test_what_is_wrong_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(problems=["3 wallets do not hold the share"])
    show(Console(), TINY, story)
    assert "WRONG 3 wallets do not hold the share" in capsys.readouterr().out
