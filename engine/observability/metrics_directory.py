"""The folder in which an installation's processes share their metrics, so that one scrape shows them all.

It is separate from ``metrics``, because prometheus_client decides at its import whether it shares values. So the parent
process first makes the directory and puts ``environment(directory)`` into its children's environment.
"""

import shutil
from pathlib import Path

from engine.settings import Settings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The variable in which prometheus_client looks for the folder."""


def directory(settings: Settings) -> Path:
    """The folder of this installation's metric files."""
    return settings.data_dir / "run" / "metrics"


def prepare(path: Path) -> None:
    """Make an empty folder, because an earlier run's files would be added. Call it before any process starts."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, exist_ok=True)


def environment(path: Path) -> dict[str, str]:
    """The variables with which a process shares its metrics through the folder."""
    return {VARIABLE: str(path)}
