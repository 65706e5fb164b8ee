"""Work that is done again and again, and waiting that a stop ends at once.

Loops are told to stop, not cancelled in the middle of a call to a server.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from engine.errors import HongbaoError
from engine.ledger.failures import DATABASE_ERRORS
from engine.observability import metrics
from engine.observability.repeats import repeats

LOG = structlog.get_logger()
PASSING = (HongbaoError, *DATABASE_ERRORS)
"""What a loop outlives: a server that is away, and what our own rules refuse."""
_CANCEL_AGAIN_S = 0.1


async def every(name: str, interval_s: float, stop: asyncio.Event, work: Callable[[], Awaitable[bool]]) -> None:
    """Do ``work`` until ``stop`` is set; wait ``interval_s`` after each time, but not where it returns True.

    True says that more is waiting. What is ``PASSING`` is counted and logged; anything else ends the loop.
    """
    while not stop.is_set():
        has_more = False
        try:
            has_more = await work()
        except PASSING as error:
            outlived(name, error)
        if not has_more:
            await stopped_within(stop, interval_s)


def outlived(name: str, error: Exception, **details: object) -> None:
    """Count an error under its loop's name and log it as ``<name>_error``, when it is another than before."""
    metrics.LOOP_ERRORS.labels(name).inc()
    event, kind = f"{name}_error", type(error).__name__
    if times := repeats.times((event, *details.values()), f"{kind} {error}"):
        LOG.error(event, error=str(error), error_type=kind, times=times, **details)


async def stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until ``stop`` is set, at most ``seconds``; whether it was."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a task until it has ended: a library may take one cancellation for a time-out of its own, and go on."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)
