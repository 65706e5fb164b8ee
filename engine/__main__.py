"""The way in, as ``python -m engine`` and as the command ``hongbao``."""

import gc

_GC_THRESHOLDS = (50_000, 20, 50)


def main() -> None:
    """Run the command line."""
    # Most of what a process makes it keeps: modules as it starts, then connections. Python's own thresholds look
    # through all of it again and again, which was an eighth of a start.
    gc.set_threshold(*_GC_THRESHOLDS)
    from engine.cli import main as cli

    try:
        cli.main()
    finally:
        gc.freeze()  # the interpreter's end looks through all of it several times, a sixth of a short command


if __name__ == "__main__":
    main()
