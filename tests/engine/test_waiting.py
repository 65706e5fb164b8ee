"""What waits, as gauges: counted in the ledger, whoever should see to it."""

import time

from engine import waiting
from engine.engine import Engine
from engine.observability import metrics
from engine.settings import Settings
from tests.support.scenes import caught_up, persisting, send

_FILE = """
INSERT INTO disputes (kind, packet_id, complainant, counterparty, amount_fen, transaction_at_ms, evidence, filed_at_ms,
    earliest_at_ms, deadline_at_ms, earliest_days, deadline_days)
VALUES ('minor', $1, $2, 'bob', 100, 1, '{}', 1, 1, $3, 5, 15)
"""


async def gauges(engine: Engine) -> dict[str, float]:
    await waiting.measure(engine.pool)
    return {
        name: gauge._value.get()
        for name, gauge in {
            "open": metrics.DISPUTES_OPEN,
            "overdue": metrics.DISPUTES_OVERDUE,
            "refunds": metrics.REFUNDS_WAITING,
            "refunds_s": metrics.REFUNDS_WAITING_SECONDS,
            "withdrawals": metrics.WITHDRAWALS_PROCESSING,
            "withdrawals_s": metrics.WITHDRAWALS_PROCESSING_SECONDS,
            "approvals": metrics.APPROVALS_WAITING,
            "problems": metrics.AUDIT_RUN_PROBLEMS,
            "audited_s": metrics.AUDIT_RUN_ENDED,
            "differences": metrics.RECONCILIATION_RUN_DIFFERENCES,
            "reconciled_s": metrics.RECONCILIATION_RUN_ENDED,
        }.items()
    }


async def test_an_empty_ledger_waits_for_nothing(engine: Engine) -> None:
    assert set((await gauges(engine)).values()) == {0}


async def test_disputes_are_counted_until_they_are_decided(engine: Engine) -> None:
    now_ms = int(time.time() * 1_000)
    for number, deadline_at_ms in enumerate((now_ms - 1, now_ms + 60_000, now_ms + 60_000)):
        await engine.pool.execute(_FILE, number + 1, "alice", deadline_at_ms)
    found = await gauges(engine)
    assert (found["open"], found["overdue"]) == (3, 1)
    await engine.pool.execute(
        "UPDATE disputes SET state = 'rejected', decided_at_ms = 1, decided_by = 'root' WHERE packet_id = 1"
    )
    found = await gauges(engine)
    assert (found["open"], found["overdue"]) == (2, 0)


async def test_a_refund_waits_from_the_packets_end_until_its_custody_is_empty(
    engine: Engine, settings: Settings
) -> None:
    sent = await send(engine, total_fen=300, count=3)
    await engine.claims.claim(sent.packet_id, "bob")
    async with persisting(settings):
        await caught_up(engine)
    ended_at_ms = int(time.time() * 1_000) - 5_000
    await engine.pool.execute(
        "UPDATE packets SET state = 'expired', ended_at_ms = $2, remaining_count = 2, remaining_fen = 200"
        " WHERE packet_id = $1",
        *(int(sent.packet_id), ended_at_ms),
    )
    found = await gauges(engine)
    assert found["refunds"] == 1
    assert 5 <= found["refunds_s"] < 60
    await engine.pool.execute("UPDATE packets SET settled_at_ms = $2 WHERE packet_id = $1", int(sent.packet_id), 1)
    found = await gauges(engine)
    assert (found["refunds"], found["refunds_s"]) == (0, 0)


async def test_withdrawals_wait_for_the_provider(engine: Engine) -> None:
    asked_at_ms = int(time.time() * 1_000) - 7_000
    await engine.pool.execute(
        "INSERT INTO withdrawals (user_id, amount_fen, fee_fen, free_fen, bank_account, transfer_id, asked_at_ms)"
        " VALUES ('bob', 100, 0, 100, '6222020200112233', 1, $1)",
        asked_at_ms,
    )
    found = await gauges(engine)
    assert found["withdrawals"] == 1
    assert 7 <= found["withdrawals_s"] < 60


async def test_approvals_wait_until_they_are_decided_or_too_old(engine: Engine) -> None:
    now_ms = int(time.time() * 1_000)
    for expires_at_ms in (now_ms - 1, now_ms + 60_000):
        await engine.pool.execute(
            "INSERT INTO approvals (action, subject_kind, subject_id, arguments, arguments_hash, reason, asked_by,"
            " asked_at_ms, expires_at_ms) VALUES ('deposit', 'user', 'bob', '{}', '', 'a test', 'alice', 1, $1)",
            expires_at_ms,
        )
    assert (await gauges(engine))["approvals"] == 1


async def test_the_newest_checks_that_were_kept_are_told(engine: Engine) -> None:
    await engine.pool.execute(
        "INSERT INTO audit_runs (started_at_ms, ended_at_ms, run_by, is_full, scope, problem_count, findings)"
        " VALUES (1, 5000, 'root', TRUE, '', 7, '[]'), (1, 9000, 'root', TRUE, '', 2, '[]')"
    )
    await engine.pool.execute(
        "INSERT INTO reconciliations (day, run, started_at_ms, ended_at_ms, run_by, is_provisional, difference_count,"
        " comparisons) VALUES ('2026-11-28', 1, 1, 4000, 'daily', FALSE, 3, '[]'),"
        " ('2026-11-29', 1, 1, 8000, 'root', TRUE, 9, '[]')"
    )
    found = await gauges(engine)
    assert (found["problems"], found["audited_s"]) == (2, 9)
    assert (found["differences"], found["reconciled_s"]) == (3, 4)


async def test_looking_reads_indexes_and_no_table(engine: Engine) -> None:
    """Each scrape asks: it must not cost more in a large ledger."""
    async with engine.pool.acquire() as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch(f"EXPLAIN {waiting.SQL['counts'].replace('$1', '1').replace('$2', '9')}")
    text = "\n".join(row[0] for row in plan)
    for index in ("packets_refunds_waiting", "withdrawals_processing"):
        assert index in text
    assert "Seq Scan" not in text
