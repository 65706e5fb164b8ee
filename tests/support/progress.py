"""What a person sees of a run: how far it is, each failure as it happens, and at the end what could not be tried here.

A pytest plugin. On a terminal one line is written again and again; elsewhere there is a line per twentieth of the run.
"""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.needs import need_in

_TESTS_MIN = 100
"""Fewer tests are shown as pytest shows them."""
_LINES_MAX = 20
_REWRITE_S = 0.2
_LAST_RUN = "hongbao/seconds of the last whole run"
_WHOLE_RUN_MIN = 2_000


def duration(seconds: float) -> str:
    """As a person says it: ``4 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def skipped_lines(reasons: Counter[str]) -> list[str]:
    """What the tests that were skipped need, and the command that gets it: a line per reason, most tests first.

    The reasons are those of ``needs``; a reason in another form stands as it is.
    """
    lines = []
    for reason, count in reasons.most_common():
        tests = f"{count} test{'' if count == 1 else 's'}"
        need = need_in(reason)
        why = f": {reason}" if need is None else f" for want of {need.what}: {need.command}"
        lines.append(f"{tests} skipped{why}")
    return lines


class Progress:
    """The run's. Only of the process that prints: xdist's workers have none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began_s = self._written_s = time.monotonic()
        self._session: pytest.Session | None = None
        self._done: set[str] = set()
        self._failed = 0
        self._lines = 0

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember whose progress it is."""
        self._session = session

    def pytest_report_header(self) -> str | None:
        """Say how long it takes, if a whole run has ended well here."""
        cache = self._cache()
        last_s = None if cache is None else cache.get(_LAST_RUN, None)
        return f"the last whole run here took {duration(last_s)}" if isinstance(last_s, int | float) else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
        """Count a result without a letter for it."""
        if not self._is_shown() or hasattr(report, "wasxfail") or not isinstance(report, pytest.TestReport):
            return None
        if report.failed:
            # The words are those of pytest's summary.
            return ("failed", "", "FAILED") if report.when == "call" else ("error", "", "ERROR")
        if report.skipped or report.when == "call":
            return report.outcome, "", ""
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name a failure at once; count a test when all of it is over."""
        if not self._is_shown():
            return
        if report.failed:
            self._failed += 1
            if self._terminal().isatty:
                self._terminal().rewrite("", erase=True)
            self._terminal().write_line(f"FAILED {report.nodeid}", red=True)
        if report.when == "teardown":
            self._done.add(report.nodeid)
            self._tell()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, exitstatus: int) -> Iterator[None]:
        """After everything else: what was skipped and what gets it."""
        yield
        terminal = self._terminal()
        reasons = Counter(_reason(report) for report in terminal.stats.get("skipped", []))
        for line in skipped_lines(reasons):
            terminal.write_line(line, yellow=True)
        cache = self._cache()
        if exitstatus == 0 and len(self._done) >= _WHOLE_RUN_MIN and cache is not None:
            cache.set(_LAST_RUN, time.monotonic() - self._began_s)

    def _is_shown(self) -> bool:
        return self._total() >= _TESTS_MIN and self._config.get_verbosity() == 0

    def _total(self) -> int:
        return 0 if self._session is None else self._session.testscollected

    def _tell(self) -> None:
        done, total, now_s = len(self._done), self._total(), time.monotonic()
        line = (
            f"{100 * done // total:3} %  {done:,} of {total:,} tests, {self._failed} failed, "
            f"{duration(now_s - self._began_s)}"
        )
        if self._terminal().isatty:
            if now_s - self._written_s >= _REWRITE_S or done == total:
                self._written_s = now_s
                self._terminal().rewrite(line, erase=True)
                if done == total:
                    self._terminal().write_line("")
        elif done * _LINES_MAX // total > self._lines:
            self._lines = done * _LINES_MAX // total
            self._terminal().write_line(line)

    def _terminal(self) -> pytest.TerminalReporter:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if not isinstance(reporter, pytest.TerminalReporter):
            raise TypeError("the progress is written to pytest's terminal reporter")
        return reporter

    def _cache(self) -> pytest.Cache | None:
        return getattr(self._config, "cache", None)  # there is none with ``-p no:cacheprovider``


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
