"""Work that is done again and again, and waits that a stop ends at once.

Loops get a stop event, so that they are not cancelled in the middle of a call to a server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from engine.errors import HongbaoError
from engine.ledger.failures import DATABASE_ERRORS
from engine.observability import metrics
from engine.observability.repeats import repeats

LOG = structlog.get_logger()
PASSING = (HongbaoError, *DATABASE_ERRORS)
"""Errors after which a loop goes on: a server is away, or our own rules refuse."""
_CANCEL_AGAIN_S = 0.1


async def every(name: str, interval_s: float, stop: asyncio.Event, work: Callable[[], Awaitable[bool]]) -> None:
    """Do ``work`` until ``stop`` is set. Wait ``interval_s`` after each time, unless it returns True.

    True means that more work is waiting. ``PASSING`` errors are counted and logged. Any other error ends the loop.
    """
    metrics.show(metrics.LOOP_ERRORS, name)
    while not stop.is_set():
        has_more = False
        try:
            has_more = await work()
        except PASSING as error:
            outlived(name, error)
        if not has_more:
            await stopped_within(stop, interval_s)


def outlived(name: str, error: Exception, **details: object) -> None:
    """Count an error under its loop's name, and log it as ``<name>_error`` if it differs from the last one."""
    metrics.LOOP_ERRORS.labels(name).inc()
    event, kind = f"{name}_error", type(error).__name__
    if times := repeats.times((event, *details.values()), f"{kind} {error}"):
        LOG.error(event, error=str(error), error_type=kind, times=times, **details)


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until ``stop`` is set, at most ``seconds``. Returns whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it has ended: a library may mistake a cancellation for its own timeout, and go on."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)
