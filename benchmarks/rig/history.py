"""A ledger with a past: as many old claims as wanted, in packets that ended long ago, with hashes and balances.

They are written as the persister would have written them, but without Redis and without indexes, which are made
afterwards. So tens of millions of entries take minutes. The audit walks along them like along any others.
"""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import asyncpg
import numpy as np
from numpy.typing import NDArray

from benchmarks.rig.walks import user
from engine.ids import FIRST_VOLUME, new_packet_number
from engine.ledger import volumes
from engine.ledger.chain import Counts, batch_hash, rows_digest, transfer_hash
from engine.ledger.claim_rows import COLUMNS, body, claim_rows
from engine.packets.split import commitment, split
from engine.records import SplitKind

LANE = 1
"""The lane of the past. Everything else of a benchmark is in lane 0."""
EPOCH = "past"
_SENDER = "sender of the past"
_SHARES = 1_000
_TOTAL_FEN = _SHARES * 1_000
_TERMS = (SplitKind.LUCKY, _TOTAL_FEN, _SHARES, 1, 20_000)
_PACKETS_PER_BATCH = 4
_BATCHES_PER_LINE = 500
_BEGAN_MS = 1_700_000_000_000
_PACKET_MS = 500
_STEP = 7_919
"""Users are met in steps of this size. It has no divisor in common with their number."""
_PACKET_COLUMNS = (
    *("packet_id", "sender", "split", "total_fen", "count", "min_fen", "max_fen", "greeting", "recipients", "seed"),
    *("commitment", "created_at_ms", "expires_at_ms", "state", "remaining_count", "remaining_fen", "ended_at_ms"),
    "settled_at_ms",
)
_BATCH_COLUMNS = (
    *("lane", "position", "position_before", "opened", "claims", "closed", "refunds", "quarantined", "hash"),
)


@dataclass(frozen=True, slots=True)
class _Packet:
    number: int
    seed: bytes
    commitment: bytes
    at_ms: int

    def row(self) -> tuple[object, ...]:
        """Its row, long after its end."""
        kind, *terms = _TERMS
        ended = ("exhausted", 0, 0, self.at_ms, self.at_ms + 1_000)
        dates = (self.at_ms - 1, self.at_ms + 86_400_000)
        return (self.number, _SENDER, kind.value, *terms, "", [], self.seed, self.commitment, *dates, *ended)


