"""Logs on change: a reason that repeats is said once, and then once a minute with how often it was met."""

import asyncio

from structlog.testing import capture_logs

from engine.claiming.checkpoints import Checkpoints
from engine.engine import Engine
from engine.errors import UnavailableError
from engine.ids import lane_of, new_packet_number
from engine.lanes import keys
from engine.lanes.clients import command
from engine.loops import every
from engine.observability import metrics
from engine.observability.repeats import KEYS_MAX, SAID_AGAIN_S, Repeats
from engine.packets.sweeper import sweep_lane
from tests.support.scenes import send
from tests.support.waiting import wait_until

NOBODY_THERE = "postgresql://postgres@127.0.0.1:1/nothing"


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
    said = [("lane 0", "away"), ("lane 0", "broken"), ("lane 1", "broken"), ("lane 0", "broken")]
    assert [repeats.times(key, reason) for key, reason in said] == [1, 1, 1, 0]


def test_reasons_that_come_in_turn_are_each_said_once() -> None:
    repeats = Repeats(Clock())
    said = [repeats.times("lane 0", reason) for _ in range(50) for reason in ("away", "broken")]
    assert said == [1, 1, *[0] * 98]


def test_a_reason_in_which_only_a_number_differs_is_the_same() -> None:
    repeats = Repeats(Clock())
    assert [repeats.times("lane 0", f"{number} changes wait") for number in range(20)] == [1, *[0] * 19]


def test_what_is_remembered_is_bounded() -> None:
    repeats = Repeats(Clock())
    for number in range(3 * KEYS_MAX):
        assert repeats.times(number) == 1
    assert len(repeats._said) == KEYS_MAX
    assert repeats.times(3 * KEYS_MAX - 1) == 0
    assert repeats.times(0) == 1


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


async def test_listening_in_vain_is_logged_once() -> None:
    """It is tried ten times a second."""
    tries = metrics.LOOP_ERRORS.labels("checkpoints")._value
    before, checkpoints = tries.get(), Checkpoints(NOBODY_THERE)
    with capture_logs() as logs:
        checkpoints.listen()
        await wait_until(lambda: tries.get() >= before + 5, what="five tries")
        await checkpoints.close()
    assert [(log["event"], log["times"]) for log in logs] == [("not_listening", 1)]


async def test_what_the_sweeper_meets_again_and_again_is_logged_once(engine: Engine) -> None:
    """A packet that is due and not there, and what is held for a recipient whom the lane has lost."""
    held = (await send(engine)).packet_id
    lane = lane_of(held)
    await command(engine.redis, "HSET", keys.packet(held), "state", "held", "arrives_at_ms", 1)
    with capture_logs() as logs:
        for _ in range(3):
            await command(engine.redis, "ZADD", keys.due(lane), 1, new_packet_number(lane)[:5] + "0" * 14, 1, held)
            await sweep_lane(engine.store, lane, 10, 1_000)
    assert sorted(log["event"] for log in logs) == ["arrived_for_nobody", "due_but_missing"]
