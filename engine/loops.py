"""Waiting that a stop ends at once: loops are told to stop, not cancelled in the middle of a call to a server."""

import asyncio

_CANCEL_AGAIN_S = 0.1


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
