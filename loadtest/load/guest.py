"""What every user of the eve can do: act for a user, send requests, obey refusals, notice contradictions.

``evenings`` holds what all users of one locust process share. locustfile.py fills it in before the first user starts.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser
from locust.exception import StopUser

from loadtest.load.board import Board
from loadtest.load.identities import Headers, Identities
from loadtest.load.verdicts import REFUSED_NAME, Failed, Refused, judge
from loadtest.told import ContradictionError, Told

Check = Callable[[dict[str, Any]], None]
_REMEMBERED_MAX = 64
TRIES_MAX = 5
"""A refused request is repeated after its Retry-After, at most this many times."""


@dataclass(slots=True, kw_only=True)
class Evening:
    """State that one process's users share. ``tell`` sends a message to the other processes."""

    run: str
    process: int
    groups: int
    rain_shares: int
    identities: Identities
    board: Board
    tell: Callable[[str, dict[str, Any]], None]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def new_user_id(self, kind: str) -> str:
        """An id that no other user of this run has, in any process."""
        return f"eve-{self.run}-{self.process}-{kind}-{next(self.numbers)}"


class Evenings:
    """Holds the process's evening. Before it begins, ``now`` raises StopUser."""

    _now: Evening | None = None

    @property
    def now(self) -> Evening:
        """This process's evening."""
        if self._now is None:
            raise StopUser
        return self._now

    def begin(self, evening: Evening) -> None:
        """Begin the evening, so that users can start."""
        self._now = evening


evenings = Evenings()


def nothing_to_check(_: dict[str, Any]) -> None:
    """Accept any answer."""


class Guest(FastHttpUser):
    """Any user: sends requests, obeys refusals, remembers answers."""

    abstract = True
    kind: ClassVar[str]

    def on_start(self) -> None:
        """Get an id and headers."""
        self.evening = evenings.now
        self.become(self.evening.new_user_id(self.kind))

    def become(self, user_id: str) -> None:
        """Act for this new user from now on, without remembered answers."""
        self.user_id, self.told = user_id, Told(remembered_max=_REMEMBERED_MAX, in_order=True)
        self.headers: Headers = self.evening.identities.of(user_id)

    def ask(
        self,
        method: str,
        path: str,
        *,
        name: str,
        headers: Headers | None = None,
        body: dict[str, Any] | None = None,
        expected: int = 200,
        check: Check = nothing_to_check,
    ) -> dict[str, Any] | None:
        """The answer, or None if there was none (this is counted). A contradiction found by ``check`` ends the run."""
        for _ in range(TRIES_MAX):
            with self.client.request(
                method, path, name=name, headers=headers or self.headers, json=body, catch_response=True
            ) as response:
                retry_after = response.headers.get("retry-after") if response.headers else None
                verdict = judge(response.status_code, retry_after, response.content, expected=expected)
                if isinstance(verdict, Failed):
                    response.failure(verdict.reason)
                    return None
                if isinstance(verdict, Refused):
                    response.request_meta["name"] = REFUSED_NAME
                    response.success()
                else:
                    try:
                        check(verdict)
                    except (ContradictionError, KeyError, TypeError) as error:
                        response.failure(f"contradiction: {error}")
                        self.evening.tell("ended", {"sentence": f"CONTRADICTION, {name}: {error!r}"})
                        return None
                    response.success()
                    return verdict
            gevent.sleep(verdict.after_s)
        return None

    def claim(self, packet_id: str, *, name: str) -> str | None:
        """Claim once. Returns the outcome, or None without an answer."""
        answer = self.ask(
            "POST",
            f"/v1/packets/{packet_id}/claims",
            name=name,
            check=lambda told: self.told.claim(packet_id, self.user_id, told),
        )
        return None if answer is None else str(answer["outcome"])
