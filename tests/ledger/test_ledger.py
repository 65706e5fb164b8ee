"""The ledger by itself: what a batch of changes does to the books."""

import asyncio
import random
from collections import Counter

import asyncpg
import pytest

from engine.ledger.posting import PLANNED, Applied, CheckpointMovedError, Ledger
from tests.support.books import AT_MS, Books, claim, deposit, exhausted, expired, opening
from tests.support.scenes import assert_books_balance


async def test_a_packets_life_moves_exactly_its_money(books: Books) -> None:
    packet = await books.packet(total_fen=100, count=3)
    first = await books.apply(opening(packet), claim(packet, "bob", 0, 60), claim(packet, "carol", 1, 15))
    assert (await books.balance(packet), await books.balance("bob"), await books.balance("carol")) == (25, 60, 15)
    assert (first.position, first.claims, first.ended, first.quarantined) == (3, 2, [], 0)
    assert (await books.packet_row(packet))["state"] == "open"

    second = await books.apply(expired(packet, 1, 25))
    assert (second.position, second.claims, second.ended, second.quarantined) == (4, 0, [packet], 0)
    assert (await books.balance(packet), await books.balance("alice")) == (0, 25)
    row = await books.packet_row(packet)
    assert (row["state"], row["remaining_count"], row["remaining_fen"], row["ended_at_ms"]) == ("expired", 1, 25, AT_MS)
    assert row["settled_at_ms"] is not None
    assert await books.batches() == [
        {"position": 3, "position_before": 0, "opened": 1, "claims": 2, "closed": 0, "refunds": 0, "quarantined": 0},
        {"position": 4, "position_before": 3, "opened": 0, "claims": 0, "closed": 1, "refunds": 1, "quarantined": 0},
    ]
    await assert_books_balance(books.connection)


async def test_the_last_claim_ends_and_settles_its_packet(books: Books) -> None:
    packet = await books.packet(total_fen=10, count=1)
    applied = await books.apply(opening(packet), claim(packet, "bob", 0, 10), exhausted(packet))
    assert (applied.position, applied.ended) == (2, [packet])
    row = await books.packet_row(packet)
    assert (row["state"], row["remaining_count"], row["settled_at_ms"] is None) == ("exhausted", 0, False)


async def test_a_transfer_says_what_happened_when_and_in_which_change(books: Books) -> None:
    packet = await books.packet()
    await books.apply(opening(packet), claim(packet, "bob", 3, 60))
    row = await books.connection.fetchrow("SELECT * FROM transfers WHERE kind = 'claim'")
    assert row is not None
    bob = await books.connection.fetchval("SELECT account_id FROM accounts WHERE owner = 'bob'")
    assert (row["from_account"], row["to_account"], row["amount_fen"]) == (packet, bob, 60)
    assert (row["at_ms"], row["slot"], row["position"]) == (AT_MS + 3, 3, 2)


async def test_a_sender_may_win_of_its_own_packet(books: Books) -> None:
    packet = await books.packet(total_fen=100)
    await books.apply(opening(packet), claim(packet, "alice", 0, 40), expired(packet, 4, 60))
    assert (await books.balance("alice"), await books.balance(packet)) == (100, 0)
    await assert_books_balance(books.connection)


async def test_a_checkpoint_that_moved_changes_nothing(books: Books) -> None:
    packet = await books.packet()
    await books.apply(opening(packet))
    for believed in (0, 2):
        late = [claim(packet, "bob", 0, 10)._replace(position=believed + 1)]
        with pytest.raises(CheckpointMovedError):
            await books.ledger.apply(books.connection, 0, believed, believed + 1, late)
    with pytest.raises(CheckpointMovedError):
        await books.ledger.apply(books.connection, 7, 0, 1, [opening(packet)])  # a lane nobody has made
    assert (await books.balance(packet), await books.balance("bob"), len(await books.batches())) == (100, 0, 1)
    assert await books.connection.fetchval("SELECT position FROM lanes WHERE lane = 0") == 1


async def test_two_who_apply_the_same_changes_at_once_apply_them_once(books: Books, database_url: str) -> None:
    packet = await books.packet(total_fen=100, count=50)
    changes = books.numbered([opening(packet), *(claim(packet, f"user{slot}", slot, 1) for slot in range(50))])
    others = [await asyncpg.connect(database_url) for _ in range(4)]
    outcomes = await asyncio.gather(
        *(Ledger().apply(other, 0, 0, 51, changes) for other in others), return_exceptions=True
    )
    for other in others:
        await other.close()
    assert Counter(type(outcome) for outcome in outcomes) == {Applied: 1, CheckpointMovedError: 3}
    assert (await books.balance(packet), await books.quarantine()) == (50, [])
    await assert_books_balance(books.connection)


@pytest.mark.parametrize("table", ["transfers", "batches"])
@pytest.mark.parametrize("action", ["UPDATE {} SET position = 0", "DELETE FROM {}", "TRUNCATE {}"])
async def test_what_is_written_is_never_changed(books: Books, table: str, action: str) -> None:
    await books.apply(opening(await books.packet()))
    before = await books.connection.fetch(f"SELECT * FROM {table}")
    with pytest.raises(asyncpg.RaiseError, match=f"a {table} is never changed or removed"):
        await books.connection.execute(action.format(table))
    assert await books.connection.fetch(f"SELECT * FROM {table}") == before


async def test_wallets_that_were_forgotten_are_learned_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ledger.posting._WALLETS_KNOWN_MAX", 3)
    packet = await books.packet(total_fen=100, count=50)
    await books.apply(opening(packet))
    for start in range(0, 50, 5):
        await books.apply(*(claim(packet, f"user{slot}", slot, 1) for slot in range(start, start + 5)))
    other = await books.packet(total_fen=100, count=50)
    await books.apply(opening(other), *(claim(other, f"user{slot}", slot, 1) for slot in range(50)))
    assert {await books.balance(f"user{slot}") for slot in range(50)} == {2}
    await assert_books_balance(books.connection)


async def test_lanes_that_pay_the_same_wallets_at_once_do_not_disturb_each_other(
    books: Books, database_url: str
) -> None:
    """Against a deadlock or a lost update: both lanes and deposits touch the same wallets, in other orders."""

    async def one_lane(lane: int) -> None:
        # As the persister's: where the planner is free, it may lock the wallets in the order in which they lie.
        connection = await asyncpg.connect(database_url, server_settings=PLANNED)
        lane_books = Books(connection=connection, lane=lane)
        users = [f"user{number}" for number in range(40)]
        for seed in range(15):
            packet = await lane_books.packet(total_fen=100, count=40)
            random.Random(seed * 2 + lane).shuffle(users)
            await lane_books.apply(opening(packet), *(claim(packet, user, slot, 1) for slot, user in enumerate(users)))
        await connection.close()

    async def deposits() -> None:
        connection = await asyncpg.connect(database_url)
        for number in range(200):
            await deposit(connection, f"user{number % 40}", 1)
        await connection.close()

    await asyncio.gather(one_lane(0), one_lane(1), deposits())
    assert {await books.balance(f"user{number}") for number in range(40)} == {2 * 15 + 5}
    await assert_books_balance(books.connection)
