"""The ledger by itself: what a batch of changes does to the books, and what it refuses."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine import packets, wallet
from engine.epochs import SQL as LANES
from engine.events import Change, Claims, Ending, Opening
from engine.lanes import new_packet_number
from engine.ledger import Applied, CheckpointMovedError, Ledger
from engine.records import PacketState
from tests.scenes import assert_books_balance

UNKNOWN = 1_000_000_000_000_000_001
AT_MS = 1_750_000_000_000


@dataclass(kw_only=True)
class Books:
    """One lane of a ledger; numbers the changes it is given."""

    connection: asyncpg.Connection
    lane: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    position: int = 0

    async def packet(self, total_fen: int = 100, count: int = 5) -> int:
        """A packet that ``alice`` has paid for."""
        await self.connection.execute(wallet.SQL["create"], "alice")
        await self.connection.execute(wallet.SQL["deposit"], "alice", total_fen)
        number = int(new_packet_number(self.lane))
        split_terms: tuple[Any, ...] = ("lucky", 1, 20_000, "", [], bytes(32), b"", AT_MS, AT_MS + 1)
        terms = (number, "alice", total_fen, count, *split_terms)
        assert await self.connection.fetchval(packets.SQL["send"], *terms)
        return number

    def numbered(self, changes: Sequence[Change]) -> list[Change]:
        """The changes with the positions they have when they come next."""
        position, numbered = self.position, list[Change]()
        for change in changes:
            position += not is_exhaustion(change)
            numbered.append(change._replace(position=position))
        return numbered

    async def apply(self, *changes: Change) -> Applied:
        """Apply the changes as one batch."""
        numbered = self.numbered(changes)
        applied = await self.ledger.apply(self.connection, self.lane, self.position, numbered[-1].position, numbered)
        self.position = applied.position
        return applied

    async def balance(self, account: int | str) -> int:
        """What an account, or a user's wallet, holds."""
        column = "owner" if isinstance(account, str) else "account_id"
        query = f"SELECT balance_fen FROM accounts WHERE {column} = $1"
        balance_fen: int | None = await self.connection.fetchval(query, account)
        return balance_fen or 0

    async def packet_row(self, packet: int) -> asyncpg.Record:
        """The packet as the ledger has it."""
        row = await self.connection.fetchrow("SELECT * FROM packets WHERE packet_id = $1", packet)
        assert row is not None
        return row

    async def quarantine(self) -> list[dict[str, Any]]:
        """What was set aside in this lane."""
        rows = await self.connection.fetch("SELECT * FROM quarantine WHERE lane = $1 ORDER BY position", self.lane)
        return [dict(row) for row in rows]

    async def batches(self) -> list[dict[str, Any]]:
        """This lane's batches without the lane."""
        rows = await self.connection.fetch("SELECT * FROM batches WHERE lane = $1 ORDER BY position", self.lane)
        return [{name: value for name, value in row.items() if name != "lane"} for row in rows]


def is_exhaustion(change: Change) -> bool:
    return isinstance(change, Ending) and change.state is PacketState.EXHAUSTED


def opening(packet: int) -> Opening:
    return Opening(packet, AT_MS, 0)


def claim(packet: int, user_id: str, slot: int, amount_fen: int) -> Claims:
    return Claims(packet, [user_id], [slot], [amount_fen], AT_MS + slot, 0)


def exhausted(packet: int) -> Ending:
    return Ending(packet, PacketState.EXHAUSTED, 0, 0, AT_MS, 0)


def expired(packet: int, remaining_count: int, remaining_fen: int) -> Ending:
    return Ending(packet, PacketState.EXPIRED, remaining_count, remaining_fen, AT_MS, 0)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(LANES["add_lanes"], [0, 1], ["epoch-0", "epoch-1"])
    yield connection
    await connection.close()


@pytest.fixture
def books(connection: asyncpg.Connection) -> Books:
    return Books(connection=connection)


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


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A change that breaks a rule, after ``opening`` and bob's claim of slot 0, and what the reason must name."""

    change: Change
    reason: str
    kind: str = "claim"


