"""What a SIGHUP means: the terminal has closed, or somebody wants files read again."""

import os

_STANDARD_DESCRIPTORS = (0, 1, 2)


class Hangup:
    """Made at the start, while the terminal, if there is one, is open."""

    def __init__(self) -> None:
        self._terminals = [descriptor for descriptor in _STANDARD_DESCRIPTORS if os.isatty(descriptor)]

    def is_of_the_terminal(self) -> bool:
        """Whether there was a terminal and it has closed: then nobody is left who could stop this process."""
        return bool(self._terminals) and not any(map(os.isatty, self._terminals))
