"""For the tests of the console."""

from time import monotonic

import pytest


@pytest.fixture
def same_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no moment passes in which more would be allowed."""
    now_s = monotonic()
    monkeypatch.setattr("api.console.bounds.monotonic", lambda: now_s)
