"""``python -m benchmarks.parts.postgres``: what each part of a claim's row costs Postgres.

The same batches go into the same table with one part left out or changed: an index, the checks, the log. What a row
costs then, beside what it costs as it is in the same round, says what the part costs: CPU time of all of Postgres. No
part is left out in the product: this tells where work would pay.
"""

import argparse
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg
import numpy as np
from rich.console import Console

from benchmarks.rig.cpu import Meter
from benchmarks.rig.stage import Stage, stage, wait
from engine.ledger import schema
from engine.ledger.claim_rows import COLUMNS, claim_rows
from engine.ledger.posting import PLANNED, SQL
from engine.observability.terminal import print_anything

_VOLUME = "transfers_10"
_FIRST_PACKET, _FIRST_WALLET = 1_000_000_000_000_000_001, 1_000
_HANDS = 100
"""Claims of a packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """``without``: statements that leave it out, before the batches. ``table``: where they go."""

    name: str
    without: tuple[str, ...] = ()
    table: str = "transfers"


_CHECKS = """
DO $$ DECLARE checked RECORD; BEGIN
    FOR checked IN SELECT conname FROM pg_constraint WHERE conrelid = 'transfers'::regclass AND contype = 'c' LOOP
        EXECUTE format('ALTER TABLE transfers DROP CONSTRAINT %I', checked.conname);
    END LOOP;
