"""A standby takes the primary's place without its last commits: what Redis still has is applied once more."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from engine.auditing.audit import audit
from engine.doctor.doctor import examine
from engine.doctor.lines import Level, Line
from engine.engine import Engine
from engine.persisting.tail import SQL
from engine.records import Ack, ClaimResult, Outcome
from engine.settings import Settings
from tests.support.lost_lanes import amounts_in_ledger, assert_in_order
from tests.support.scenes import changed, persisting, positions, send_in
from tests.support.standby import Pair, primary_and_standby, subscriber
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

Answered = dict[tuple[str, str], int]
USERS = 300


@pytest.fixture
async def pair(quick_path: Path) -> AsyncIterator[Pair]:
    async with primary_and_standby(quick_path) as pair:
        yield pair


@pytest.fixture
def settings(settings: Settings, pair: Pair) -> Settings:
    return changed(settings, database_url=pair.url, ack=Ack.LEDGER, standbys=1, lanes=2)


async def claimed(engine: Engine, packets: list[str], first: int, last: int) -> Answered:
    """What so many users were told, whom the ledger's commit was waited for."""
    found: Answered = {}
    asked = [(packet_id, f"user{number}") for number in range(first, last) for packet_id in packets]
    for (packet_id, user), answer in zip(asked, await engine.claims.claim_many(asked), strict=True):
        assert isinstance(answer, ClaimResult)
        assert answer.outcome is Outcome.CLAIMED
        found[packet_id, user] = answer.amount_fen
    return found


async def ledger_has(url: str) -> dict[int, int]:
    """Lane -> how far the ledger at this address is."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT lane, position FROM lanes")
    finally:
        await connection.close()
    return {row["lane"]: row["position"] for row in rows}


async def applied(engine: Engine) -> dict[int, int]:
    """Lane -> how far Redis believes that the ledger is: it keeps what comes after."""
    found = {}
    for lane in engine.lanes:
        status = await engine.store.lane_status(lane)
        assert status is not None
        found[lane] = status.applied
    return found


async def test_the_doctor_counts_the_standbys(pair: Pair, settings: Settings) -> None:
    async def line(**changes: object) -> Line:
        found = await examine(changed(settings, **changes), is_embedded=False)
        return next(line for line in found if line.name == "postgres standbys")

    async with Engine.open(settings):
        assert (await line()).level is Level.OK
        assert (await line(standbys=2)).found == "1 of 2 standbys follow (HONGBAO_STANDBYS)"
        connection = await asyncpg.connect(pair.primary.url)
        await connection.execute("CREATE USER hidden_from IN ROLE pg_read_all_data, pg_write_all_data")
        await connection.close()
        hidden = await line(database_url=pair.url.replace("postgres@", "hidden_from@"))
        assert (hidden.level, hidden.found) == (Level.PROBLEM, "0 of 1 standbys follow (HONGBAO_STANDBYS), 1 hidden")


async def test_who_only_reads_changes_is_no_standby(pair: Pair, settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        with subscriber(pair.primary):

            async def follows() -> bool:
                told = "SELECT count(flush_lsn) FROM pg_stat_replication WHERE application_name = 'pg_recvlogical'"
                return bool(await engine.pool.fetchval(told))

            await wait_until(follows, timeout_s=30, what="the subscriber following")
            lines = await examine(changed(settings, standbys=2), is_embedded=False)
            found = next(line for line in lines if line.name == "postgres standbys")
            assert found.found == "1 of 2 standbys follow (HONGBAO_STANDBYS)"
            assert await engine.pool.fetchval(SQL["flushed"], 1) is not None
            assert await engine.pool.fetchval(SQL["flushed"], 2) is None


async def test_no_acknowledged_claim_is_lost_with_the_commits_that_a_standby_lacks(
    pair: Pair, settings: Settings
) -> None:
    async with Engine.open(settings) as engine, persisting(settings):
        packets = [await send_in(engine, lane, count=USERS, total_fen=USERS * 10) for lane in (0, 1)]
        answered = await claimed(engine, packets, 0, 100)

        async def all_is_dropped() -> bool:
            return await applied(engine) == await positions(engine)

        await wait_until(all_is_dropped, what="Redis dropping what the standby has")
        before = await positions(engine)
        pair.cut_off()
        answered |= await claimed(engine, packets, 100, 200)  # users whom the standby does not know
        assert await ledger_has(pair.primary.url) == await positions(engine)
        assert await applied(engine) == before  # nothing is dropped that the standby lacks
        await pair.fail_over()
        assert await ledger_has(pair.standby.url) == before

        async def is_caught_up() -> bool:
            try:
                return await ledger_has(pair.standby.url) == await positions(engine)
            except OSError:
                return False

        await wait_until(is_caught_up, timeout_s=60, what="the new primary being caught up")

        async def serves() -> bool:
            return await engine.ready() == []

        await wait_until(serves, timeout_s=60, what="the process being ready")
        answered |= await claimed(engine, packets, 200, 250)
        assert await amounts_in_ledger(engine) == answered
        await assert_in_order(engine)
        findings = await audit(engine.pool, engine.store, engine.stream)
        assert [finding for finding in findings if not finding.holds] == []
