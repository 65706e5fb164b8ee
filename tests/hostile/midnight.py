"""A pytest plugin: each test has a midnight in China in the middle of it.

``python -m tests.hostile.clock --realtime … -- python -m pytest -p tests.hostile.midnight --midnight 2027-01-01
[--midnight-after-ms 200] tests/wallets/test_statement.py``

``--midnight``: the day that begins meanwhile. Fixtures are made two seconds before it. The test itself begins
``--midnight-after-ms`` before it, or just after it with 0; where a fixture has waited until the day began, the clock is
left alone. Every test is given the same midnight, so the clock goes back between tests: use it for modules whose tests
share no engine. Begin ten minutes before it (``--realtime``): tokens that are made as modules are imported then last.
"""

from collections.abc import Generator
from datetime import date, datetime, timedelta

import pytest

from engine.calendar.china_time import CHINA, today
from tests.hostile.realtime import Realtime, own_realtime

_FIXTURES_S = 2.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--midnight", type=date.fromisoformat, required=True, help="the day that begins during each test")
    parser.addoption("--midnight-after-ms", type=int, default=0, help="how long after each test's own beginning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    _clock().set(_begin(item) - timedelta(seconds=_FIXTURES_S))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    result = yield
    if fixturedef.scope == "session":  # the servers are started by the first test that needs them, which takes longer
        _clock().set(_begin(request.node) - timedelta(seconds=_FIXTURES_S))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if today() < _begin(item).date():
        _clock().set(_begin(item) - timedelta(milliseconds=item.config.getoption("--midnight-after-ms")))
    return (yield)


def _begin(node: pytest.Item | pytest.Session) -> datetime:
    day: date = node.config.getoption("--midnight")
    return datetime(day.year, day.month, day.day, tzinfo=CHINA)


def _clock() -> Realtime:
    clock = own_realtime()
    if clock is None:
        raise pytest.UsageError("run it under python -m tests.hostile.clock --realtime")
    return clock
