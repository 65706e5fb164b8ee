"""Idempotency-Key: done once, answered alike, whatever happens in between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import FieldProblem, IdempotencyInFlightError, IdempotencyKeyReusedError, InvalidFieldsError
from engine.ledger import idempotency
from engine.packets.sending import Sent
from engine.packets.terms import terms_from
from engine.records import SplitKind, Terms
from engine.settings import Settings
from engine.wallets.wallets import Deposit
from tests.support.scenes import assert_books_balance, changed, fund, sweeping
from tests.support.waiting import wait_until

REQUEST = idempotency.Request(principal="alice", operation="send", key="key-1", request_hash=b"body")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def send_once(engine: Engine, *, key: str = "key-1", body: bytes = b"body", total_fen: int = 1_000) -> Sent:
    terms = terms_from(settings=engine.settings, total_fen=total_fen, count=10, split=SplitKind.LUCKY)
    return await engine.packets.send("alice", terms, idempotency_key=key, request_hash=body)


async def deposit_once(engine: Engine, amount_fen: int, *, key: str = "key-1", body: bytes = b"body") -> Deposit:
    return await engine.wallets.deposit("alice", amount_fen, idempotency_key=key, request_hash=body)


async def paid(engine: Engine) -> tuple[int, int]:
    """How many packets there are, and what alice still has."""
    count: int = await engine.pool.fetchval("SELECT count(*) FROM packets")
    return count, (await engine.wallets.get("alice")).balance_fen


async def test_a_repeat_gets_the_stored_answer(engine: Engine) -> None:
    await fund(engine, "alice", 5_000)
    first = await send_once(engine)
    again = await send_once(engine)
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.packet_id, again.expires_at_ms, again.commitment) == (
        first.packet_id,
        first.expires_at_ms,
        first.commitment,
    )
    assert (again.state, again.total_fen, again.count) == (first.state, first.total_fen, first.count)
    assert await paid(engine) == (1, 4_000)


async def test_a_deposit_is_made_once_and_repeated_with_its_balance_of_then(engine: Engine) -> None:
    first = await deposit_once(engine, 300)
    await fund(engine, "alice", 50)
    again = await deposit_once(engine, 300)
    assert (first.balance_fen, again.balance_fen) == (300, 300)
    assert (again.transfer_id, again.replayed) == (first.transfer_id, True)
    assert (await engine.wallets.get("alice")).balance_fen == 350


async def test_another_body_under_the_same_key_is_refused(engine: Engine) -> None:
    await fund(engine, "alice", 5_000)
    await send_once(engine)
    await deposit_once(engine, 300)
    with pytest.raises(IdempotencyKeyReusedError):
        await send_once(engine, body=b"other")
    with pytest.raises(IdempotencyKeyReusedError):
        await deposit_once(engine, 301, body=b"other")
    assert await paid(engine) == (1, 4_300)


async def test_a_key_belongs_to_its_principal_and_operation(connection: asyncpg.Connection) -> None:
    others = [
        idempotency.Request(principal="bob", operation="send", key="key-1", request_hash=b"other"),
        idempotency.Request(principal="alice", operation="deposit", key="key-1", request_hash=b"other"),
        idempotency.Request(principal="alice", operation="send", key="key-2", request_hash=b"other"),
    ]
    async with connection.transaction():
        assert await idempotency.begin(connection, REQUEST) is None
        await idempotency.keep(connection, REQUEST, {"packet_id": "1"})
    for other in others:
        async with connection.transaction():
            assert await idempotency.begin(connection, other) is None
    async with connection.transaction():
        assert await idempotency.begin(connection, REQUEST) == {"packet_id": "1"}


async def test_a_key_that_is_being_worked_on_is_refused_at_once(engine: Engine, connection: asyncpg.Connection) -> None:
    await fund(engine, "alice", 5_000)
    work = connection.transaction()
    await work.start()
    assert await idempotency.begin(connection, REQUEST) is None
    with pytest.raises(IdempotencyInFlightError):
        await send_once(engine)
    assert (await send_once(engine, key="key-2")).replayed is False  # others do not wait for it
    await work.rollback()
    assert (await send_once(engine)).replayed is False
    assert await paid(engine) == (2, 3_000)


async def test_a_repeat_that_todays_rules_refuse_waits_for_a_first_request_that_is_under_way(
    engine: Engine, connection: asyncpg.Connection
) -> None:
    async def refused() -> Terms:
        raise InvalidFieldsError([FieldProblem("max_fen", "must be at most 20000")])

    async def repeat() -> Sent:
        return await engine.packets.send("alice", refused, idempotency_key="key-1", request_hash=b"body")

    await fund(engine, "alice", 5_000)
    first = await send_once(engine, key="key-0")
    kept = {name: getattr(first, name) for name in ("packet_id", "total_fen", "count", "expires_at_ms", "commitment")}
    work = connection.transaction()
    await work.start()
    assert await idempotency.begin(connection, REQUEST) is None
    with pytest.raises(IdempotencyInFlightError):
        await repeat()
    await idempotency.keep(connection, REQUEST, kept)
    await work.commit()
    assert ((await repeat()).packet_id, (await repeat()).replayed) == (first.packet_id, True)


async def test_a_first_request_that_is_done_while_its_repeat_is_being_refused_answers_both(engine: Engine) -> None:
    async def refused_too_late() -> Terms:
        first.append(await send_once(engine))
        raise InvalidFieldsError([FieldProblem("max_fen", "must be at most 20000")])

    await fund(engine, "alice", 5_000)
    first: list[Sent] = []
    again = await engine.packets.send("alice", refused_too_late, idempotency_key="key-1", request_hash=b"body")
    assert (again.packet_id, again.replayed) == (first[0].packet_id, True)
    assert await paid(engine) == (1, 4_000)


async def test_a_crash_in_the_middle_leaves_the_key_free_and_no_trace(
    engine: Engine, connection: asyncpg.Connection
) -> None:
    await fund(engine, "alice", 5_000)
    await connection.execute("BEGIN")
    assert await idempotency.begin(connection, REQUEST) is None
    await connection.execute("UPDATE accounts SET balance_fen = 0 WHERE owner = 'alice'")
    await idempotency.keep(connection, REQUEST, {"packet_id": "lost"})
    await engine.pool.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

    async def has_gone() -> bool:
        try:
            return not (await send_once(engine)).replayed
        except IdempotencyInFlightError:
            return False

    await wait_until(has_gone, what="the key's being free")
    assert await paid(engine) == (1, 4_000)


async def test_a_failure_is_not_kept(engine: Engine) -> None:
    from engine.errors import InsufficientFundsError

    with pytest.raises(InsufficientFundsError):
        await send_once(engine)
    await fund(engine, "alice", 1_000)
    assert (await send_once(engine)).replayed is False


async def test_fifty_sendings_at_once_under_one_key_are_one(engine: Engine) -> None:
    await fund(engine, "alice", 50_000)
    answers = await asyncio.gather(*(send_once(engine) for _ in range(50)), return_exceptions=True)
    sent = [answer for answer in answers if isinstance(answer, Sent)]
    kinds = Counter(type(answer) for answer in answers)
    assert kinds.keys() <= {Sent, IdempotencyInFlightError}
    assert len({answer.packet_id for answer in sent}) == 1
    assert [answer.replayed for answer in sent].count(False) == 1
    assert await paid(engine) == (1, 49_000)
    assert (await send_once(engine)).packet_id == sent[0].packet_id
    await assert_books_balance(engine.pool)


async def age(engine: Engine, days: int, *keys: str) -> None:
    """Let keys have been kept for some days more."""
    older = "UPDATE idempotency SET created_at_ms = created_at_ms - $1 WHERE key = ANY ($2::text[])"
    await engine.pool.execute(older, days * 86_400_000, keys)


async def kept(engine: Engine) -> list[str]:
    """The keys that are there."""
    return [row["key"] for row in await engine.pool.fetch("SELECT key FROM idempotency ORDER BY key")]


async def test_keys_are_forgotten_after_the_settings_days_a_few_at_a_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_AT_ONCE", 2)
    for number in range(5):
        await deposit_once(engine, 100, key=f"key-{number}")
    await age(engine, 91, "key-0", "key-2")
    await age(engine, 100, "key-1")
    await age(engine, 89, "key-3")
    assert await idempotency.forget(engine.pool, after_days=90)  # the oldest, and one more
    assert await kept(engine) in (["key-0", "key-3", "key-4"], ["key-2", "key-3", "key-4"])
    assert not await idempotency.forget(engine.pool, after_days=90)
    assert await kept(engine) == ["key-3", "key-4"]
    assert not await idempotency.forget(engine.pool, after_days=90)
    assert (await deposit_once(engine, 100, key="key-3")).replayed
    assert not (await deposit_once(engine, 100, key="key-1")).replayed  # a new request, as the docs say


async def test_processes_that_forget_at_once_forget_each_key_once(
    engine: Engine, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FORGOTTEN_AT_ONCE", 2)
    for number in range(4):
        await deposit_once(engine, 100, key=f"key-{number}")
    await age(engine, 91, *(f"key-{number}" for number in range(4)))
    async with connection.transaction():
        await connection.execute("SELECT FROM idempotency ORDER BY created_at_ms LIMIT 2 FOR UPDATE")
        assert await idempotency.forget(engine.pool, after_days=90)  # the other two, without waiting
        assert len(await kept(engine)) == 2
    assert await idempotency.forget(engine.pool, after_days=90)
    assert await kept(engine) == []


async def test_old_keys_are_found_by_an_index(engine: Engine, connection: asyncpg.Connection) -> None:
    await connection.execute("SET enable_seqscan = off")
    plan = await connection.fetch(f"EXPLAIN {idempotency.SQL['forget']}".replace("$1", "1").replace("$2", "2"))
    text = "\n".join(row[0] for row in plan)
    assert "idempotency_by_age" in text
    assert "Index Cond: (created_at_ms" in text, text
    assert "Seq Scan" not in text, text


async def test_the_sweeper_forgets(engine: Engine) -> None:
    settings = changed(engine.settings, idempotency_retention_days=7)
    await deposit_once(engine, 100, key="key-0")
    await deposit_once(engine, 100, key="key-1")
    await age(engine, 8, "key-0")

    async def is_forgotten() -> bool:
        return await kept(engine) == ["key-1"]

    async with sweeping(settings):
        await wait_until(is_forgotten, what="the old key's being forgotten")


async def test_the_answer_outlives_the_process(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        await fund(engine, "alice", 5_000)
        first = await send_once(engine)
    async with Engine.open(settings) as engine:
        again = await send_once(engine)
        assert (again.packet_id, again.replayed) == (first.packet_id, True)
        assert await paid(engine) == (1, 4_000)
