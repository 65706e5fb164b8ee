"""Actions of operators as data: what each is called, who may do it, whether it needs a second operator, what it does.

The pages register theirs (``ACTIONS`` in a page's module). ``engine.operators.approvals`` does them.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, TypeVar

import orjson

from engine.ledger.database import Connection

Tools = TypeVar("Tools")
Arguments = Mapping[str, Any]
"""What an action is done with: texts, whole numbers, booleans and lists of these. Ids are texts."""
Effect = list[tuple[str, str]]
"""What an action would change, as labels and values for a person."""
_APPROVED_BY = ", approved by "


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing(Generic[Tools]):
    """One action that is being done.

    - ``connection``: in a transaction that is committed if the action returns. What moves money should use it.
    - ``key``: names this doing. What cannot use the connection must be idempotent by it: a crash repeats it.
    - ``by``: the operator. With ``approval_id``, the one who approved, and ``asked_by`` is the other.
    """

    tools: Tools
    connection: Connection
    arguments: Arguments
    reason: str
    key: str
    by: str
    asked_by: str
    approval_id: int | None = None


async def _never(_tools: Any, _arguments: Arguments) -> bool:  # noqa: ANN401  # whatever the tools are
    return False


async def always(_tools: Any, _arguments: Arguments) -> bool:  # noqa: ANN401  # whatever the tools are
    """For actions that always need a second operator."""
    return True


async def _never_before(_doing: Any) -> bool:  # noqa: ANN401  # whatever its tools are
    return False


async def _as_given(_tools: Any, arguments: Arguments) -> Effect:  # noqa: ANN401  # whatever the tools are
    return [(name, str(value)) for name, value in arguments.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Generic[Tools]):
    """One kind of action.

    - ``needs_two``: whether it needs a second operator, by what it is done with.
    - ``execute``: does it, and returns what came of it as JSON. It may run again after a crash (``Doing.key``).
    - ``effect``: what it would change, which the second operator sees before they approve.
    - ``was_done``: whether it was done under this key, by a console that died before it could note it. It is asked
      inside the transaction that refuses the approval, and holds there what keeps it from being done afterwards. What
      is done in the transaction of ``Doing`` needs none.
    """

    name: str
    permission: str
    execute: Callable[[Doing[Tools]], Awaitable[dict[str, Any]]]
    needs_two: Callable[[Tools, Arguments], Awaitable[bool]] = _never
    effect: Callable[[Tools, Arguments], Awaitable[Effect]] = _as_given
    was_done: Callable[[Doing[Tools]], Awaitable[bool]] = _never_before


class Registry(Generic[Tools]):
    """All actions by name. Raises ValueError if two have one name."""

    def __init__(self, actions: Iterable[Action[Tools]]) -> None:
        self._by_name: dict[str, Action[Tools]] = {}
        for action in actions:
            if action.name in self._by_name:
                raise ValueError(f"two actions are called {action.name}")
            self._by_name[action.name] = action

    def __iter__(self) -> Iterator[Action[Tools]]:
        """All actions."""
        return iter(self._by_name.values())

    def get(self, name: str) -> Action[Tools] | None:
        """The action of this name, or None if this release has none."""
        return self._by_name.get(name)


def by_both(doing: Doing[Any]) -> str:
    """Who did it, as the engine keeps it: one operator, or both."""
    return doing.by if doing.by == doing.asked_by else f"{doing.asked_by}{_APPROVED_BY}{doing.by}"


def is_kept_of(doing: Doing[Any], by: str | None, reason: str | None) -> bool:
    """Whether what the engine keeps of something is that it was done as an approval: by both, for this reason."""
    asked_by, approved, _ = (by or "").partition(_APPROVED_BY)
    return bool(approved) and asked_by == doing.asked_by and reason == doing.reason


def as_text(arguments: Arguments) -> str:
    """The arguments as the JSON that is kept and hashed."""
    return orjson.dumps(dict(arguments), option=orjson.OPT_SORT_KEYS).decode()


def hash_of(text: str) -> bytes:
    """The hash of arguments."""
    return sha256(text.encode()).digest()
