"""What Redis keeps until standbys have it is remembered in a bounded number of steps, and dropped in order."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.persisting import tail
from engine.persisting.tail import SQL, Discard, Tail
from engine.settings import Settings


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


async def test_a_standby_that_is_away_for_long_takes_no_more_memory(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_KEPT_MAX", 3)
    dropped: list[str] = []

    def drops(word: str) -> Discard:
        async def drop() -> None:
            dropped.append(word)

        return drop

    kept = Tail(connection, 1)
    for number in range(10):
        await kept.add(drops(f"{number}"), drops(f"all to {number}"))
    assert len(kept._kept) == 3
    await kept.trim()
    assert dropped == []
    monkeypatch.setitem(SQL, "flushed", f"SELECT {2**62} + $1::int")
    await kept.trim()
    assert dropped == ["0", "1", "all to 9"]
