"""What a command prints reaches every terminal and every file, whatever encoding its locale names."""

import io
import sys


def print_anything() -> None:
    """Have stdout and stderr write what their encoding lacks as an escape (``\\\\u2026``) instead of raising.

    In an ASCII locale a name in Chinese, or the dots of a table's cut cell, would end the command with a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