@dataclass(slots=True, kw_only=True)
class _Past:
    """What was made so far. ``received_fen``: by user. ``per_volume``: entries in each of the ledger's volumes."""

    users: int
    first_wallet: int
    per_volume: int
    received_fen: NDArray[np.int64]
    position: int = 0
    hash: bytes | None = None
    packets: list[_Packet] = field(default_factory=list)
    batches: list[tuple[object, ...]] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(88))

    def batch(self) -> bytes:
        """The next packets' claims, as the persister copies them in one transaction."""
        before, parts = self.position, [self._packet() for _ in range(_PACKETS_PER_BATCH)]
        rows = claim_rows({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        counts = Counts(opened=len(parts), claims=len(parts) * _SHARES, closed=0, refunds=0, quarantined=0)
        digest = rows_digest([body(rows)], [], [])
        self.hash = batch_hash(self.hash, (LANE, self.position, before), counts, digest)
        self.batches.append((LANE, self.position, before, *counts, self.hash))
        return rows

    def _packet(self) -> dict[str, NDArray[np.int64]]:
        """One packet's claims: the columns of its rows."""
        made = len(self.packets) * _SHARES
        number, seed = new_packet_number(LANE, FIRST_VOLUME + made // self.per_volume), self.chance.randbytes(32)
        at_ms, amounts_fen = _BEGAN_MS + len(self.packets) * _PACKET_MS, split(*_TERMS, seed)
        hands = (np.arange(_SHARES, dtype=np.int64) + made) * _STEP % self.users
        self.received_fen[hands] += amounts_fen
        self.packets.append(_Packet(int(number), seed, commitment(number, *_TERMS, seed), at_ms))
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


async def add(database_url: str, entries: int, users: int, say: Callable[[str], None]) -> int:
    """Give a new ledger a past of so many claims by the first ``users``, in lane LANE. Returns the lane's position.

    Its volumes are as large as Postgres's memory makes them. Nobody else may use the database meanwhile. ``entries`` is
    rounded up to whole batches.
    """
    connection = await asyncpg.connect(database_url, command_timeout=3_600)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
            sender, first_wallet = await _wallets(connection, users)
            past = _Past(
                users=users,
                first_wallet=first_wallet,
                per_volume=(await volumes.filled(connection)).fitting // _SHARES * _SHARES,
                received_fen=np.zeros(users, dtype=np.int64),
            )
            for _ in range((entries - 1) // past.per_volume):
                await connection.execute("SELECT begin_volume(-1000)")
            indexes = await _drop_indexes(connection)
            for number in range(-(-entries // (_SHARES * _PACKETS_PER_BATCH))):
                rows = past.batch()
                await connection.copy_to_table("transfers", source=_once(rows), columns=COLUMNS, format="binary")
                if number % _BATCHES_PER_LINE == _BATCHES_PER_LINE - 1:
                    say(f"{len(past.packets) * _SHARES:,} entries of the past")
            await _book(connection, past, sender)
            for index in indexes:
                await connection.execute(index)
        await connection.execute("VACUUM (ANALYZE, FREEZE)")
        for _ in range(2):  # the first notes who must have ended
            await connection.execute("SELECT close_volumes()")
    finally:
        await connection.close()
    return past.position


async def _once(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


async def _wallets(connection: asyncpg.Connection, users: int) -> tuple[int, int]:
    """The sender's wallet, and the first of the users' wallets, which follow each other."""
    await connection.execute("SELECT setval('wallet_ids', $1 + nextval('wallet_ids'))", users + 1)
    last = await connection.fetchval("SELECT last_value FROM wallet_ids")
    first = last - users
    rows = [(first - 1, "wallet", _SENDER), *((first + hand, "wallet", user(hand, users)) for hand in range(users))]
    await connection.copy_records_to_table("accounts", records=rows, columns=("account_id", "kind", "owner"))
    return first - 1, first


async def _drop_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drop the indexes of all volumes but for their primary keys. Returns the statements that make them again."""
    rows = await connection.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition"
        " FROM pg_index JOIN pg_partition_tree('transfers') ON relid = indrelid WHERE NOT indisprimary"
    )
    for row in rows:
        await connection.execute(f"DROP INDEX {row['name']}")
    return [row["definition"] for row in rows]


async def _book(connection: asyncpg.Connection, past: _Past, sender: int) -> None:
    """Everything but the claims: the deposit and the sends with their hashes, balances, packets, batches, the lane."""
    total_fen = len(past.packets) * _TOTAL_FEN
    packets = [packet.row() for packet in past.packets]
    await connection.copy_records_to_table("packets", records=packets, columns=_PACKET_COLUMNS)
    await connection.copy_records_to_table("batches", records=past.batches, columns=_BATCH_COLUMNS)
    custody = [(packet.number, "custody") for packet in past.packets]
    await connection.copy_records_to_table("accounts", records=custody, columns=("account_id", "kind"))
    await connection.execute(
        "UPDATE accounts SET balance_fen = fen FROM unnest($1::bigint[]) WITH ORDINALITY AS received (fen, number)"
        " WHERE account_id = $2 + number - 1",
        past.received_fen.tolist(),
        past.first_wallet,
    )
    moves = [("deposit", 1, sender, total_fen, _BEGAN_MS - 2)]
    moves += [("send", sender, packet.number, _TOTAL_FEN, packet.at_ms - 1) for packet in past.packets]
    numbers = await connection.fetch("SELECT nextval('transfer_ids') AS number FROM generate_series(1, $1)", len(moves))
    entries, hashes, heads = [], [], dict[int, bytes]()
    for row, move in zip(numbers, moves, strict=True):
        heads[move[1]] = transfer_hash(heads.get(move[1]), move)
        entries.append((row["number"], *move))
        hashes.append((row["number"], heads[move[1]]))
    columns = ("transfer_id", "kind", "from_account", "to_account", "amount_fen", "at_ms")
    await connection.copy_records_to_table("transfers", records=entries, columns=columns)
    await connection.copy_records_to_table("transfer_hashes", records=hashes, columns=("transfer_id", "hash"))
    paid = "UPDATE accounts SET balance_fen = balance_fen - $2, hash = $3 WHERE account_id = $1"
    await connection.execute(paid, 1, total_fen, heads[1])
    await connection.execute(paid, sender, 0, heads[sender])
    lane = "INSERT INTO lanes (lane, epoch, begun, position, hash) VALUES ($1, $2, TRUE, $3, $4)"
    await connection.execute(lane, LANE, EPOCH, past.position, past.hash)
