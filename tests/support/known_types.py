"""What asyncpg learns of types: once for all the connections of a server, and not once for each.

A connection that meets its first array or enumeration asks Postgres what that is. The question takes three statements
and 7 ms of CPU, as much as three connections, and most tests open several. Databases that were cloned from one
template have the same types under the same numbers, and a number that is another database's is given to nothing else.
"""

from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

_Answer = tuple[Any, Any]


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let all connections of this process share the answers, for as long as the patch holds."""
    ask = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]  # it is private
    known: dict[tuple[object, frozenset[int]], Any] = {}

    async def introspect_types(connection: Any, numbers: set[int], wait_s: float | None) -> _Answer:  # noqa: ANN401
        asked = (connection._addr, frozenset(numbers))
        if asked in known:
            # Nothing was asked, so the statement that is being prepared has not been displaced, as one with a name.
            return known[asked], SimpleNamespace(name="known")
        answer: _Answer = await ask(connection, numbers, wait_s)
        known[asked] = answer[0]
        return answer

    patch.setattr(asyncpg.Connection, "_introspect_types", introspect_types)
