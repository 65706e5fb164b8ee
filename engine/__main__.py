"""The entry point: ``python -m engine`` and the command ``hongbao``."""

import gc

_GC_THRESHOLDS = (50_000, 20, 50)


def main() -> None:
    """Run the command line."""
    # A process keeps most objects that it makes: modules at the start, then connections. With Python's own thresholds
    # the collector checks them again and again, which took an eighth of a start.
    gc.set_threshold(*_GC_THRESHOLDS)
    from engine.cli import main as cli

    try:
        cli.main()
    finally:
        gc.freeze()  # the interpreter's exit would check all objects several times, a sixth of a short command


if __name__ == "__main__":
    main()
