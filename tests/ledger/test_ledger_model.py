"""However the changes of a lane are cut into batches, the books come out the same."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.auditing.books import SQL as AUDIT
from engine.events import Change
from tests.support.books import UNKNOWN, Books, claim, exhausted, expired, opening
from tests.support.scenes import assert_books_balance

# A step names a packet by its place (0 to 2; 3 is one the ledger does not know) and a user by a digit.
_CLAIM = st.tuples(st.just("claim"), st.integers(0, 3), st.integers(0, 9), st.integers(0, 5), st.integers(1, 40))
_EXHAUST = st.tuples(st.just("exhaust"), st.integers(0, 2), st.integers(0, 9), st.integers(0, 5), st.integers(1, 40))
_EXPIRE = st.tuples(st.just("expire"), st.integers(0, 3), st.just(0), st.integers(0, 5), st.integers(0, 100))
_OPEN = st.tuples(st.just("open"), st.integers(0, 3), st.just(0), st.just(0), st.just(0))
STEPS = st.lists(st.one_of(_CLAIM, _CLAIM, _CLAIM, _CLAIM, _EXHAUST, _EXPIRE, _OPEN), min_size=1, max_size=25)


def events(steps: Sequence[tuple[str, int, int, int, int]], numbers: Sequence[int], prefix: str) -> list[list[Change]]:
    """The steps as the changes of one event each, over these packets and users of this prefix."""
    made: list[list[Change]] = [[opening(number)] for number in numbers[:3]]
    for kind, place, user, slot, amount_fen in steps:
        packet = numbers[place]
        if kind == "open":
            made.append([opening(packet)])
        elif kind == "expire":
            made.append([expired(packet, slot, amount_fen)])
        else:
            claimed = claim(packet, f"{prefix}{user}", slot, amount_fen)
            made.append([claimed, exhausted(packet)] if kind == "exhaust" else [claimed])
    return made


async def outcome(books: Books, numbers: Sequence[int], prefix: str, start: int) -> list[Any]:
    """What the changes of one example have come to, whatever the numbers, the prefix and the start were."""
    fetch = books.connection.fetch
    place = {number: index for index, number in enumerate(numbers)}
    transfers = await fetch(
        "SELECT transfers.kind::text, from_account, owner, amount_fen, slot, at_ms, position, asset FROM transfers "
        "JOIN accounts ON account_id = to_account WHERE from_account = ANY ($1) ORDER BY position, slot",
        numbers,
    )
    rows = await fetch(
        "SELECT packet_id, state::text, remaining_count, remaining_fen, balance_fen FROM packets "
        "JOIN accounts ON account_id = packet_id WHERE packet_id = ANY ($1)",
        numbers,
    )
    wallets = await fetch(
        "SELECT owner, balance_fen, coalesce(asset, '') FROM accounts WHERE starts_with(owner, $1)", prefix
    )
    aside = await fetch(
        "SELECT packet_id, kind, user_id, slot, amount_fen, position FROM quarantine "
        "WHERE packet_id = ANY ($1) ORDER BY position, kind",
        numbers,
    )
    return [
        [
            (row[0], place[row[1]], row[2].removeprefix(prefix), *row[3:6], row[6] and row[6] - start, row[7])
            for row in transfers
        ],
        sorted((place[row[0]], *row[1:]) for row in rows),
        sorted((row[0].removeprefix(prefix), *row[1:]) for row in wallets if row[1]),
        [(place[row[0]], row[1], (row[2] or "").removeprefix(prefix), *row[3:5], row[5] - start) for row in aside],
    ]


@pytest.mark.long
@given(steps=STEPS, cuts=st.lists(st.integers(1, 9), min_size=30, max_size=30))
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # The database is kept: every example has packets and users of its own in it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_batches_make_the_same_books_as_one_change_at_a_time(
    books: Books, steps: list[tuple[str, int, int, int, int]], cuts: list[int]
) -> None:
    connection = books.connection
    example = await connection.fetchval("SELECT count(*) FROM packets")
    results = []
    for lane, sizes in ((0, [1] * 30), (1, cuts)):
        position = await connection.fetchval("SELECT position FROM lanes WHERE lane = $1", lane)
        lane_books = Books(connection=connection, lane=lane, position=position)
        numbers = [await lane_books.packet(total_fen=100, count=6, asset=asset) for asset in (None, "POINTS", "CUPS")]
        numbers.append(UNKNOWN + example * 2 + lane)
        prefix, waiting = f"{lane}-{example}-", events(steps, numbers, f"{lane}-{example}-")
        for size in sizes:
            batch, waiting = waiting[:size], waiting[size:]
            if batch:
                await lane_books.apply(*(change for event in batch for change in event))
        assert waiting == []
        results.append(await outcome(lane_books, numbers, prefix, position))
    assert results[0] == results[1]
    await assert_books_balance(connection)
    assert await connection.fetch(AUDIT["between_assets"], 0, 0, 0) == []
    assert {row["fen"] for row in await connection.fetch(AUDIT["sum_of_balances"])} == {"0"}