THE_PACKET = -1  # stands for the packet that the test makes
BREACHES = {
    "the user has a share": Breach(change=claim(THE_PACKET, "bob", 1, 5), reason="claim_once_per_user"),
    "the slot is taken": Breach(change=claim(THE_PACKET, "eve", 0, 5), reason="claim_once_per_slot"),
    "custody holds less": Breach(change=claim(THE_PACKET, "eve", 1, 91), reason="balance_not_negative"),
    "no such packet": Breach(change=claim(UNKNOWN, "eve", 0, 5), reason="account the ledger does not have"),
    "no amount": Breach(change=claim(THE_PACKET, "eve", 1, 0), reason="transfers_amount_fen_check"),
    "opened twice": Breach(change=opening(THE_PACKET), reason="not waiting to be opened", kind="opening"),
    "opening of no packet": Breach(change=opening(UNKNOWN), reason="not waiting to be opened", kind="opening"),
    "ending of no packet": Breach(change=expired(UNKNOWN, 1, 5), reason="the packet is not known", kind="ending"),
    "ending of no packet with nothing left": Breach(
        change=expired(UNKNOWN, 0, 0), reason="the packet is not open", kind="ending"
    ),
    "more goes back than is there": Breach(
        change=expired(THE_PACKET, 4, 91), reason="balance_not_negative", kind="ending"
    ),
}


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())
async def test_a_breach_is_set_aside_with_its_reason_and_the_lane_goes_on(books: Books, breach: Breach) -> None:
    packet = await books.packet(total_fen=100, count=5)
    bad = breach.change if breach.change.packet != THE_PACKET else breach.change._replace(packet=packet)
    applied = await books.apply(
        opening(packet), claim(packet, "bob", 0, 10), bad, claim(packet, "carol", 2, 20), claim(packet, "dave", 3, 30)
    )
    assert (applied.position, applied.claims, applied.quarantined) == (5, 3, 1)
    assert [await books.balance(name) for name in ("bob", "carol", "dave", "eve", packet)] == [10, 20, 30, 0, 40]
    (aside,) = await books.quarantine()
    assert (aside["position"], aside["packet_id"], aside["kind"]) == (3, bad.packet, breach.kind)
    assert breach.reason in aside["reason"]
    if isinstance(bad, Claims):
        assert (aside["user_id"], aside["slot"], aside["amount_fen"]) == (
            bad.user_ids[0],
            bad.slots[0],
            bad.amounts_fen[0],
        )
    await books.apply(claim(packet, "frank", 4, 40), exhausted(packet))
    assert (await books.packet_row(packet))["state"] == "exhausted"
    assert [(batch["quarantined"], batch["position"]) for batch in await books.batches()] == [(1, 5), (0, 6)]
    await assert_books_balance(books.connection)


@pytest.mark.parametrize(
    "late",
    [claim(THE_PACKET, "late", 4, 5), expired(THE_PACKET, 4, 90), expired(THE_PACKET, 0, 0)],
    ids=["claim", "ending", "ending with nothing left"],
)
async def test_what_comes_after_a_packets_end_is_set_aside(books: Books, late: Claims | Ending) -> None:
    packet = await books.packet(total_fen=100, count=5)
    await books.apply(opening(packet), claim(packet, "bob", 0, 10), expired(packet, 4, 90))
    await books.apply(late._replace(packet=packet))
    assert [aside["position"] for aside in await books.quarantine()] == [4]
    assert [await books.balance(name) for name in ("alice", "bob", "late", packet)] == [90, 10, 0, 0]
    await assert_books_balance(books.connection)


async def test_an_ending_that_is_set_aside_does_not_count_as_an_end(books: Books) -> None:
    """Its packet's keys are all that is left to explain it, so they must not be dropped."""
    packet = await books.packet(total_fen=100, count=5)
    applied = await books.apply(opening(packet), expired(packet, 5, 101))
    assert (applied.ended, applied.quarantined) == ([], 1)


async def test_many_breaches_among_many_changes_are_each_found(books: Books) -> None:
    packet = await books.packet(total_fen=1_000, count=300)
    good = [claim(packet, f"user{slot}", slot, 1) for slot in range(300)]
    bad = {slot: claim(packet, f"user{slot}", 1_000 + slot, 1) for slot in range(0, 300, 37)}
    mixed = [change for slot, first in enumerate(good) for change in (first, *([bad[slot]] if slot in bad else []))]
    applied = await books.apply(opening(packet), *mixed)
    assert (applied.claims, applied.quarantined) == (300, len(bad))
    assert sorted(aside["slot"] for aside in await books.quarantine()) == sorted(
        change.slots[0] for change in bad.values()
    )
    await assert_books_balance(books.connection)


