"""One call, from its first try to its answer or error: what is sent, how long is waited, what is repeated.

This is all of it, without a connection and without a clock: ``sync`` and ``asynchronous`` do what the steps say.
"""

import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pydantic import ValidationError

from hongbao_client.errors import (
    REPEATED,
    REPEATED_IF_SAFE,
    AnsweredError,
    HongbaoError,
    NoAnswerError,
    TokenError,
    UnreadableAnswerError,
    error_of,
)
from hongbao_client.models import Problem
from hongbao_client.operations import Call, Lost, Repeat, Reply
from hongbao_client.retries import Retries

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send the call with this token, and return a Reply or what Lost it in ``timeout_s``."""

    token: str | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Get a token. ``refused``: the one that the server does not accept; None: there is none yet."""

    refused: str | None


Step = Send | Pause | Renew
Outcome = Reply | Lost | str | None
"""What became of a step: of Send a Reply or Lost, of Renew the token, or None if there is no other."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try without success. ``in_doubt``: it may have been carried out."""

    error: HongbaoError
    may_repeat: bool
    in_doubt: bool
    cause: Exception | None = None

    @property
    def retry_after_s(self) -> float | None:
        return self.error.retry_after_s if isinstance(self.error, AnsweredError) else None


def exchange(
    call: Call[T],
    retries: Retries,
    now_s: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Generator[Step, Outcome, T]:
    """The steps of a call; its result is the answer. Raises the errors of ``hongbao_client.errors``."""
    ends_at_s = now_s() + retries.deadline_s
    tries, in_doubt, is_renewed = 0, False, False
    token = _text((yield Renew(None)))
    while True:
        tries += 1
        outcome = yield Send(token, max(0.001, min(retries.timeout_s, ends_at_s - now_s())))
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return _read(call, outcome, tries)
        failed = _judged(call, outcome)
        in_doubt = in_doubt or failed.in_doubt
        if isinstance(failed.error, TokenError) and token is not None and not is_renewed:
            is_renewed, other = True, _text((yield Renew(token)))
            if other is not None and other != token:
                token = other
                continue
        pause_s = retries.pause_s(tries, failed.retry_after_s, draw)
        if not failed.may_repeat or tries >= retries.tries_max or now_s() + pause_s >= ends_at_s:
            failed.error.may_have_happened = in_doubt
            failed.error.idempotency_key, failed.error.tries = call.key, tries
            raise failed.error from failed.cause
        yield Pause(pause_s)


def _read(call: Call[T], reply: Reply, tries: int) -> T:
    try:
        return call.operation.read(reply.body)
    except UnreadableAnswerError as error:
        error.may_have_happened, error.idempotency_key, error.tries = True, call.key, tries
        raise


def _judged(call: Call[T], outcome: Outcome) -> _Failed:
    """What a try that did not succeed means for the next."""
    changes, is_safe = call.operation.method != "GET", call.operation.repeat is not Repeat.WHEN_UNDONE
    if isinstance(outcome, Lost):
        error = NoAnswerError(f"No answer to {call.operation.name}: {type(outcome.error).__name__}: {outcome.error}")
        return _Failed(error, is_safe or not outcome.was_sent, outcome.was_sent and changes, outcome.error)
    if not isinstance(outcome, Reply):
        raise TypeError(f"a request becomes no {outcome!r}")
    problem = _problem(outcome)
    if problem is None:
        return _from_between(call, outcome, is_safe=is_safe, changes=changes)
    answered = error_of(problem, retry_after_s(outcome.headers))
    if problem.code in REPEATED:
        return _Failed(answered, may_repeat=True, in_doubt=False)
    if problem.code in REPEATED_IF_SAFE:
        return _Failed(answered, may_repeat=is_safe, in_doubt=changes)
    return _Failed(answered, may_repeat=False, in_doubt=changes and outcome.status >= 500)


def _from_between(call: Call[T], reply: Reply, *, is_safe: bool, changes: bool) -> _Failed:
    """An answer of a proxy. What it passed on before it gave up, nobody knows."""
    if reply.status < 400:
        error: HongbaoError = UnreadableAnswerError(f"{reply.status} is no answer to {call.operation.name}.")
        return _Failed(error, may_repeat=False, in_doubt=changes)
    detail = "Something between the client and the server has answered."
    problem = Problem(type="about:blank", title="", status=reply.status, detail=detail, code="")
    is_gone = reply.status in (502, 503, 504)
    answered = error_of(problem, retry_after_s(reply.headers))
    return _Failed(answered, reply.status == 429 or (is_gone and is_safe), changes and reply.status >= 500)


def _problem(reply: Reply) -> Problem | None:
    """The problem of Hongbao's that an answer is."""
    try:
        return Problem.model_validate_json(reply.body)
    except ValidationError:
        pass
    try:  # a newer server's, of which only the code is sure
        found = json.loads(reply.body)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("code"), str):
        return None
    detail = str(found.get("detail", ""))
    return Problem(type="about:blank", title="", status=reply.status, detail=detail, code=found["code"])


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The header Retry-After in seconds, also if it is a date. None: there is none that can be read."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _text(outcome: Outcome) -> str | None:
    if outcome is None or isinstance(outcome, str):
        return outcome
    raise TypeError(f"a token is no {outcome!r}")
