"""The meaning of a SIGHUP: the terminal has closed, or an operator wants files read again."""

import os
import signal
import sys

_STANDARD_DESCRIPTORS = (0, 1, 2)


class Hangup:
    """Create it at the start, while the terminal, if any, is open."""

    def __init__(self) -> None:
        self._terminals = [descriptor for descriptor in _STANDARD_DESCRIPTORS if os.isatty(descriptor)]

    def is_of_the_terminal(self) -> bool:
        """Whether there was a terminal and it has closed. Then nobody is left to stop this process."""
        return bool(self._terminals) and not any(map(os.isatty, self._terminals))


def outlive_hangups() -> None:
    """Go on at a SIGHUP, unless the terminal has closed, until the process has a handler of its own.

    Without it, files that an operator wants read again while a process starts would end the process.
    """
    hangup = Hangup()
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP) if hangup.is_of_the_terminal() else None)
