"""How fast operators' lists are on a large ledger: ``python -m benchmarks.lookups [--entries 10000000]``.

It fills a ledger of its own by SQL, and reads each list many times as the console does: the first page, and one far in.
It prints the 50th and the 95th percentile, and which large tables a statement read whole. There is no Redis: what the
lists ask of it does not depend on the ledger's size.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from engine.auditing import day_movements
from engine.auditing.runs import Runs
from engine.backoffice.packet_file import SQL as PACKET_FILE
from engine.calendar.china_time import begin_ms, today
from engine.disputes.filing import DisputeState
from engine.disputes.lists import DisputeFilter, DisputeLists
from engine.embedded import servers
from engine.embedded.servers import EmbeddedPostgres
from engine.ledger import schema
from engine.ledger.database import Connection
from engine.packets.lists import SQL as REFUNDS
from engine.packets.lists import PacketFilter, PacketLists
from engine.packets.refunds import COUNTED_MAX
from engine.persisting.quarantine_lists import QuarantineFilter, QuarantineLists
from engine.records import FreezeScope, PacketState
from engine.risk.alert_desk import AlertDesk, AlertFilter
from engine.risk.freeze_lists import FreezeFilter, FreezeLists, FrozenBy
from engine.wallets.users import Users
from engine.wallets.withdrawal_lists import WithdrawalFilter, WithdrawalLists
from engine.wallets.withdrawals import WithdrawalState

LARGE = ("packets", "transfers", "accounts", "freezes", "withdrawals", "disputes", "alerts", "quarantine")
LIMIT = 50
_SQL = Path(__file__).with_name("lookups.sql")
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_wal_size": "8GB"}
_SHARES = 8
_ENTRIES_A_PACKET = _SHARES + 2
_FIRST = 10 * 10**17
_YEAR_MS = 365 * 86_400_000
Query = tuple[str, Sequence[Any]]


async def fill(connection: Connection, entries: int) -> None:
    """Some millions of entries of a year: packets with their claims and refunds, and what operators have to do."""
    packets = entries // _ENTRIES_A_PACKET
    users = max(100, packets // 5)
    now_ms = int(time.time() * 1_000)
    step_ms = max(1, _YEAR_MS // packets)
    await connection.execute("SET synchronous_commit = off; SET session_replication_role = replica;")
    numbers = (packets, users, now_ms, step_ms)
    await connection.execute(_filled(_SQL.read_text(encoding="utf-8"), *numbers))
    await connection.execute("SET session_replication_role = DEFAULT")
    await connection.execute("VACUUM ANALYZE")


def _filled(text: str, packets: int, users: int, now_ms: int, step_ms: int) -> str:
    values = {"packets": packets, "users": users, "now_ms": now_ms, "step_ms": step_ms, "first": _FIRST}
    for name, value in values.items():
        text = text.replace(f"${name}", str(value))
    return text


@dataclass(slots=True)
class Recorded:
    """A pool that notes each query, for EXPLAIN afterwards."""

    pool: asyncpg.Pool
    queries: list[Query] = field(default_factory=list)

    async def fetch(self, query: str, *values: Any) -> Any:  # noqa: ANN401  # as asyncpg's
        """Note it, and ask."""
        self.queries.append((query, values))
        return await self.pool.fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> Any:  # noqa: ANN401  # as asyncpg's
        """Note it, and ask."""
        self.queries.append((query, values))
        return await self.pool.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:  # noqa: ANN401  # as asyncpg's
        """Note it, and ask."""
        self.queries.append((query, values))
        return await self.pool.fetchval(query, *values)

    def acquire(self) -> Any:  # noqa: ANN401  # as asyncpg's
        """A connection, of which nothing is noted."""
        return self.pool.acquire()


def lists_on(pool: Any) -> dict[str, Callable[[str | None], Awaitable[Any]]]:  # noqa: ANN401  # a pool, or one recorded
    """Each list, by what is asked of it, as a function of the cursor."""
    packets, alerts, disputes = PacketLists(pool), AlertDesk(pool), DisputeLists(pool)
    freezes, withdrawals, quarantine = FreezeLists(pool), WithdrawalLists(pool), QuarantineLists(pool)
    found: dict[str, Callable[[str | None], Awaitable[Any]]] = {}

    def add(name: str, page: Callable[..., Awaitable[Any]], *wanted: object) -> None:
        found[name] = lambda after: page(*wanted, after=after, limit=LIMIT)

    add("packets", packets.page, PacketFilter())
    for state in (PacketState.OPEN, PacketState.EXHAUSTED, PacketState.EXPIRED, PacketState.RETRACTED):
        add(f"packets {state.value}", packets.page, PacketFilter(states=(state,)))
    add("packets of a sender", packets.page, PacketFilter(sender="user00000007"))
    add(
        "packets of a sender and state",
        packets.page,
        PacketFilter(sender="user00000007", states=(PacketState.EXPIRED,)),
    )
    add("packets of a label", packets.page, PacketFilter(label="label0004"))
    add("packets of an amount", packets.page, PacketFilter(least_fen=5_990, most_fen=5_999))
    month_ms = begin_ms(today() - timedelta(days=30))
    add("packets of a month", packets.page, PacketFilter(from_ms=month_ms - 30 * 86_400_000, before_ms=month_ms))
    found["labels"] = lambda after: packets.labels(prefix="", from_ms=month_ms, after=after, limit=LIMIT)
    add("users by prefix", Users(pool).page, "user0000")
    add("freezes", freezes.page, FreezeFilter())
    add("freezes by a rule", freezes.page, FreezeFilter(by=FrozenBy.RULE, scope=FreezeScope.ACCOUNT))
    add("freezes of a user", freezes.page, FreezeFilter(user_id="user00000020"))
    add("withdrawals", withdrawals.page, WithdrawalFilter())
    for withdrawal in WithdrawalState:
        add(f"withdrawals {withdrawal.value}", withdrawals.page, WithdrawalFilter(state=withdrawal))
    add("withdrawals of a user", withdrawals.page, WithdrawalFilter(user_id="user00000020"))
    add("disputes by deadline", disputes.page, DisputeFilter())
    add("disputes decided", disputes.page, DisputeFilter(state=None))
    add("disputes upheld", disputes.page, DisputeFilter(state=DisputeState.UPHELD))
    found["disputes of a user"] = lambda _: disputes.of_user("user00000020")
    found["disputes of a packet"] = lambda _: disputes.of_packet(str(_FIRST + 7))
    add("alerts", alerts.page, AlertFilter())
    add("alerts not acknowledged", alerts.page, AlertFilter(is_waiting=True))
    add("alerts of a user", alerts.page, AlertFilter(user_id="user00000020"))
    add("alerts of a kind", alerts.page, AlertFilter(kind="burst"))
    add("quarantine", quarantine.page, QuarantineFilter())
    add("quarantine of a packet", quarantine.page, QuarantineFilter(is_open=None, packet_id=str(_FIRST + 7)))
    found["refunds waiting"] = lambda after: pool.fetch(REFUNDS["refunds_waiting"], -1, 0, LIMIT)
    found["refunds counted"] = lambda after: pool.fetch(REFUNDS["refunds_count"], COUNTED_MAX)
    found["what waits"] = lambda _: _waiting(pool)
    found["today's sums"] = lambda _: day_movements.of_day(pool, today())
    found["open packets counted"] = lambda _: packets.open_count(COUNTED_MAX)
    found["reconciliations"] = lambda _: Runs(pool).days(before=today(), since=today() - timedelta(days=90), limit=100)
    found["a packet's entries"] = lambda _: pool.fetch(PACKET_FILE["entries"], _FIRST + 7 * 10**14 + 7)
    found["a packet's claims"] = lambda _: pool.fetch(PACKET_FILE["claims"], _FIRST + 7 * 10**14 + 7, -1, LIMIT)
    return found


async def _waiting(pool: Any) -> None:  # noqa: ANN401  # a pool, or one recorded
    await QuarantineLists(pool).totals(COUNTED_MAX)
    await DisputeLists(pool).counts(COUNTED_MAX)
    await AlertDesk(pool).waiting(COUNTED_MAX)
    await WithdrawalLists(pool).processing(COUNTED_MAX)
    await FreezeLists(pool).count(COUNTED_MAX)


async def read_whole(pool: asyncpg.Pool, queries: Sequence[Query]) -> set[str]:
    """The large tables that any of these queries reads from end to end."""
    found = set[str]()
    for query, values in queries:
        plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {query}", *values))
        found |= {name for name in LARGE if f"Seq Scan on {name}" in plan or f"Seq Scan on {name}_" in plan}
    return found


async def _measure(url: str, entries: int, times: int) -> None:
    planned = {"plan_cache_mode": "force_custom_plan"}  # as the console's pool for looks
    async with asyncpg.create_pool(url, min_size=1, max_size=1, server_settings=planned) as pool:
        async with pool.acquire() as connection:
            started_s = time.perf_counter()
            await fill(connection, entries)
        print(f"{entries:,} entries filled in {time.perf_counter() - started_s:.0f} s")
        started_s = time.perf_counter()
        while await day_movements.count_on(pool):
            pass
        print(f"all days counted in {time.perf_counter() - started_s:.0f} s")
        recorded = Recorded(pool)
        worst_ms = 0.0
        for name, page in lists_on(recorded).items():
            recorded.queries.clear()
            first = await page(None)
            after = getattr(first, "next", None)
            for _ in range(20):  # a page far in
                after = getattr(await page(after), "next", None) or after if after else None
            whole = await read_whole(pool, recorded.queries)
            took_ms = []
            for number in range(times):
                started_s = time.perf_counter()
                await page(after if number % 2 else None)
                took_ms.append((time.perf_counter() - started_s) * 1_000)
            p95_ms = statistics.quantiles(took_ms, n=20)[-1]
            worst_ms = max(worst_ms, p95_ms)
            print(
                f"{name:32} p50 {statistics.median(took_ms):7.1f} ms  p95 {p95_ms:7.1f} ms  {', '.join(sorted(whole))}"
            )
        print(f"worst p95: {worst_ms:.1f} ms")


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hongbao-lookups-") as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        with servers.hold(data_dir) as held:
            postgres = EmbeddedPostgres(held, options={**_FAST, "shared_buffers": "256MB"})
            postgres.start()
            try:
                asyncio.run(schema.migrate(postgres.url))
                asyncio.run(_measure(postgres.url, asked.entries, asked.times))
            finally:
                postgres.stop()


if __name__ == "__main__":
    main()
