"""Where the processes of one installation leave their metrics, so that one scrape shows them all.

Apart from ``metrics`` because prometheus_client decides when it is imported whether it shares its values:
the process that starts others makes the directory and puts ``environment(directory)`` into theirs first.
"""

import shutil
from pathlib import Path

from engine.settings import Settings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client looks for the folder; its name is the library's."""


def directory(settings: Settings) -> Path:
    """The folder of this installation's metric files."""
    return settings.data_dir / "run" / "metrics"


def prepare(path: Path) -> None:
    """Make the folder, empty: the files of a former run would be added to this one's. Before any process starts."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)


def environment(path: Path) -> dict[str, str]:
    """What a process must have in its environment to share its metrics through the folder."""
    return {VARIABLE: str(path)}