END $$
"""
_PRIMARY = f"ALTER TABLE {_VOLUME} DROP CONSTRAINT transfers_pkey"
_SLOT, _USER, _IN = (f"DROP INDEX {name}" for name in ("claim_once_per_slot", "claim_once_per_user", "transfers_in"))
AS_IS = Part(name="as it is")
PARTS = (
    AS_IS,
    Part(name="without the primary key", without=(_PRIMARY,)),
    Part(name="without the index of (packet, slot)", without=(_SLOT,)),
    Part(name="without the index of (packet, user)", without=(_USER,)),
    Part(name="without the index of (wallet, number)", without=(_IN,)),
    Part(name="without any of the four", without=(_PRIMARY, _SLOT, _USER, _IN)),
    Part(name="without the checks of the table", without=(_CHECKS,)),
    Part(name="straight into the volume", table=_VOLUME),
    Part(name="without the log (unlogged)", without=(f"ALTER TABLE {_VOLUME} SET UNLOGGED",)),
    Part(name="numbers of the sequence 64 at once", without=("ALTER SEQUENCE transfer_ids CACHE 64",)),
    Part(name="wal_compression = on", without=("SET wal_compression = on",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """``wallets``: as many users win again and again."""

    rounds: int = 5
    batches: int = 4
    rows: int = 100_000
    wallets: int = 50_000


def rows_of(sizes: Sizes, batch: int) -> bytes:
    """A batch's rows: packets of 100 shares, each given to 100 wallets that lie anywhere."""
    packets = np.arange(batch * sizes.rows // _HANDS, (batch + 1) * sizes.rows // _HANDS) * 1_000 + _FIRST_PACKET
    chance = np.random.default_rng(batch)
    wallets = [chance.choice(sizes.wallets, _HANDS, replace=False) for _ in packets]
    first = batch * sizes.rows
    return claim_rows(
        {
            "from_account": np.repeat(packets, _HANDS),
            "to_account": np.concatenate(wallets) + _FIRST_WALLET,
            "amount_fen": np.full(sizes.rows, 100),
            "at_ms": np.full(sizes.rows, 1_800_000_000_000 + batch),
            "slot": np.tile(np.arange(_HANDS), len(packets)),
            "position": np.arange(first + 1, first + sizes.rows + 1),
        }
    )


async def leave_out(connection: asyncpg.Connection, part: Part) -> None:
    """Run the part's statements in an empty, migrated database."""
    for statement in part.without:
        await connection.execute(statement)


async def _copied(url: str, part: Part, sizes: Sizes, process_id: int) -> float:
    """Microseconds of Postgres's CPU per row."""
    connection = await asyncpg.connect(url, server_settings=PLANNED)
    try:
        await leave_out(connection, part)
        meter = Meter({"postgres": [process_id]})
        for batch in range(sizes.batches):
            await connection.copy_to_table(
                part.table, source=_once(rows_of(sizes, batch)), columns=COLUMNS, format="binary"
            )
        await connection.execute("CHECKPOINT")
        return meter.stop()["postgres"] / (sizes.rows * sizes.batches) * 1e6
    finally:
        await connection.close()


async def _moved(url: str, sizes: Sizes, process_id: int) -> tuple[float, float]:
    """Microseconds of CPU per wallet whose balance moves, and the part of the updates that touched no index (HOT)."""
    connection = await asyncpg.connect(url, server_settings=PLANNED)
    try:
        last = _FIRST_WALLET + sizes.wallets - 1
        await connection.execute(
            "INSERT INTO accounts (account_id, kind, owner) "
            f"SELECT number, 'wallet', 'user' || number FROM generate_series({_FIRST_WALLET}, {last}) AS number"
        )
        wallets = ",".join(str(number) for number in range(_FIRST_WALLET, last + 1))
        deltas = ",".join(["100"] * sizes.wallets)
        meter = Meter({"postgres": [process_id]})
        for _ in range(sizes.batches):
            await connection.execute(SQL["move_balances"], f"{{{wallets}}}", f"{{{deltas}}}")
        used_us = meter.stop()["postgres"] / (sizes.wallets * sizes.batches) * 1e6
        await connection.execute("SELECT pg_stat_force_next_flush()")
        row = await connection.fetchrow(
            "SELECT n_tup_hot_upd::float8 / greatest(n_tup_upd, 1) AS hot FROM pg_stat_user_tables "
            "WHERE relname = 'accounts'"
        )
        assert row is not None
        return used_us, row["hot"]
    finally:
        await connection.close()


async def _once(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


def _round(prepared: Stage, template: str, parts: Sequence[Part], sizes: Sizes) -> dict[str, float]:
    """Each part left out once, in a database of its own. By the part's name, microseconds per row."""
    used = {}
    for part in parts:
        database = prepared.create_database(template)
        try:
            url = prepared.database_url(database)
            used[part.name] = wait(_copied(url, part, sizes, prepared.postgres_process.pid))
        finally:
            prepared.drop_database(database)
    return used


def lines(rounds: Sequence[dict[str, float]]) -> list[str]:
    """What a row costs as it is, then by how much that changes with each part: medians over the rounds."""
    median_us = statistics.median(used[AS_IS.name] for used in rounds)
    told = [f"{'a row, as it is':<40} {median_us:>6.2f} us of CPU"]
    for name in rounds[0]:
        if name != AS_IS.name:
            changed = [used[name] - used[AS_IS.name] for used in rounds]
            told.append(
                f"{name:<40} {statistics.median(changed):>+6.2f} us ({min(changed):+.2f} to {max(changed):+.2f})"
            )
    return told


def measure(sizes: Sizes, console: Console) -> list[dict[str, float]]:
    """On servers of its own."""
    with stage() as prepared:
        template = prepared.create_database()
        wait(schema.migrate(prepared.database_url(template)))
        rounds = []
        for number in range(sizes.rounds):
            rounds.append(_round(prepared, template, PARTS if number % 2 else PARTS[::-1], sizes))
            console.print(f"round {number + 1} of {sizes.rounds}", markup=False)
        moved_us, hot = wait(_moved(prepared.database_url(template), sizes, prepared.postgres_process.pid))
    for line in lines([{part.name: used[part.name] for part in PARTS} for used in rounds]):
        console.print(line, markup=False)
    console.print(
        f"{'a balance':<40} {moved_us:>6.2f} us of CPU; {hot:.0%} of the updates touch no index", markup=False
    )
    return rounds


def main(arguments: list[str]) -> int:
    """Returns 0, or 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts.postgres", description=__doc__)
    told = {"rounds": "of all parts", "batches": "of each part", "rows": "of each batch", "wallets": "of users who win"}
    for name, what in told.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(Sizes(), name), help=f"{what} (%(default)s)")
    print_anything()
    console = Console(highlight=False, soft_wrap=True)
    try:
        measure(Sizes(**vars(parser.parse_args(arguments))), console)
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
