"""What a failure of Redis means: it does not answer, or it refuses. Each refusal comes with a remedy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.exceptions import RedisError

from engine.errors import OperatorError, ServerRefusesError, UnavailableError, UndecidedError
from engine.lanes.locating import MovedAwayError
from engine.observability import server_failures
from engine.observability.server_failures import SILENT

_CODES: dict[type[RedisError], str] = {
    MovedAwayError: "MOVED",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.AuthenticationWrongNumberOfArgsError: "NOAUTH",
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ExecAbortError: "EXECABORT",
}
"""The client removes the code from these errors' messages."""
_SPOKEN = frozenset({*_CODES.values(), "MISCONF", "NOREPLICAS", "WRONGTYPE", "BUSY", "UNKILLABLE", "ERR"})
"""The codes in metrics. Any other is counted as ERR, so that the labels stay few."""
_CLIENTS_FULL = "max number of clients reached"
_BEFORE_WRITING = frozenset({"OOM", "READONLY", "MISCONF", "NOREPLICAS"})
"""These refuse a script at its first write, never later."""
PASSING = frozenset({"OOM", "MISCONF", "NOREPLICAS", "BUSY", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""These end without a change of settings: a full Redis has room again once a persister has trimmed it."""
_XADD_ID = "ID specified in XADD"
_ACL_IN_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""How the error begins if a script's user lacks permission: in Redis 7.2 and newer, and in older ones."""
_OF_PIPELINE = re.compile(r"""^Command # .* of pipeline caused error: \((['"])(.*)\1,?\)$""", re.DOTALL)
_OF_SCRIPT = re.compile(r" *script: (?:[0-9a-f]{40}, )?on @user_script: ?\d+\.?")

_NAME_CLUSTER = (
    "It is one server of a cluster: let HONGBAO_REDIS_URL name the cluster, as in redis+cluster://a:6379,b:6379."
)
_BEING_MOVED = "The lane's slot is being moved to another server: its claims wait until it is there."
_LITERAL_KEYS = (
    "This edition of Redis takes only scripts that name each key as KEYS[n] (cluster and proxy editions of cloud "
    "services do; Aliyun's switch is script_check_enable): set that check off, or use a standard edition."
)
_REMEDIES = {
    "MOVED": _NAME_CLUSTER,
    "ASK": _BEING_MOVED,
    "CLUSTERDOWN": "The cluster has no majority or misses slots: look at CLUSTER INFO and CLUSTER SHARDS.",
    "CROSSSLOT": _NAME_CLUSTER,
    "TRYAGAIN": _BEING_MOVED,
    "OOM": "It is at maxmemory: give it more memory.",
    "READONLY": "It is a replica: let HONGBAO_REDIS_URL name the primary.",
    "MASTERDOWN": "It is a replica that has lost its primary: let HONGBAO_REDIS_URL name the primary.",
    "NOPERM": "Allow its user EVALSHA, EVAL and all commands of the scripts on keys {hongbao:* (docs/operations.md).",
    "NOAUTH": "Put the right user and password into HONGBAO_REDIS_URL.",
    "LOADING": "It is reading its data: wait until it has.",
    "MISCONF": "It cannot write its snapshot or append-only file: look at its disk.",
    "NOREPLICAS": "Its min-replicas-to-write is not reached: connect its replicas.",
    "BUSY": "Another program's script keeps it busy: end it with SCRIPT KILL.",
}
_UNKNOWN_COMMAND = (
    "It lacks a command, or the command was renamed: use Redis 6.2 or newer, or Valkey, without renamed commands."
)


class UnansweredError(RedisError):
    """The command was sent and no answer came. The server may have carried it out."""


def code_of(error: Exception) -> str:
    """The code at the start of a server's error, or SILENT if the server did not answer."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, exceptions.ResponseError):
        if any(words in str(error) for words in _ACL_IN_SCRIPT):
            return "NOPERM"
        first = _said(error).partition(" ")[0]
        # Before Redis 7, an error within a script is wrapped in an error of the script.
        inner = re.search(r"@user_script: ?\d+: ?-?([A-Z]{3,})\b", str(error))
        code = inner.group(1) if inner is not None and inner.group(1) in _SPOKEN else first
        return code if code in _SPOKEN else "ERR"
    return "ERR" if _CLIENTS_FULL in str(error) else SILENT


def _said(error: Exception) -> str:
    """The server's message, without what the client and the script add to it."""
    said = str(error) or type(error).__name__
    said = _OF_PIPELINE.sub(r"\2", said)
    return _OF_SCRIPT.sub("", said).strip()


def _remedy(code: str, said: str) -> str:
    lowered = said.lower()
    if "bad lua script" in lowered or "keys array" in lowered:
        return _LITERAL_KEYS
    if "unknown command" in lowered or "unknown redis command" in lowered:
        return _UNKNOWN_COMMAND
    if _CLIENTS_FULL in lowered:
        return "Raise its maxclients, or have fewer processes."
    return _REMEDIES.get(code, "See docs/operations.md.")


def _sentence(code: str, error: Exception) -> str:
    said = _said(error)
    if code == SILENT:
        return f"Redis does not answer: {said}"
    named = said if code == "ERR" or said.startswith(code) else f"{code} {said}"
    remedy = _BEING_MOVED if isinstance(error, MovedAwayError) else _remedy(code, said)
    return f"Redis refuses: {named.rstrip('.')}. {remedy}"


def failure_of(error: Exception, *, is_undone: bool = False) -> UnavailableError:
    """Count a failure and return the engine's error for it. ``is_undone``: nothing was changed."""
    code = code_of(error)
    sentence = _sentence(code, error)
    server_failures.note("redis", code, sentence)
    return (UnavailableError if code == SILENT else ServerRefusesError)(sentence, is_undone=is_undone)


def failure_of_change(error: Exception) -> UnavailableError:
    """The same for a script that may change something. The error says whether it did, if this is known."""
    is_undone = _is_before_writing(error)
    failure = failure_of(error, is_undone=is_undone)
    return failure if is_undone else UndecidedError(str(failure))


def _is_before_writing(error: Exception) -> bool:
    """Whether the error proves that the server had written nothing."""
    if isinstance(error, UnansweredError):
        return False
    said = str(error)
    is_within = "user_script" in said or "Error running script" in said
    return not is_within or code_of(error) in _BEFORE_WRITING or _XADD_ID in said


@contextmanager
def redis_errors(*, of_change: bool = False) -> Iterator[None]:
    """Turn the client's errors into UnavailableError.

    ``of_change``: for a script on kept connections, which report whether it was sent.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise (failure_of_change if of_change else failure_of)(error) from error


def is_passing(error: Exception) -> bool:
    """Whether a process may start despite this error. It does the rest once the server accepts it."""
    return code_of(error) in PASSING or isinstance(error, MovedAwayError)


def is_away(error: Exception) -> bool:
    """Whether the server does not answer, or not yet."""
    return code_of(error) in (SILENT, "LOADING")


def as_operators(error: Exception) -> OperatorError:
    """The same failure for the operator who starts a process."""
    return OperatorError(_sentence(code_of(error), error))
