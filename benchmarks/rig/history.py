"""A ledger with a past: as many old claims as wanted, in packets that ended long ago, with hashes and balances.

They are written as the persister would have written them, but without Redis and without indexes, which are made
afterwards. So tens of millions of entries take minutes. The audit walks along them like along any others.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import asyncpg
import numpy as np
from numpy.typing import NDArray

from benchmarks.rig.walks import user
from engine.ids import new_packet_number
from engine.ledger.chain import Counts, batch_hash, rows_digest, transfer_hash
from engine.ledger.claim_rows import COLUMNS, body, claim_rows
from engine.packets.split import commitment, split
from engine.records import SplitKind

LANE = 1
"""The lane of the past. Everything else of a benchmark is in lane 0."""
EPOCH = "past"
_SENDER = "sender of the past"
_SHARES = 1_000
_PACKETS_PER_BATCH = 4
_TERMS = (SplitKind.LUCKY, _SHARES * 1_000, _SHARES, 1, 20_000)
_BEGAN_MS = 1_700_000_000_000
_PACKET_MS = 500
"""Between two packets: thirty million entries are the past of some hours, or of a year of a smaller installation."""
_COPIED_BATCHES = 25


@dataclass(slots=True)
class _Past:
    """What was made so far. ``received_fen``: by user. ``sends``: of each packet, its number and its payment's time."""

    users: int
    first_wallet: int
    position: int = 0
    hash: bytes | None = None
    packets: list[tuple[object, ...]] = field(default_factory=list)
    batches: list[tuple[object, ...]] = field(default_factory=list)
    received_fen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    chance: random.Random = field(default_factory=lambda: random.Random(88))

    def batch(self) -> bytes:
        """The rows of the next packets' claims, as the persister copies them."""
        parts, before = [], self.position
        for _ in range(_PACKETS_PER_BATCH):
            parts.append(self._packet())
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        rows = claim_rows(columns)
        counts = Counts(opened=len(parts), claims=len(parts) * _SHARES, closed=0, refunds=0, quarantined=0)
        digest = rows_digest([body(rows)], [], [])
        self.hash = batch_hash(self.hash, (LANE, self.position, before), counts, digest)
        self.batches.append((LANE, self.position, before, *counts, self.hash))
        return rows

    def _packet(self) -> dict[str, NDArray[np.int64]]:
        """One packet's opening and claims: the columns of its rows."""
        number, seed = new_packet_number(LANE), self.chance.randbytes(32)
        amounts_fen, at_ms = split(*_TERMS, seed), _BEGAN_MS + len(self.packets) * _PACKET_MS
        # Users are met in the order of a walk with a step that has no divisor in common with their number.
        hands = (np.arange(_SHARES, dtype=np.int64) + len(self.packets) * _SHARES) * 7_919 % self.users
        self.received_fen[hands] += amounts_fen
        self.packets.append(
            (
                int(number),
                _SENDER,
                *_terms_row(),
                seed,
                commitment(number, *_TERMS, seed),
                at_ms - 1,
                at_ms + 86_400_000,
            )
            + ("exhausted", 0, 0, at_ms, at_ms + 1_000)
        )
        first = self.position + 2  # after the opening
        self.position += 1 + _SHARES
        return {
            "from_account": np.full(_SHARES, int(number), dtype=np.int64),
            "to_account": self.first_wallet + hands,
            "amount_fen": amounts_fen,
            "at_ms": np.full(_SHARES, at_ms, dtype=np.int64),
            "slot": np.arange(_SHARES, dtype=np.int64),
            "position": np.arange(first, first + _SHARES, dtype=np.int64),
        }


def _terms_row() -> tuple[object, ...]:
    kind, total_fen, count, min_fen, max_fen = _TERMS
    return (kind.value, total_fen, count, min_fen, max_fen, "", [])


_PACKET_COLUMNS = (
    *("packet_id", "sender", "split", "total_fen", "count", "min_fen", "max_fen", "greeting", "recipients", "seed"),
    *("commitment", "created_at_ms", "expires_at_ms", "state", "remaining_count", "remaining_fen", "ended_at_ms"),
    "settled_at_ms",
)
_BATCH_COLUMNS = (
    *("lane", "position", "position_before", "opened", "claims", "closed", "refunds", "quarantined", "hash"),
)


