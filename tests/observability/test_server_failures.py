"""What servers fail at, and what each of their errors says of the change that was asked for."""

import pytest
from redis import exceptions
from structlog.testing import capture_logs

from engine.errors import ServerRefusesError, UnavailableError, UndecidedError
from engine.lanes.failures import UnansweredError, code_of, failure_of_change
from engine.observability import metrics, server_failures
from engine.observability.server_failures import SILENT


def test_silence_and_refusals_are_counted_each_time_and_have_words_of_their_own() -> None:
    counted = metrics.SERVER_FAILURES.labels("redis", "OOM")
    before = counted._value.get()
    with capture_logs() as logs:
        for _ in range(5):
            server_failures.note("redis", "OOM", "Redis refuses: OOM.")
        server_failures.note("redis", SILENT, "Redis does not answer.")
        server_failures.note("postgres", "OOM", "another server's")
    assert [(log["event"], log["server"]) for log in logs] == [
        ("server_refuses", "redis"),
        ("server_silent", "redis"),
        ("server_refuses", "postgres"),
    ]
    assert counted._value.get() - before == 5


IN_SCRIPT = "script: 2ea91783340964b067db0f8787dd0dae603ab8f1, on @user_script:102."


@pytest.mark.parametrize(
    ("error", "code", "kind", "is_undone"),
    [
        (exceptions.ConnectionError("Connection refused"), SILENT, UnavailableError, True),
        (exceptions.TimeoutError("Timeout connecting"), SILENT, UnavailableError, True),
        (UnansweredError("no answer within 2 s"), SILENT, UndecidedError, False),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING", ServerRefusesError, True),
        (exceptions.MovedError("1234 127.0.0.1:7001"), "MOVED", ServerRefusesError, True),
        (exceptions.OutOfMemoryError(f"command not allowed {IN_SCRIPT}"), "OOM", ServerRefusesError, True),
        (exceptions.ReadOnlyError(f"You can't write {IN_SCRIPT}"), "READONLY", ServerRefusesError, True),
        (
            exceptions.ResponseError(f"MISCONF Redis is configured to save {IN_SCRIPT}"),
            "MISCONF",
            ServerRefusesError,
            True,
        ),
        (
            exceptions.ResponseError(f"ERR The ID specified in XADD is equal or smaller {IN_SCRIPT}"),
            "ERR",
            ServerRefusesError,
            True,
        ),
        (exceptions.ResponseError("ERR bad lua script for redis cluster, KEYS"), "ERR", ServerRefusesError, True),
        (exceptions.NoPermissionError("this user has no permissions"), "NOPERM", ServerRefusesError, True),
        # In the middle of a script: what came before it stands.
        (
            exceptions.ResponseError(f"ERR ACL failure in script: no permissions {IN_SCRIPT}"),
            "NOPERM",
            UndecidedError,
            False,
        ),
        (
            exceptions.ResponseError(f"WRONGTYPE Operation against a key {IN_SCRIPT}"),
            "WRONGTYPE",
            UndecidedError,
            False,
        ),
        (exceptions.ResponseError(f"NEVERHEARD of it {IN_SCRIPT}"), "ERR", UndecidedError, False),
    ],
)
def test_what_an_error_says_of_a_change(
    error: exceptions.RedisError, code: str, kind: type[UnavailableError], is_undone: bool
) -> None:
    failure = failure_of_change(error)
    assert (code_of(error), type(failure), failure.is_undone) == (code, kind, is_undone)
