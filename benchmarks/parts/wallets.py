"""How long a page of a wallet's entries takes if the wallet has a hundred, ten thousand or a million of them."""

import statistics
import time
from collections.abc import AsyncIterator

import asyncpg
import numpy as np

from benchmarks.rig.bench import Bench
from benchmarks.rig.runs import BooksWrongError, Run
from benchmarks.rig.stage import Stage, wait
from engine.ledger import schema
from engine.ledger.claim_rows import COLUMNS, claim_rows
from engine.ledger.database import database_pool
from engine.wallets.wallets import Wallets

ENTRIES = (100, 10_000, 1_000_000)
_READS, _LIMIT = 500, 50
_FIRST_PACKET, _FIRST_WALLET = 1_000_000_000_000_000_001, 1_000


def wallets(bench: Bench) -> None:
    """Fill a ledger once, and read each wallet in each round: the newest page, and one from the middle."""
    database = bench.stage.create_database()
    try:
        url = bench.stage.database_url(database)
        wait(schema.migrate(url))
        wait(_fill(url))
        for number in range(1, bench.plan.costly_rounds + 1):
            for entries in ENTRIES if number % 2 else ENTRIES[::-1]:
                bench.keep(wait(_run(bench.stage, database, entries, number)))
    finally:
        bench.stage.drop_database(database)


def workload(entries: int) -> str:
    """The name of the runs with so many entries in the wallet."""
    return f"wallet of {entries}"


def _owner(entries: int) -> str:
    return f"owner of {entries}"


async def _fill(url: str) -> None:
    """Each wallet's claims, each out of a packet of its own. Nobody audits these books: nothing was paid in."""
    connection = await asyncpg.connect(url)
    try:
        first = _FIRST_PACKET
        for number, entries in enumerate(ENTRIES):
            wallet = _FIRST_WALLET + number
            await connection.execute(
                "INSERT INTO accounts (account_id, kind, owner) VALUES ($1, 'wallet', $2)", wallet, _owner(entries)
            )
            rows = claim_rows(
                {
                    "from_account": np.arange(first, first + entries),
                    "to_account": np.full(entries, wallet),
                    "amount_fen": np.full(entries, 100),
                    "at_ms": np.arange(entries) + 1_700_000_000_000,
                    "slot": np.zeros(entries, dtype=np.int64),
                    "position": np.arange(1, entries + 1),
                }
            )
            await connection.copy_to_table("transfers", source=_once(rows), columns=COLUMNS, format="binary")
            first += entries
        await connection.execute("VACUUM ANALYZE transfers, accounts")
    finally:
        await connection.close()


async def _once(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


async def _run(stage: Stage, database: str, entries: int, number: int) -> Run:
    settings = stage.settings(database)
    pool = await database_pool(settings.database_url or "", connections_max=1, timeout_s=settings.database_timeout_s)
    try:
        read, owner = Wallets(pool, settings), _owner(entries)
        newest = await read.transfers(owner, after=None, limit=_LIMIT)
        middle = str(int(newest.transfers[0].transfer_id) - entries // 2 + 1)
        took_ms = {name: await _page_ms(read, owner, after) for name, after in (("newest", None), ("middle", middle))}
    finally:
        await pool.close()
    about = {"workload": workload(entries), "server": "hongbao", "round": number, "connections": 0}
    return {**about, "answers_per_s": 1_000 / took_ms["newest"], "page_ms": took_ms, "void": None}


async def _page_ms(read: Wallets, owner: str, after: str | None) -> float:
    """The median of many reads of one page. Raises BooksWrongError if it is not full."""
    took_ms = []
    for _ in range(_READS):
        began_s = time.perf_counter()
        page = await read.transfers(owner, after=after, limit=_LIMIT)
        took_ms.append((time.perf_counter() - began_s) * 1_000)
        if len(page.transfers) < _LIMIT:
            raise BooksWrongError(f"a page of {owner} has {len(page.transfers)} entries")
    return statistics.median(took_ms)
