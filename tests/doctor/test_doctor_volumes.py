"""What the doctor says of the ledger's volumes."""

from engine.doctor.doctor import examine
from engine.doctor.lines import Level, Line
from engine.engine import Engine
from engine.ids import FIRST_VOLUME, LAST_VOLUME
from engine.settings import Settings
from tests.support.scenes import changed, fund


async def line(settings: Settings) -> Line:
    """The line about them."""
    (found,) = [each for each in await examine(settings, is_embedded=False) if each.name == "ledger volumes"]
    return found


async def test_it_says_how_full_the_last_volume_is(engine: Engine, settings: Settings) -> None:
    await fund(engine, "alice", 5)
    few = changed(settings, volume_entries=1_000)
    found = await line(few)
    assert (found.level, found.found) == (Level.OK, "1 of 82, the last has 1 of 1,000 entries")
    fitting = await engine.pool.fetchval("SELECT volume_entries()")
    assert f"of {fitting:,} entries" in (await line(settings)).found
    await engine.pool.execute("SELECT setval('transfer_ids', 2000)")
    found = await line(few)
    assert found.level is Level.WARNING
    assert "Start a sweeper" in found.advice


async def test_it_warns_while_there_are_some_left(engine: Engine, settings: Settings) -> None:
    await fund(engine, "alice", 5)
    add = "INSERT INTO volumes SELECT volume, 1, 1 FROM generate_series($1::integer, $2) AS volume"
    await engine.pool.execute(add, FIRST_VOLUME + 1, LAST_VOLUME - 8)
    assert (await line(settings)).level is Level.OK
    await engine.pool.execute(add, LAST_VOLUME - 7, LAST_VOLUME - 7)
    found = await line(settings)
    assert found.level is Level.WARNING
    assert found.found.startswith("75 of 82, ")
    assert "make volumes larger" in found.advice
