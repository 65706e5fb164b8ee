"""Folders in which whole installations are quick: fixtures in place of ``tmp_path`` and the system's TMPDIR."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.embedded import servers
from tests.support import database_folder


@pytest.fixture(scope="session")
def quick_folder(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Where tests have installations of their own: with the databases, and Postgres's own account gets to it.

    In ``tmp_path`` a cluster is made on a disk, as root below /var/lib/hongbao, and takes three times the CPU.
    """
    folder = database_folder.make(pytestconfig.stash[database_folder.CHOSEN] or Path(tempfile.gettempdir()))
    with servers.hold(folder):  # so that what a killed run leaves is known as such
        yield folder
    shutil.rmtree(folder)


@pytest.fixture
def quick_path(quick_folder: Path) -> Iterator[Path]:
    """A folder of the test's own there, in place of ``tmp_path``."""
    path = Path(tempfile.mkdtemp(dir=quick_folder))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def quick_tempdir(quick_folder: Path) -> Iterator[None]:
    """Have a module's own programs, and this process, make their temporary folders there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(quick_folder))
        patch.setenv("TMPDIR", str(quick_folder))
        yield