async def add(database_url: str, entries: int, users: int, say: Callable[[str], None]) -> int:
    """Give a ledger a past, in lane LANE, of so many claims by the first ``users``. Returns the lane's position.

    Nobody else may use the database meanwhile. ``entries`` is rounded up to whole batches.
    """
    connection = await asyncpg.connect(database_url, command_timeout=3_600)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
            past = _Past(users=users, first_wallet=0)
            sender, past.first_wallet = await _wallets(connection, users)
            past.received_fen = np.zeros(users, dtype=np.int64)
            indexes = await _drop_indexes(connection)
            size = _SHARES * _PACKETS_PER_BATCH
            left = -(-entries // size)
            while left > 0:
                few = min(left, _COPIED_BATCHES)
                for rows in [past.batch() for _ in range(few)]:
                    await connection.copy_to_table("transfers", source=_once(rows), columns=COLUMNS, format="binary")
                left -= few
                if len(past.batches) % 500 < _COPIED_BATCHES:
                    say(f"{len(past.packets) * _SHARES:,} entries of the past")
            await _book(connection, past, sender)
            for index in indexes:
                await connection.execute(index)
        await connection.execute("VACUUM (ANALYZE, FREEZE)")
    finally:
        await connection.close()
    return past.position


async def _once(rows: bytes) -> "Iterator[bytes]":  # type: ignore[misc]
    yield rows


async def _wallets(connection: asyncpg.Connection, users: int) -> tuple[int, int]:
    """The sender's wallet and the first of the users' wallets: theirs follow each other."""
    await connection.execute("SELECT setval('wallet_ids', $1 + nextval('wallet_ids'))", users + 1)
    last = await connection.fetchval("SELECT last_value FROM wallet_ids")
    first = last - users
    rows = [(first - 1, "wallet", _SENDER), *((first + hand, "wallet", user(hand, users)) for hand in range(users))]
    await connection.copy_records_to_table("accounts", records=rows, columns=("account_id", "kind", "owner"))
    return first - 1, first


async def _drop_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drop the indexes of ``transfers`` but for the primary key. Returns the statements that make them again."""
    rows = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index"
        " WHERE indrelid = 'transfers'::regclass AND NOT indisprimary"
    )
    for row in rows:
        await connection.execute(f"DROP INDEX {row['name']}")
    return [row["definition"].replace(" ON ONLY ", " ON ") for row in rows]


async def _book(connection: asyncpg.Connection, past: _Past, sender: int) -> None:
    """Everything but the claims: the deposit and the sends with their hashes, balances, packets, batches, the lane."""
    total_fen = len(past.packets) * _TERMS[1]
    await connection.copy_records_to_table("packets", records=past.packets, columns=_PACKET_COLUMNS)
    await connection.copy_records_to_table("batches", records=past.batches, columns=_BATCH_COLUMNS)
    custody = [(packet[0], "custody") for packet in past.packets]
    await connection.copy_records_to_table("accounts", records=custody, columns=("account_id", "kind"))
    await connection.execute(
        "UPDATE accounts SET balance_fen = balance_fen + fen FROM unnest($1::bigint[]) WITH ORDINALITY AS received (fen, n)"
        " WHERE account_id = $2 + n - 1",
        past.received_fen.tolist(),
        past.first_wallet,
    )
    number = await connection.fetchval(
        "SELECT setval(pg_get_serial_sequence('transfers', 'transfer_id'), last + $1) - $1"
        " FROM (SELECT max(transfer_id) AS last FROM transfers) AS numbered",
        len(past.packets) + 1,
    )
    bank = await connection.fetchval("SELECT hash FROM accounts WHERE account_id = 1")
    moves = [("deposit", 1, sender, total_fen, _BEGAN_MS - 2)]
    moves += [("send", sender, int(str(packet[0])), _TERMS[1], int(str(packet[11]))) for packet in past.packets]
    entries, hashes, heads = [], [], {1: bank, sender: None}
    for offset, move in enumerate(moves, start=1):
        heads[move[1]] = transfer_hash(heads[move[1]], move)
        entries.append((number + offset, *move))
        hashes.append((number + offset, heads[move[1]]))
    columns = ("transfer_id", "kind", "from_account", "to_account", "amount_fen", "at_ms")
    await connection.copy_records_to_table("transfers", records=entries, columns=columns)
    await connection.copy_records_to_table("transfer_hashes", records=hashes, columns=("transfer_id", "hash"))
    await connection.execute(
        "UPDATE accounts SET balance_fen = balance_fen - $1, hash = $2 WHERE account_id = 1", total_fen, heads[1]
    )
    await connection.execute("UPDATE accounts SET hash = $2 WHERE account_id = $1", sender, heads[sender])
    await connection.execute(
        "INSERT INTO lanes (lane, epoch, begun, position, hash) VALUES ($1, $2, TRUE, $3, $4)",
        LANE,
        EPOCH,
        past.position,
        past.hash,
    )