async def test_wallets_that_were_forgotten_are_learned_again(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.ledger._WALLETS_KNOWN_MAX", 3)
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
        connection = await asyncpg.connect(database_url)
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
            await connection.execute(wallet.SQL["create"], f"user{number % 40}")
            await connection.execute(wallet.SQL["deposit"], f"user{number % 40}", 1)
        await connection.close()

    await asyncio.gather(one_lane(0), one_lane(1), deposits())
    assert {await books.balance(f"user{number}") for number in range(40)} == {2 * 15 + 5}
    await assert_books_balance(books.connection)


# A step names a packet by its place (0 to 2; 3 is one the ledger does not know) and a user by a digit.
_CLAIM = st.tuples(st.just("claim"), st.integers(0, 3), st.integers(0, 9), st.integers(0, 5), st.integers(1, 40))
_EXHAUST = st.tuples(st.just("exhaust"), st.integers(0, 2), st.integers(0, 9), st.integers(0, 5), st.integers(1, 40))
_EXPIRE = st.tuples(st.just("expire"), st.integers(0, 3), st.just(0), st.integers(0, 5), st.integers(0, 100))
_OPEN = st.tuples(st.just("open"), st.integers(0, 3), st.just(0), st.just(0), st.just(0))
_STEPS = st.lists(st.one_of(_CLAIM, _CLAIM, _CLAIM, _CLAIM, _EXHAUST, _EXPIRE, _OPEN), min_size=1, max_size=25)


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
        "SELECT transfers.kind::text, from_account, owner, amount_fen, slot, at_ms, position FROM transfers "
        "JOIN accounts ON account_id = to_account WHERE from_account = ANY ($1) ORDER BY position, slot",
        numbers,
    )
    rows = await fetch(
        "SELECT packet_id, state::text, remaining_count, remaining_fen, balance_fen FROM packets "
        "JOIN accounts ON account_id = packet_id WHERE packet_id = ANY ($1)",
        numbers,
    )
    wallets = await fetch("SELECT owner, balance_fen FROM accounts WHERE starts_with(owner, $1)", prefix)
    aside = await fetch(
        "SELECT packet_id, kind, user_id, slot, amount_fen, position FROM quarantine "
        "WHERE packet_id = ANY ($1) ORDER BY position, kind",
        numbers,
    )
    return [
        [
            (row[0], place[row[1]], row[2].removeprefix(prefix), *row[3:6], row[6] and row[6] - start)
            for row in transfers
        ],
        sorted((place[row[0]], *row[1:]) for row in rows),
        sorted((row[0].removeprefix(prefix), row[1]) for row in wallets if row[1]),
        [(place[row[0]], row[1], (row[2] or "").removeprefix(prefix), *row[3:5], row[5] - start) for row in aside],
    ]


@given(steps=_STEPS, cuts=st.lists(st.integers(1, 9), min_size=30, max_size=30))
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    # The database is kept: every example has packets and users of its own in it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_any_batches_make_the_same_books_as_one_change_at_a_time(
    connection: asyncpg.Connection, steps: list[tuple[str, int, int, int, int]], cuts: list[int]
) -> None:
    example = await connection.fetchval("SELECT count(*) FROM packets")
    results = []
    for lane, sizes in ((0, [1] * 30), (1, cuts)):
        position = await connection.fetchval("SELECT position FROM lanes WHERE lane = $1", lane)
        books = Books(connection=connection, lane=lane, position=position)
        numbers = [await books.packet(total_fen=100, count=6) for _ in range(3)] + [UNKNOWN + example * 2 + lane]
        prefix, waiting = f"{lane}-{example}-", events(steps, numbers, f"{lane}-{example}-")
        for size in sizes:
            batch, waiting = waiting[:size], waiting[size:]
            if batch:
                await books.apply(*(change for event in batch for change in event))
        assert waiting == []
        results.append(await outcome(books, numbers, prefix, position))
    assert results[0] == results[1]
    await assert_books_balance(connection)


async def test_of_many_claims_of_one_call_only_the_one_that_breaks_a_rule_is_set_aside(books: Books) -> None:
    packet = await books.packet(total_fen=100, count=5)
    await books.apply(opening(packet), claim(packet, "bob", 0, 10))
    many = Claims(packet, ["carol", "dave", "bob", "eve"], [1, 2, 3, 4], [20, 5, 30, 35], AT_MS, 6)
    applied = await books.ledger.apply(books.connection, books.lane, 2, 6, [many])
    assert (applied.claims, applied.quarantined) == (3, 1)
    (aside,) = await books.quarantine()
    assert (aside["position"], aside["user_id"], aside["slot"], aside["amount_fen"]) == (5, "bob", 3, 30)
    assert [await books.balance(name) for name in ("bob", "carol", "dave", "eve", packet)] == [10, 20, 5, 35, 30]
    positions = await books.connection.fetch("SELECT slot, position FROM transfers WHERE kind = 'claim' ORDER BY slot")
    assert [tuple(row) for row in positions] == [(0, 2), (1, 3), (2, 4), (4, 6)]
    await assert_books_balance(books.connection)
