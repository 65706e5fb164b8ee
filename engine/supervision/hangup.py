"""The meaning of a SIGHUP: the terminal has closed, or an operator wants files read again."""

import os

_STANDARD_DESCRIPTORS = (0, 1, 2)


class Hangup:
    """Create it at the start, while the terminal, if any, is open."""

    def __init__(self) -> None:
        self._terminals = [descriptor for descriptor in _STANDARD_DESCRIPTORS if os.isatty(descriptor)]

    def is_of_the_terminal(self) -> bool:
        """Whether there was a terminal and it has closed. Then nobody is left to stop this process."""
        return bool(self._terminals) and not any(map(os.isatty, self._terminals))
