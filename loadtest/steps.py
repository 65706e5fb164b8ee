"""Progress: bars on a terminal, otherwise a plain line when each step ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Step:
    """One step in progress: ``done`` of ``total``."""

    def __init__(self, progress: Progress, task: TaskID, total: int) -> None:
        self._progress, self._task = progress, task
        self.done, self.total = 0, total

    def advance(self) -> None:
        """Count one more as done."""
        self.show(self.done + 1, self.total)

    def show(self, done: int, total: int) -> None:
        """Show how many are done, and the total."""
        self.done, self.total = done, total
        self._progress.update(self._task, completed=done, total=total)


class Steps:
    """Shows steps on a console during the block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description:<32}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        """Start showing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    @contextmanager
    def step(self, text: str, total: int) -> Iterator[Step]:
        """Show one step. Without a terminal, a line is printed at its end, even if it failed."""
        started_s = time.perf_counter()
        step = Step(self._progress, self._progress.add_task(text, total=total), total)
        try:
            yield step
        finally:
            if not self._console.is_terminal:
                took_s = time.perf_counter() - started_s
                self._console.print(f"{text}: {step.done:,} of {step.total:,}, {took_s:.1f} s", highlight=False)
