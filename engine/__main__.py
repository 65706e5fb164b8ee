"""The entry point: ``python -m engine`` and the command ``hongbao``."""

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
        gc.freeze()  # the interpreter's exit would check all objects several times, a sixth of a short command


def make_starts_cheap() -> None:
    """Call this before anything else is imported. Short commands spend most of their time on starting."""
    # A process keeps most objects that it makes: modules at the start, then connections. With Python's own thresholds
    # the collector checks them again and again, which took an eighth of a start.
    gc.set_threshold(*_GC_THRESHOLDS)
    # numpy starts a thread per core for matrix products. There are none here, and the threads took a tenth of a start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "structlog" not in sys.modules:
        # structlog imports rich if it can, only to colour tracebacks. That took another tenth of a start.
        sys.modules["rich"] = None  # type: ignore[assignment]  # how Python notes that a module is not there
        import structlog  # noqa: F401

        del sys.modules["rich"]


if __name__ == "__main__":
    main()
