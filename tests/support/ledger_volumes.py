"""The ledger's volumes in tests: one after the other, however few entries they have."""

from engine.engine import Engine
from engine.ledger import volumes
from tests.support.scenes import fund


async def begin(engine: Engine) -> int:
    """Begin the next volume, whatever the last has. Returns its number."""
    await fund(engine, "filler", 1)
    assert await volumes.begin_next(engine.pool, 1)
    async with engine.pool.acquire() as connection:
        return await volumes.last(connection)


async def closed(engine: Engine) -> int:
    """Close the volumes that can be closed. Returns how many: the first look only notes who must have ended."""
    return await volumes.close(engine.pool) + await volumes.close(engine.pool)
