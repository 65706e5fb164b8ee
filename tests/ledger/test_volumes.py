"""The ledger in volumes: when the next begins, what goes where, and that nothing is lost between two of them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.engine import Engine
from engine.ids import LAST_VOLUME
from engine.ledger import schema, volumes
from engine.loops import PASSING
from engine.packets.terms import terms_from
from engine.records import Ack, Outcome, PacketState, SplitKind
from engine.running.processes import know_entries
from engine.settings import Settings
from tests.support.ledger_volumes import begin, closed
from tests.support.lost_lanes import live_packets, lose_lane, mended
from tests.support.scenes import (
    assert_books_balance,
    caught_up,
    changed,
    fund,
    persisting,
    send,
    settled,
    sweeping,
)
from tests.support.waiting import wait_until

STRUCTURE = """
SELECT 'index ' || pg_get_indexdef(indexrelid) AS part FROM pg_index WHERE indrelid = $1::regclass
UNION ALL
SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = $1::regclass AND contype = 'c'
UNION ALL
SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal
UNION ALL
SELECT 'column ' || attnum || ' ' || attname || ' ' || atttypid::regtype || ' ' || attnotnull
FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0
ORDER BY 1
"""


async def rows_of(engine: Engine, volume: int) -> int:
    """How many entries a volume has."""
    count: int = await engine.pool.fetchval(f"SELECT count(*) FROM transfers_{volume}")
    return count


async def test_a_full_volume_is_followed_by_the_next_and_new_packets_go_there(
    engine: Engine, settings: Settings
) -> None:
    async with persisting(settings):
        old = await send(engine, total_fen=20, count=2, split=SplitKind.EQUAL)
        assert old.packet_id.startswith("10")
        assert await begin(engine) == 11
        new = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
        assert new.packet_id.startswith("11")
        for packet_id in (new.packet_id, old.packet_id):
            assert (await engine.claims.claim(packet_id, "bob")).outcome is Outcome.CLAIMED
            await caught_up(engine)  # they may be of two lanes
        assert await rows_of(engine, 11) == 1
        # Both are one wallet's entries, in the order in which they were booked.
        page = await engine.wallets.transfers("bob", after=None, limit=10)
        assert [entry.packet_id for entry in page.transfers] == [old.packet_id, new.packet_id]
        one = await engine.wallets.transfers("bob", after=None, limit=1)
        rest = await engine.wallets.transfers("bob", after=one.next, limit=1)
        assert one.transfers + rest.transfers == page.transfers
        for user in ("carol", "dave"):
            await engine.claims.claim(new.packet_id, user)
        await settled(engine, new.packet_id)
    assert await rows_of(engine, 11) == 3
    await assert_books_balance(engine.pool)
    assert all(finding.holds for finding in await audit(engine.pool, engine.store, engine.stream))


async def test_it_goes_on_until_it_is_full(engine: Engine) -> None:
    await fund(engine, "alice", 5)
    async with engine.pool.acquire() as connection:
        volume, entries, fitting = await volumes.filled(connection)
    assert volume == 10
    memory = await engine.pool.fetchval("SELECT pg_size_bytes(current_setting('shared_buffers'))")
    assert fitting == memory // 64 >= 2**17
    assert not await volumes.begin_next(engine.pool, None)
    assert not await volumes.begin_next(engine.pool, entries + 1)
    assert await volumes.begin_next(engine.pool, entries)
    assert not await volumes.begin_next(engine.pool, 2)  # the new one is empty
    async with engine.pool.acquire() as connection:
        assert await volumes.filled(connection) == (11, 0, fitting)


async def test_a_volume_is_made_like_the_first(engine: Engine) -> None:
    await begin(engine)
    first, second = [
        {re.sub(r"_1[01](?!\d)", "", row["part"]) for row in await engine.pool.fetch(STRUCTURE, f"transfers_{volume}")}
        for volume in (10, 11)
    ]
    assert first == second
    assert sum(part.startswith("index") for part in first) == 7
    assert sum(part.startswith("trigger") for part in first) == 1


async def test_every_rule_of_the_ledger_holds_in_every_volume(engine: Engine) -> None:
    await begin(engine)
    packet = 1_100_000_000_000_000_007
    insert = (
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot, position)"
        f" VALUES ('claim', {packet}, $1, $2, 1, $3, 1)"
    )
    await engine.pool.execute(insert, 1_000, 5, 0)
    with pytest.raises(asyncpg.UniqueViolationError, match="claim_once_per_slot_11"):
        await engine.pool.execute(insert, 1_001, 5, 0)
    with pytest.raises(asyncpg.UniqueViolationError, match="claim_once_per_user_11"):
        await engine.pool.execute(insert, 1_000, 5, 1)
    with pytest.raises(asyncpg.CheckViolationError, match="claims_have_a_slot"):
        await engine.pool.execute(insert, 1_001, 5, None)
    with pytest.raises(asyncpg.CheckViolationError, match="amount_fen"):
        await engine.pool.execute(insert, 1_001, 0, 1)
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):  # a volume that has not begun
        await engine.pool.execute(insert.replace(str(packet), str(packet + 10**17)), 1_000, 5, 0)
    for table in ("transfers", "transfers_11"):
        for change in (f"UPDATE {table} SET amount_fen = 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.RaiseError, match=f"a {table} is never changed or removed"):
                await engine.pool.execute(change)


async def test_a_volume_is_closed_when_its_packets_have_settled(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        await begin(engine)
        first = await send(engine, total_fen=2, count=2, split=SplitKind.EQUAL)
        await engine.claims.claim(first.packet_id, "bob")
        await caught_up(engine)
        assert await closed(engine) == 0  # new packets go there
        await begin(engine)
        assert await closed(engine) == 0  # a packet is open
        await engine.claims.claim(first.packet_id, "carol")
        await settled(engine, first.packet_id)
        assert await volumes.close(engine.pool) == 1
        assert await volumes.close(engine.pool) == 0
    last = await engine.pool.fetchval("SELECT max(transfer_id) FROM transfers_11")
    rows = await engine.pool.fetch("SELECT volume, last_transfer_id FROM volumes ORDER BY volume")
    assert [tuple(row) for row in rows] == [(10, None), (11, last), (12, None)]
    for change in ("UPDATE volumes SET last_transfer_id = 1 WHERE volume = 11", "DELETE FROM volumes"):
        with pytest.raises(asyncpg.RaiseError, match="a volumes is never changed or removed"):
            await engine.pool.execute(change)


async def test_a_volume_is_not_closed_while_a_sending_that_began_before_the_next_may_still_put_a_packet_there(
    engine: Engine, database_url: str
) -> None:
    await begin(engine)
    sending = await asyncpg.connect(database_url)
    try:
        async with sending.transaction():
            assert await volumes.last(sending) == 11
            await sending.execute("UPDATE accounts SET balance_fen = 2 WHERE owner = 'filler'")
            await engine.pool.execute("SELECT begin_volume(-9)")
            assert await closed(engine) == 0
        assert await volumes.close(engine.pool) == 1
    finally:
        await sending.close()


async def test_nor_one_that_began_while_the_next_was_being_made(engine: Engine, database_url: str) -> None:
    """It has a larger number than the transaction that makes the volume, and does not see it yet."""
    await begin(engine)
    other, sending = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with sending.transaction():
            async with other.transaction():
                await other.execute("LOCK TABLE transfers IN SHARE UPDATE EXCLUSIVE MODE")
                beginning = asyncio.create_task(engine.pool.execute("SELECT begin_volume(-9)"))

                async def is_waited_for() -> bool:
                    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = $1)"
                    database = await engine.pool.fetchval(
                        "SELECT oid FROM pg_database WHERE datname = current_database()"
                    )
                    return bool(await engine.pool.fetchval(waiting, database))

                await wait_until(is_waited_for, timeout_s=0.9, what="the lock")
                await sending.execute("SELECT FROM accounts WHERE owner = 'filler' FOR UPDATE")
                assert await volumes.last(sending) == 11
            await beginning
            assert await volumes.last(sending) == 12
            assert await closed(engine) == 0
        assert await volumes.close(engine.pool) == 1
    finally:
        await other.close()
        await sending.close()


async def test_a_ledger_that_was_copied_from_another_server_closes_its_volumes(engine: Engine) -> None:
    """Numbers of transactions there may be larger than here."""
    for _ in range(2):
        await begin(engine)
    await engine.pool.execute("UPDATE volumes SET left_in = '9000000000' WHERE volume = 11")
    assert await closed(engine) == 1


async def test_the_last_volume_goes_on(engine: Engine) -> None:
    await fund(engine, "alice", 5)
    await engine.pool.execute("INSERT INTO volumes VALUES ($1, 1, 1)", LAST_VOLUME)
    assert not await volumes.begin_next(engine.pool, 1)


async def test_two_begin_one_volume(engine: Engine) -> None:
    for user in ("alice", "bob", "carol"):
        await fund(engine, user, 5)
    began = await asyncio.gather(*(volumes.begin_next(engine.pool, 2) for _ in range(3)))
    assert sorted(began) == [False, False, True]


async def test_it_waits_for_nobody_long_and_is_done_later(engine: Engine, database_url: str) -> None:
    """Whoever waits for a table is waited for by all who come after."""
    await fund(engine, "alice", 5)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE transfers IN SHARE UPDATE EXCLUSIVE MODE")
            with pytest.raises(PASSING, match="lock timeout"):
                await volumes.begin_next(engine.pool, 1)
    finally:
        await other.close()
    assert await volumes.begin_next(engine.pool, 1)


async def test_the_sweeper_begins_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.running.processes.VOLUME_S", 0.01)
    few = changed(settings, volume_entries=1_000)
    async with Engine.open(few) as engine, sweeping(few), persisting(few):
        await engine.pool.execute("SELECT setval('transfer_ids', 2000)")

        async def has_begun() -> bool:
            sent = await send(engine, total_fen=1, count=1)
            return sent.packet_id.startswith("11")

        await wait_until(has_begun, timeout_s=10, what="the next volume")
        await caught_up(engine)


async def test_postgres_looks_at_the_entries_when_there_are_many_new_ones(engine: Engine) -> None:
    await engine.pool.execute("SELECT setval('transfer_ids', 5000)")  # numbers that no entry has are nothing new
    assert not await volumes.analyze(engine.pool)
    await engine.pool.execute(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)"
        " SELECT 'deposit', 1, 1000, 5, 1 FROM generate_series(1, 2000)"
    )

    async def has_looked() -> bool:  # Postgres counts after a moment
        return await volumes.analyze(engine.pool)

    await wait_until(has_looked, timeout_s=10, what="a look")
    assert await engine.pool.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'transfers'") == 2000
    assert not await volumes.analyze(engine.pool)


@pytest.mark.long
async def test_a_look_may_take_longer_than_a_statement_and_is_ended_by_a_stop(
    engine: Engine, settings: Settings
) -> None:
    await engine.pool.execute(
        "CREATE FUNCTION slow(BIGINT) RETURNS BIGINT IMMUTABLE LANGUAGE sql AS $$ SELECT $1 FROM pg_sleep(0.3) $$;"
        "CREATE STATISTICS slowly ON (slow(amount_fen)) FROM transfers;"
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms)"
        " SELECT 'deposit', 1, 1000, 5, 1 FROM generate_series(1, 5);"
        "UPDATE pg_class SET reltuples = 9000 WHERE relname = 'transfers_10'"
    )
    async with Engine.open(changed(settings, database_timeout_s=1)) as hasty:
        assert await volumes.analyze(hasty.pool)
        await engine.pool.execute("UPDATE pg_class SET reltuples = 9000 WHERE relname = 'transfers_10'")
        await engine.pool.execute("UPDATE pg_class SET reltuples = 0 WHERE relname = 'transfers'")
        stop = asyncio.Event()
        looking = asyncio.create_task(know_entries(hasty, stop))

        async def looks() -> bool:
            query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')"
            return bool(await engine.pool.fetchval(query))

        await wait_until(looks, timeout_s=10, what="a look")
        stop.set()
        async with asyncio.timeout(1):
            await looking
    assert await engine.pool.fetchval("SELECT reltuples FROM pg_class WHERE relname = 'transfers'") == 0


async def test_a_lane_that_redis_lost_gets_its_packets_of_every_volume_back(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        sent = [(await send(engine, total_fen=20, count=2, split=SplitKind.EQUAL)).packet_id]
        await begin(engine)
        sent.append((await send(engine, total_fen=20, count=2, split=SplitKind.EQUAL)).packet_id)
        for packet_id in sent:
            await engine.claims.claim(packet_id, "bob")
        await caught_up(engine)
    before = await live_packets(engine)
    assert set(before) == set(sent)
    for lane in engine.lanes:
        await lose_lane(engine, lane)
        await mended(engine, lane)
    assert await live_packets(engine) == before


async def test_what_waits_for_the_ledger_is_awaited_in_every_volume(engine: Engine, settings: Settings) -> None:
    await begin(engine)
    checked = terms_from(settings=settings, total_fen=5, count=1, split=SplitKind.EQUAL, ack=Ack.LEDGER)
    await fund(engine, "alice", 5)
    async with persisting(settings):
        sent = await engine.packets.send("alice", checked, idempotency_key="a", request_hash=b"a")
        assert (await engine.claims.claim(sent.packet_id, "bob")).outcome is Outcome.CLAIMED
        await settled(engine, sent.packet_id)
    state = await engine.pool.fetchval("SELECT state::text FROM packets WHERE packet_id = $1", int(sent.packet_id))
    assert state == PacketState.EXHAUSTED


async def test_a_ledger_from_before_becomes_the_first_volume(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [migration for migration in schema.migrations() if migration[0] < 14]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: before)
        await schema.migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        insert = "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms, slot) VALUES "
        await connection.execute(
            insert + "('deposit', 1, 1000, 5, 1, NULL), ('claim', 1000000000000000007, 1000, 5, 2, 0)"
        )
        rows = await connection.fetch("SELECT * FROM transfers")
        assert (await schema.migrate(empty_database_url))[0] == 14
        assert await connection.fetch("SELECT * FROM transfers ORDER BY transfer_id") == rows
        await connection.execute(insert + "('deposit', 1, 1000, 5, 3, NULL)")
        numbers = await connection.fetchval("SELECT array_agg(transfer_id ORDER BY transfer_id) FROM transfers")
        assert numbers == [1, 2, 3]
        assert await connection.fetchval("SELECT begin_volume(3)") == 11
        assert await connection.fetchval("SELECT first_transfer_id FROM volumes WHERE volume = 11") == 4
    finally:
        await connection.close()


@asynccontextmanager
async def user_with(engine: Engine, database_url: str, grants: str) -> AsyncIterator[asyncpg.Pool]:
    """One connection of a user who does not own the ledger."""
    role = "no_owner"
    await engine.pool.execute(f"CREATE ROLE {role} LOGIN")
    try:
        await engine.pool.execute(grants.format(role))
        url = re.sub("//postgres@", f"//{role}@", database_url)
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            yield pool
    finally:
        await engine.pool.execute(f"DROP OWNED BY {role}")
        await engine.pool.execute(f"DROP ROLE {role}")


WRITES = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {0}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {0}"


async def test_a_user_who_does_not_own_the_ledger_begins_volumes(engine: Engine, database_url: str) -> None:
    await fund(engine, "alice", 5)
    async with user_with(engine, database_url, WRITES) as pool:
        assert await volumes.begin_next(pool, 1)
        async with pool.acquire() as connection:
            assert (await volumes.filled(connection))[:2] == (11, 0)


async def test_a_user_who_only_reads_begins_none(engine: Engine, database_url: str) -> None:
    await fund(engine, "alice", 5)
    async with user_with(engine, database_url, "GRANT pg_read_all_data TO {0}") as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await volumes.begin_next(pool, 1)


@pytest.mark.parametrize("call", ["begin_volume(1)", "close_volumes()", "analyze_entries()"])
async def test_with_the_owners_rights_nothing_of_the_callers_is_done(
    engine: Engine, database_url: str, call: str
) -> None:
    """Postgres looks for a name among temporary tables first, if it is not told otherwise."""
    evil = """
        CREATE FUNCTION pg_temp.evil() RETURNS SMALLINT LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'done as %', current_user; END $$;
        CREATE TEMP VIEW volumes AS
        SELECT pg_temp.evil() AS volume, 1 AS first_transfer_id, '1' AS left_in, NULL::bigint AS last_transfer_id;
        CREATE TEMP VIEW transfer_ids AS SELECT pg_temp.evil() AS last_value;
    """
    async with user_with(engine, database_url, WRITES) as pool, pool.acquire() as connection:
        await connection.execute(evil)
        await connection.execute(f"SELECT {call}")
