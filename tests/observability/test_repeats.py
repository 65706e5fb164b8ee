"""Logs on change: a reason that repeats is said once, and then once a minute with how often it was met."""

import asyncio

from structlog.testing import capture_logs

from engine.errors import UnavailableError
from engine.loops import every
from engine.observability.repeats import KEYS_MAX, SAID_AGAIN_S, Repeats


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_reason_is_said_when_it_begins_and_once_a_minute_with_its_number() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    assert [repeats.times("lane 0", "away") for _ in range(5)] == [1, 0, 0, 0, 0]
    clock.now_s += SAID_AGAIN_S
    assert [repeats.times("lane 0", "away") for _ in range(2)] == [5, 0]


def test_another_reason_and_another_key_are_said_at_once() -> None:
    repeats = Repeats(Clock())
    said = [("lane 0", "away"), ("lane 0", "broken"), ("lane 1", "broken"), ("lane 0", "broken"), ("lane 0", "away")]
    assert [repeats.times(key, reason) for key, reason in said] == [1, 1, 1, 0, 1]


def test_what_is_remembered_is_bounded() -> None:
    repeats = Repeats(Clock())
    for number in range(3 * KEYS_MAX):
        assert repeats.times(number, "away") == 1
    assert len(repeats._said) == KEYS_MAX
    assert repeats.times(3 * KEYS_MAX - 1, "away") == 0
    assert repeats.times(0, "away") == 1


async def test_a_loop_that_fails_each_turn_logs_once() -> None:
    stop, turns = asyncio.Event(), 0

    async def work() -> bool:
        nonlocal turns
        turns += 1
        if turns == 50:
            stop.set()
        raise UnavailableError("Redis does not answer" if turns < 30 else "Redis refuses")

    with capture_logs() as logs:
        await every("sweep", 0.0, stop, work)
    assert [(log["event"], log["error"], log["times"]) for log in logs] == [
        ("sweep_error", "Redis does not answer", 1),
        ("sweep_error", "Redis refuses", 1),
    ]
