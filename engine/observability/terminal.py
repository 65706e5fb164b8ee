"""Makes a command's output work in every terminal and file, with any encoding of the locale."""

import io
import sys


def print_anything() -> None:
    """Have stdout and stderr write what their encoding lacks as an escape (``\\\\u2026``) instead of raising.

    In an ASCII locale, a Chinese name or the dots in a cut table cell would otherwise end the command with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
