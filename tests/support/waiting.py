"""Waiting for something to become true, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import TypeVar, overload

import pytest

T = TypeVar("T")
_POLL_S, _POLL_S_MAX = 0.005, 0.05
"""The wait between two questions, at first and at most: what is asked for long is not kept from its work by it."""
_S_MAX = 30.0
"""A wait that succeeds costs nothing: a busy machine has time for what takes an idle one a moment."""


@overload
async def wait_until(
    predicate: Callable[[], Coroutine[object, object, T]], timeout_s: float = ..., what: str = ...
) -> T: ...
@overload
async def wait_until(predicate: Callable[[], T], timeout_s: float = ..., what: str = ...) -> T: ...
async def wait_until(predicate: Callable[[], object], timeout_s: float = _S_MAX, what: str = "the condition") -> object:
    """Ask ``predicate`` (plain or async) again and again until its answer is true, and return that answer.

    Fails the test, naming ``what``, when ``timeout_s`` have passed. What the predicate raises is not caught.
    """
    deadline_s, poll_s = time.monotonic() + timeout_s, _POLL_S
    while True:
        answered = predicate()
        answer = await answered if isawaitable(answered) else answered
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            pytest.fail(f"{what} did not happen within {timeout_s:g} s (last answer: {answer!r})")
        await asyncio.sleep(poll_s)
        poll_s = min(poll_s * 1.3, _POLL_S_MAX)
