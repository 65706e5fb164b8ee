"""What the tests of the gate and of recovery share: a lane's live packets as Redis has them, harm, and mending."""

from typing import Any

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.records import ClaimResult, Outcome, PacketState
from engine.recovery.recovery import Recovered, mend
from tests.support.scenes import assert_books_balance

Held = dict[str, Any]


async def live_packets(engine: Engine) -> dict[str, Held]:
    """Everything Redis holds of the packets that are open by the ledger, key by key."""
    rows = await engine.pool.fetch("SELECT packet_id FROM packets WHERE state = 'open' ORDER BY packet_id")
    return {str(row["packet_id"]): await held(engine, str(row["packet_id"])) for row in rows}


async def held(engine: Engine, packet_id: str) -> Held:
    """All that a packet's keys and its lane's due list say, and how long they will.

    But not how many have seen it: a rebuilt packet says that somebody has, because nobody knows better.
    """
    redis = engine.redis
    names = keys.all_of(packet_id)
    packet = await command(redis, "HGETALL", names[0])
    packet.pop(b"views", None)
    return {
        "packet": packet,
        "order": [*packet],
        "shares": await command(redis, "LRANGE", names[1], 0, -1),
        "claims": await command(redis, "HGETALL", names[2]),
        "recipients": await command(redis, "SMEMBERS", names[3]),
        "encodings": [await command(redis, "OBJECT", "ENCODING", name) for name in (names[0], names[2])],
        "expiry": [await redis.pttl(name) for name in names],
        "due": await redis.zscore(keys.due(int(packet_id[2:5])), packet_id),
    }


async def all_keys(engine: Engine, lane: int) -> set[str]:
    """The names of all keys of a lane."""
    return {name.decode() async for name in engine.redis.scan_iter(match=f"{keys.tag(lane)}:*", count=1_000)}


async def lose_lane(engine: Engine, lane: int) -> None:
    """Remove all keys of a lane and of no other."""
    await engine.redis.delete(*await all_keys(engine, lane))


async def mended(engine: Engine, lane: int = 0, *, force: bool = False) -> Recovered:
    """Rebuild a lane that needs it, as the operator would."""
    recovered = await mend(engine.settings, engine.store, engine.stream, lane, force=force)
    assert recovered is not None
    return recovered


async def claim_until_served(engine: Engine, packet_id: str, user_id: str) -> ClaimResult | None:
    """Claim, or None while the lane refuses."""
    from engine.errors import UnavailableError

    try:
        return await engine.claims.claim(packet_id, user_id)
    except UnavailableError:
        return None


async def amounts_in_ledger(engine: Engine) -> dict[tuple[str, str], int]:
    """(packet, user) -> amount, of every claim the ledger has."""
    rows = await engine.pool.fetch(
        "SELECT from_account, owner, amount_fen FROM transfers JOIN accounts ON account_id = to_account "
        "WHERE transfers.kind = 'claim'"
    )
    return {(str(row["from_account"]), row["owner"]): row["amount_fen"] for row in rows}


async def assert_ledger_is_told(engine: Engine) -> None:
    """Everyone with a share in the ledger of a packet that has not ended hears of the same amount again."""
    open_packets = set(await live_packets(engine))
    for (packet_id, user_id), amount_fen in (await amounts_in_ledger(engine)).items():
        if packet_id in open_packets:
            assert await engine.claims.claim(packet_id, user_id) == ClaimResult(Outcome.ALREADY, amount_fen)


async def assert_in_order(engine: Engine) -> None:
    """Books and Redis, by the audit and by the lanes' own words; nothing due that is not there."""
    await assert_books_balance(engine.pool)
    findings = await audit(engine.pool, engine.store, engine.stream)
    assert [problem for finding in findings for problem in finding.problems] == []
    assert await engine.ready() == []
    for lane in engine.lanes:
        due = await engine.store.due(lane, 2**53, 10_000)
        assert set(await engine.store.states(due)) <= {PacketState.OPEN.value}
