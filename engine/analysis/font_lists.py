"""Where matplotlib keeps its list of fonts for a user who has no home to keep it in."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHOSEN = "MPLCONFIGDIR"
_USUAL = (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))


@contextmanager
def kept_somewhere() -> Iterator[None]:
    """matplotlib can be imported in the block without a warning, and leaves nothing in the folder for temporary files.

    It looks for its folder once, when it is imported.
    """
    if _CHOSEN in os.environ or all(_can_have(variable, below) for variable, below in _USUAL):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="hongbao-fonts-") as folder:
        os.environ[_CHOSEN] = folder
        try:
            yield
        finally:
            del os.environ[_CHOSEN]


def _can_have(variable: str, below: str) -> bool:
    """Whether matplotlib can have a folder of its own where it looks for one first."""
    try:
        home = os.environ.get(variable) or Path.home() / below
        folder = Path(home) / "matplotlib"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter: this user has no home at all
        return False
    return os.access(folder, os.W_OK)
