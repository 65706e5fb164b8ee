"""The way in, as ``python -m engine`` and as the command ``hongbao``."""

import gc
import os
import sys

_GC_THRESHOLDS = (50_000, 20, 50)


def main() -> None:
    """Run the command line."""
    make_starts_cheap()
    from engine.cli import main as cli

    try:
        cli.main()
    finally:
        gc.freeze()  # the interpreter's end looks through all of it several times, a sixth of a short command


def make_starts_cheap() -> None:
    """Called before anything else is imported. What a process of ours does is mostly to start, where it is short."""
    # Most of what a process makes it keeps: modules as it starts, then connections. Python's own thresholds look
    # through all of it again and again, which was an eighth of a start.
    gc.set_threshold(*_GC_THRESHOLDS)
    # numpy starts a thread per core for products of matrices, of which there are none here: a tenth of a start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "structlog" not in sys.modules:
        # structlog imports rich, where there is one, for what it prints to a terminal: another tenth of a start.
        sys.modules["rich"] = None  # type: ignore[assignment]  # Python's note that there is no such module
        import structlog  # noqa: F401

        del sys.modules["rich"]


if __name__ == "__main__":
    main()
