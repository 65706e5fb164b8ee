"""Deposits of one process go together: each is answered for itself, whatever becomes of the others."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from engine.engine import Engine
from engine.errors import IdempotencyInFlightError, IdempotencyKeyReusedError, LimitExceededError, ServerRefusesError
from engine.ledger.idempotency import Request
from engine.records import FEN_MAX
from engine.wallets.depositing import TOGETHER_MAX, Depositing
from engine.wallets.wallets import Deposit
from tests.support.scenes import assert_books_balance, fund


async def deposit(engine: Engine, user_id: str, amount_fen: int, key: str, body: bytes = b"body") -> Deposit:
    return await engine.wallets.deposit(user_id, amount_fen, idempotency_key=key, request_hash=body)


async def test_those_that_come_at_once_are_few_transactions(engine: Engine) -> None:
    users = [f"user{number % 5}" for number in range(3 * TOGETHER_MAX)]
    made = await asyncio.gather(*(deposit(engine, user, 2, uuid4().hex) for user in users))
    assert len({one.transfer_id for one in made}) == len(users)
    assert await engine.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM transfers") <= 5
    largest = {user: max(one.balance_fen for one in made if one.user_id == user) for user in users}
    assert set(largest.values()) == {2 * len(users) // 5}
    await assert_books_balance(engine.pool)


async def test_each_is_answered_for_itself(engine: Engine) -> None:
    await fund(engine, "rich", 10**15)
    await deposit(engine, "alice", 5, "known")
    room_fen = FEN_MAX - 10**15 - 5
    answers = await asyncio.gather(
        deposit(engine, "alice", 1, "new"),
        deposit(engine, "alice", 5, "known"),
        deposit(engine, "alice", 6, "known", b"other"),
        deposit(engine, "bob", 3, "same"),
        deposit(engine, "bob", 3, "same"),
        return_exceptions=True,
    )
    kinds = [answer.replayed if isinstance(answer, Deposit) else type(answer) for answer in answers]
    # Two of one key: one is made, and the other is told to come again.
    assert kinds == [False, True, IdempotencyInFlightError, False, IdempotencyInFlightError]
    with pytest.raises(IdempotencyKeyReusedError):
        await deposit(engine, "alice", 6, "known", b"other")
    together = Depositing(engine.pool)
    both = (together.put(request("carol", "full"), room_fen), together.put(request("carol", "fits"), 7))
    assert [type(one) for one in await asyncio.gather(*both, return_exceptions=True)] == [LimitExceededError, tuple]
    await assert_books_balance(engine.pool)


def request(user_id: str, key: str) -> Request:
    return Request(principal=user_id, operation="deposit_into", key=key, request_hash=b"body")


async def test_one_that_postgres_refuses_takes_no_other_along(engine: Engine) -> None:
    together = Depositing(engine.pool)
    both = (together.put(request("nul\x00", "1"), 1), together.put(request("alice", "2"), 1))
    assert [type(one) for one in await asyncio.gather(*both, return_exceptions=True)] == [ServerRefusesError, tuple]
    assert (await engine.wallets.get("alice")).balance_fen == 1


async def test_repeats_alone_need_no_bank(engine: Engine) -> None:
    first = await deposit(engine, "alice", 5, "known")
    assert (await deposit(engine, "alice", 5, "known")).transfer_id == first.transfer_id


async def test_a_key_that_another_transaction_works_on_is_in_flight(engine: Engine, database_url: str) -> None:
    elsewhere = await asyncpg.connect(database_url)
    async with elsewhere.transaction():
        lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
        await elsewhere.execute(lock, "alice\x1fdeposit_into\x1fkey")
        with pytest.raises(IdempotencyInFlightError):
            await deposit(engine, "alice", 5, "key")
    assert not (await deposit(engine, "alice", 5, "key")).replayed
    await elsewhere.close()


async def test_whoever_leaves_is_deposited_for_and_stands_in_nobodys_way(engine: Engine) -> None:
    leaving = asyncio.create_task(deposit(engine, "alice", 5, "left"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await deposit(engine, "alice", 1, "other")).balance_fen == 6
    assert (await deposit(engine, "alice", 5, "left")).replayed
