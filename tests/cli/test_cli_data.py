"""`hongbao data remove`: all of an installation goes, nothing else does, and not without being asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.embedded import servers
from engine.supervision import system_account
from tests.support.commands import hongbao, sentence

pytestmark = pytest.mark.long


@pytest.fixture
def installation(quick_path: Path) -> Iterator[Path]:
    """One that has run."""
    yield from installed(quick_path / "data")


@pytest.fixture
def locked_installation(tmp_path: Path) -> Iterator[Path]:
    """One below folders only we may enter (pytest's are 0700): as root, its cluster is elsewhere."""
    yield from installed(tmp_path / "data")


def installed(path: Path) -> Iterator[Path]:
    assert hongbao("migrate", "--data-dir", path).returncode == 0
    yield path
    if path.exists():
        servers.remove(path)


def test_all_of_it_is_named_and_removed(locked_installation: Path) -> None:
    installation = locked_installation
    hongbao("token", "--user", "bob", "--data-dir", installation)
    places = servers.places(installation)
    done = hongbao("data", "remove", "--yes", "--data-dir", installation)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert [line.split("  ")[-1] for line in lines] == [str(place) for place in places]
    assert any(" 0 MB" not in line for line in lines)
    assert last == "removed"
    assert [place for place in places if place.exists()] == []


def test_it_is_not_removed_where_nobody_answers(installation: Path) -> None:
    done = hongbao("data", "remove", "--data-dir", installation)
    assert done.returncode == 1
    assert done.stderr == "hongbao: Nothing was removed. To remove it without a question, add --yes.\n"
    assert (installation / "postgres").exists()


def test_one_that_is_in_use_is_not_removed(installation: Path) -> None:
    with servers.hold(installation):
        done = hongbao("data", "remove", "--yes", "--data-dir", installation)
    assert "is in use by another hongbao" in sentence(done)
    assert (installation / "postgres").exists()


def test_what_is_not_an_installations_is_not_touched(tmp_path: Path, installation: Path) -> None:
    (installation / "letters.txt").write_text("mine", encoding="utf-8")
    command = ("data", "remove", "--yes", "--data-dir")
    assert "also holds letters.txt, which is not hongbao's" in sentence(hongbao(*command, installation))
    for folder in (tmp_path, tmp_path / "none", installation / "letters.txt"):
        assert sentence(hongbao(*command, folder)).startswith(f"There is no installation in {folder}: ")
    assert (installation / "letters.txt").exists()


@pytest.mark.root
def test_a_copy_is_removed_without_the_cluster_that_it_leads_to(tmp_path: Path) -> None:
    """As root, the cluster of a folder that Postgres's account cannot enter is elsewhere."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    original, copy = locked / "data", tmp_path / "copy"
    assert hongbao("migrate", "--data-dir", original).returncode == 0
    cluster = (original / "postgres").resolve()
    assert cluster.is_relative_to(system_account.STATE_DIR)
    (copy / "run").mkdir(parents=True)
    (copy / "postgres").symlink_to(cluster)
    assert hongbao("data", "remove", "--yes", "--data-dir", copy).returncode == 0
    assert cluster.exists()
    assert hongbao("data", "remove", "--yes", "--data-dir", original).returncode == 0
    assert not cluster.parent.exists()
    assert not original.exists()
