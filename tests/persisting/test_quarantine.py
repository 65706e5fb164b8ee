"""Quarantine: what waits there is told, can be tried again, or be written off so that custody empties."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from engine.auditing.audit import audit, chains
from engine.engine import Engine
from engine.events import Change
from engine.ids import new_packet_number
from engine.lanes import keys
from engine.lanes.topology import Topology
from engine.observability import metrics
from engine.persisting.quarantine import Aside, Quarantine, Result
from engine.records import PacketState
from engine.settings import Settings
from tests.ledger.test_ledger_model import STEPS, events
from tests.support.books import AT_MS, Books, claim, exhausted, expired, opening
from tests.support.commands import hongbao, sentence
from tests.support.scenes import assert_books_balance, caught_up, let_time_run_out, persisting, send, settled, sweeping

RETENTION_MS = 600_000


@pytest.fixture
def quarantine(books: Books, redis: Redis) -> Quarantine:
    return Quarantine(books.connection, Topology.of_one(redis), RETENTION_MS)


async def waiting(quarantine: Quarantine) -> list[Aside]:
    return [row async for row in quarantine.rows()]


async def resolved(quarantine: Quarantine) -> list[Aside]:
    return [row async for row in quarantine.rows(resolved_too=True) if row.resolution is not None]


async def bob_twice(books: Books, total_fen: int = 100) -> int:
    """A packet whose last share went to somebody who had one already, so that the ledger set it aside."""
    packet = await books.packet(total_fen=total_fen, count=3)
    shares = [claim(packet, "bob", 0, 50), claim(packet, "carol", 1, 30), claim(packet, "bob", 2, total_fen - 80)]
    await books.apply(opening(packet), *shares)
    return packet


async def assert_chained(database_url: str) -> None:
    async with (
        asyncpg.create_pool(database_url, min_size=2, max_size=2) as pool,
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        assert [problem for finding in await chains(pool, connection, None) for problem in finding.problems] == []


async def test_an_exhaustion_set_aside_alone_is_told(books: Books) -> None:
    """It is no change of its own, so the batch does not count it; the alarm must all the same."""
    packet = await books.packet(total_fen=10, count=2)
    await books.apply(opening(packet), claim(packet, "bob", 0, 4), expired(packet, 1, 6))
    other = await books.packet()
    applied = await books.apply(opening(other), exhausted(packet))
    assert applied.quarantined == 1
    assert [(batch["quarantined"], batch["position"]) for batch in await books.batches()] == [(0, 3), (0, 4)]
    assert [(row["kind"], row["state"], row["remaining_count"]) for row in await books.quarantine()] == [
        ("ending", "exhausted", 0)
    ]


async def test_what_waits_is_told_with_all_that_is_known(books: Books, quarantine: Quarantine) -> None:
    assert await waiting(quarantine) == []
    packet = await bob_twice(books)
    (row,) = await waiting(quarantine)
    assert (row.lane, row.position, row.packet_id, row.kind) == (0, 4, str(packet), "claim")
    assert (row.user_id, row.slot, row.amount_fen, row.at_ms, row.resolution) == ("bob", 2, 20, AT_MS + 2, None)
    assert "claim_once_per_user" in row.reason


async def test_a_retry_does_what_the_change_would_have_done(
    books: Books, quarantine: Quarantine, redis: Redis, database_url: str
) -> None:
    """Its cause is gone: the packet that was unknown when its changes came is there now."""
    number = int(new_packet_number(0))
    await books.apply(opening(number), claim(number, "bob", 0, 60), expired(number, 2, 40))
    rows = await waiting(quarantine)
    assert len(rows) == 3
    await books.packet(total_fen=100, count=3, number=number)
    await redis.set(keys.packet(str(number)), "as Redis keeps it until the ledger knows its end")
    for row in rows:
        result = await quarantine.retry(row.quarantine_id, by="root")
        assert (result.resolved, result.sentence) == (True, "the ledger has taken it")
    assert [await books.balance(name) for name in ("alice", "bob", number)] == [40, 60, 0]
    packet = await books.packet_row(number)
    assert (packet["state"], packet["remaining_count"], packet["settled_at_ms"] is None) == ("expired", 2, False)
    assert 0 < await redis.pttl(keys.packet(str(number))) <= RETENTION_MS
    assert await waiting(quarantine) == []
    assert [(row.resolution, row.resolved_by, row.moved_fen) for row in await resolved(quarantine)] == [
        ("retried", "root", None)
    ] * 3
    await assert_books_balance(books.connection)
    await assert_chained(database_url)


async def test_what_is_no_money_is_retried_as_it_and_written_off_to_its_issuer(
    books: Books, quarantine: Quarantine, redis: Redis, database_url: str
) -> None:
    number = int(new_packet_number(0))
    await books.apply(opening(number), claim(number, "bob", 0, 60), claim(number, "bob", 1, 30), expired(number, 2, 10))
    rows = await waiting(quarantine)
    await books.packet(total_fen=100, count=4, number=number, asset="POINTS")
    await redis.set(keys.packet(str(number)), "as Redis keeps it until the ledger knows its end")
    done = [(await quarantine.retry(row.quarantine_id, by="root")).resolved for row in rows]
    assert done == [True, True, False, True]  # bob has a share of it
    result = await quarantine.write_off(rows[2].quarantine_id, by="root", reason="bob has one")
    assert result.resolved, result.sentence
    held = await books.connection.fetch(
        "SELECT kind::text, owner, balance_fen FROM accounts WHERE asset = 'POINTS' ORDER BY kind, owner"
    )
    assert [tuple(row) for row in held] == [
        ("custody", None, 0),
        ("holding", "alice", 10),
        ("holding", "bob", 60),
        ("issuer", None, -70),
    ]
    assert await books.balance(3) == 0
    await assert_books_balance(books.connection)
    await assert_chained(database_url)


async def test_a_retry_that_still_breaks_a_rule_changes_nothing(books: Books, quarantine: Quarantine) -> None:
    packet = await bob_twice(books)
    (row,) = await waiting(quarantine)
    result = await quarantine.retry(row.quarantine_id, by="root")
    assert not result.resolved
    assert "it still breaks a rule: duplicate key value violates unique constraint" in result.sentence
    assert await waiting(quarantine) == [row]
    assert [await books.balance(name) for name in ("bob", packet)] == [50, 20]


async def test_a_wallet_that_a_failed_retry_made_is_not_remembered(books: Books, quarantine: Quarantine) -> None:
    number = int(new_packet_number(0))
    await books.apply(claim(number, "eve", 0, 60))
    await books.connection.execute("DELETE FROM accounts WHERE owner = 'eve'")
    (row,) = await waiting(quarantine)
    assert not (await quarantine.retry(row.quarantine_id, by="root")).resolved
    await books.packet(number=number)
    assert (await quarantine.retry(row.quarantine_id, by="root")).resolved
    assert await books.balance("eve") == 60


async def test_a_claim_is_written_off_when_its_packet_has_ended(
    books: Books, quarantine: Quarantine, database_url: str
) -> None:
    packet = await bob_twice(books)
    (row,) = await waiting(quarantine)
    early = await quarantine.write_off(row.quarantine_id, reason="he had one", by="root")
    assert (early.resolved, early.sentence) == (
        False,
        f"packet {packet} has not ended: write the claim off when it has",
    )
    await books.apply(claim(packet, "dave", 2, 0), exhausted(packet))
    assert (await books.packet_row(packet))["settled_at_ms"] is None

    bad = [other for other in await waiting(quarantine) if other.user_id == "dave"]
    assert (await quarantine.write_off(bad[0].quarantine_id, reason="no amount", by="root")).resolved
    done = await quarantine.write_off(row.quarantine_id, reason="he had one", by="root")
    assert (done.resolved, done.sentence) == (True, "written off, 20 fen left the custody")
    assert [await books.balance(name) for name in ("bob", packet, 3)] == [50, 0, 20]
    assert (await books.packet_row(packet))["settled_at_ms"] is not None
    first = (await resolved(quarantine))[0]
    assert (first.resolution, first.resolved_by, first.resolution_reason, first.moved_fen) == (
        "written_off",
        "root",
        "he had one",
        20,
    )
    await assert_books_balance(books.connection)
    await assert_chained(database_url)


async def test_an_ending_that_is_written_off_ends_its_packet_and_takes_the_rest(
    books: Books, quarantine: Quarantine, database_url: str
) -> None:
    packet = await books.packet(total_fen=100, count=5)
    await books.apply(opening(packet), claim(packet, "bob", 0, 10), expired(packet, 4, 91))
    (row,) = await waiting(quarantine)
    result = await quarantine.write_off(row.quarantine_id, reason="Redis says 1 fen too much", by="root")
    assert (result.resolved, result.sentence) == (True, "written off, 90 fen left the custody")
    assert [await books.balance(name) for name in ("alice", packet, 3)] == [0, 0, 90]
    ended = await books.packet_row(packet)
    assert (ended["state"], ended["remaining_count"], ended["remaining_fen"]) == ("expired", 4, 90)
    assert ended["settled_at_ms"] is not None
    await assert_books_balance(books.connection)
    await assert_chained(database_url)


@pytest.mark.parametrize("change", [opening(1_000_000_000_000_000_001), claim(1_000_000_000_000_000_001, "bob", 0, 5)])
async def test_what_is_about_no_money_here_is_written_off_without_any(
    books: Books, quarantine: Quarantine, change: Change
) -> None:
    await books.apply(change)
    (row,) = await waiting(quarantine)
    result = await quarantine.write_off(row.quarantine_id, reason="no such packet", by="root")
    assert (result.resolved, result.sentence) == (True, "written off, 0 fen left the custody")
    assert await books.connection.fetchval("SELECT count(*) FROM transfers") == 0


async def test_a_row_is_resolved_once_and_stays(books: Books, quarantine: Quarantine) -> None:
    await books.apply(opening(1_000_000_000_000_000_001))
    (row,) = await waiting(quarantine)
    await quarantine.write_off(row.quarantine_id, reason="a test", by="root")
    for again in (
        await quarantine.write_off(row.quarantine_id, reason="a test", by="root"),
        await quarantine.retry(row.quarantine_id, by="root"),
    ):
        assert again == Result(quarantine_id=row.quarantine_id, resolved=False, sentence="it was already written off")
    assert (await quarantine.retry(999, by="root")).sentence == "there is no row with this number"
    with pytest.raises(asyncpg.RaiseError, match="a quarantine is never changed or removed"):
        await books.connection.execute("DELETE FROM quarantine")


async def test_an_ending_of_an_older_release_can_only_be_written_off(books: Books, quarantine: Quarantine) -> None:
    packet = await books.packet()
    await books.apply(opening(packet), expired(packet, 5, 101))
    await books.connection.execute("UPDATE quarantine SET state = NULL, remaining_count = NULL")
    (row,) = await waiting(quarantine)
    result = await quarantine.retry(row.quarantine_id, by="root")
    assert result.sentence == "an older release set it aside and did not record how the packet ended"


@given(steps=STEPS, cut=st.integers(1, 9), order=st.integers(0, 1_000))
@hypothesis_settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    # The database is kept: every example has packets and users of its own in it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_was_set_aside_writing_it_off_empties_every_custody(
    books: Books, quarantine: Quarantine, steps: list[tuple[str, int, int, int, int]], cut: int, order: int
) -> None:
    count = await books.connection.fetchval("SELECT count(*) FROM packets")
    numbers = [await books.packet(total_fen=100, count=6) for _ in range(3)] + [int(new_packet_number(0))]
    changes = events(steps, numbers, f"{count}-")
    while changes:
        await books.apply(*(change for event in changes[:cut] for change in event))
        changes = changes[cut:]
    await _end_all(books, numbers)
    rows = await waiting(quarantine)
    random.Random(order).shuffle(rows)
    for row in rows:
        action = quarantine.retry(row.quarantine_id, by="root") if row.quarantine_id % 3 == 0 else None
        if action is None or not (await action).resolved:
            assert (await quarantine.write_off(row.quarantine_id, reason="a test", by="root")).resolved
    assert await waiting(quarantine) == []
    # An ending that says less than there was breaks no rule, and leaves the rest in custody for the audit to find.
    for number in {int(row.packet_id or 0) for row in rows if row.kind != "opening"} - {numbers[3]}:
        assert await books.balance(number) == 0
        assert (await books.packet_row(number))["settled_at_ms"] is not None
    await assert_books_balance(books.connection)


async def _end_all(books: Books, numbers: Sequence[int]) -> None:
    for number in numbers[:3]:
        row = await books.packet_row(number)
        if row["state"] == PacketState.OPEN:
            left_fen = await books.balance(number)
            await books.apply(expired(number, 1 if left_fen else 0, left_fen))


async def breach(engine: Engine) -> str:
    """A packet one of whose users gets a second share, because Redis forgot the first; all of it is given."""
    sent = await send(engine, count=3)
    await engine.claims.claim(sent.packet_id, "bob")
    await engine.redis.hdel(keys.claims(sent.packet_id), "bob")
    await engine.claims.claim(sent.packet_id, "bob")
    await engine.claims.claim(sent.packet_id, "carol")
    return sent.packet_id


async def test_the_whole_way_from_the_breach_to_clean_books(engine: Engine, settings: Settings) -> None:
    async with persisting(settings), sweeping(settings):
        packet_id = await breach(engine)
        await caught_up(engine)
        await engine.measure()
        assert metrics.QUARANTINE_OPEN.labels("0")._value.get() + metrics.QUARANTINE_OPEN.labels("1")._value.get() == 1
        # The lane goes on.
        other = (await send(engine, count=1)).packet_id
        await engine.claims.claim(other, "bob")
        await settled(engine, other)
    told = {finding.invariant: finding for finding in await audit(engine.pool, engine.store, engine.stream)}
    assert "claim_once_per_user" in told["nothing_quarantined"].problems[0]
    assert any("(1 of its changes wait in quarantine)" in problem for problem in told["packets_add_up"].problems)

    async with Quarantine.open(settings) as quarantine:
        (row,) = await waiting(quarantine)
        assert (await quarantine.write_off(row.quarantine_id, reason="a test", by="root")).resolved
    await engine.measure()
    assert metrics.QUARANTINE_OPEN.labels("0")._value.get() + metrics.QUARANTINE_OPEN.labels("1")._value.get() == 0
    for name in (keys.packet, keys.claims, keys.shares):
        await engine.redis.delete(name(packet_id))  # as they go by themselves when their time is over
    broken = [f.problems for f in await audit(engine.pool, engine.store, engine.stream) if not f.holds]
    assert broken == []


async def test_an_engine_in_which_a_claim_waits_shows_no_other_difference(engine: Engine, settings: Settings) -> None:
    """While Redis has the share and the quarantine knows it, the two do not contradict each other."""
    async with persisting(settings), sweeping(settings):
        sent = await send(engine, count=3)
        await engine.claims.claim(sent.packet_id, "bob")
        await caught_up(engine)
        # As if the ledger had lost custody: what comes cannot be paid.
        await engine.pool.execute("UPDATE accounts SET balance_fen = 0 WHERE account_id = $1", int(sent.packet_id))
        await engine.claims.claim(sent.packet_id, "carol")
        await caught_up(engine)
    told = {finding.invariant: finding for finding in await audit(engine.pool, engine.store, engine.stream)}
    assert told["redis_agrees"].problems == ()
    custody = "UPDATE accounts SET balance_fen = $2 WHERE account_id = $1"
    rest_fen = 1_000 - await engine.pool.fetchval("SELECT amount_fen FROM transfers WHERE kind = 'claim'")
    await engine.pool.execute(custody, int(sent.packet_id), rest_fen)
    async with Quarantine.open(settings) as quarantine:
        (row,) = await waiting(quarantine)
        assert (await quarantine.retry(row.quarantine_id, by="root")).resolved
    assert [f.problems for f in await audit(engine.pool, engine.store, engine.stream) if not f.holds] == []
    async with persisting(settings), sweeping(settings):
        await let_time_run_out(engine, sent.packet_id)
        await settled(engine, sent.packet_id)
    await assert_books_balance(engine.pool)


@pytest.fixture
def servers(settings: Settings) -> dict[str, str]:
    return {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}


async def test_the_command_lists_retries_and_writes_off(books: Books, servers: dict[str, str], tmp_path: Path) -> None:
    async def run(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(hongbao, "quarantine", *words, "--data-dir", str(tmp_path), **servers)
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert await run("list") == (0, "nothing is in quarantine\n")
    packet = await bob_twice(books)
    await books.apply(opening(await books.packet()), exhausted(packet))
    code, text = await run("list")
    assert (code, text.count("\n")) == (0, 1)
    assert f"lane 0, change 4, packet {packet}: bob claimed share 2 of 20 fen: duplicate key" in text
    number = text.split()[0]
    code, text = await run("retry", number, "777")
    assert code == 1
    assert text.splitlines()[0].startswith(f"FAILED {number}: it still breaks a rule: ")
    assert text.splitlines()[1] == "FAILED 777: there is no row with this number"
    code, text = await run("write-off", number, "--reason", "he had one", "--by", "ops", "--json")
    assert code == 0
    assert orjson.loads(text) == [
        {"quarantine_id": int(number), "resolved": True, "sentence": "written off, 20 fen left the custody"}
    ]
    assert await run("list") == (0, "nothing is in quarantine\n")
    assert "[written off by ops]" in (await run("list", "--all"))[1]
    (row,) = orjson.loads((await run("list", "--all", "--json"))[1])
    assert (row["packet_id"], row["resolution_reason"], row["moved_fen"]) == (str(packet), "he had one", 20)


def test_what_the_command_needs(servers: dict[str, str], tmp_path: Path) -> None:
    assert hongbao("quarantine", "write-off", "1", **servers).returncode == 2
    assert hongbao("quarantine", "retry", **servers).returncode == 2
    said = sentence(hongbao("quarantine", "write-off", "1", "--reason", " ", **servers))
    assert said == "A reason needs 1 to 500 characters."
    assert sentence(hongbao("quarantine", "list", "--data-dir", str(tmp_path))).startswith("There are no books in ")
