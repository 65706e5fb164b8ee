"""Runs are kept as they came out, explained, and one heavy job runs at a time; a day is reconciled by itself."""

import asyncio
from datetime import date, timedelta

import pytest

from engine.auditing import heavy
from engine.auditing.comparison import Comparison, Differences, Side, Subject
from engine.auditing.heavy import HeavyJobs, reconcile_yesterday, run_audit, run_reconciliation
from engine.auditing.runs import HeavyJobError, Runs, UnknownRunError, heavy_job
from engine.calendar.china_time import begin_ms, today
from engine.engine import Engine
from engine.errors import InvalidFieldsError
from engine.records import SplitKind
from engine.settings import Settings
from tests.support.scenes import caught_up, persisting, send, settled

DAY = date(2026, 11, 20)


def compared(name: str = "sends: packets", *, differs: bool = False, fen: int = 5) -> Comparison:
    differences = Differences()
    if differs:
        differences.add("packet 1000000000000000001: nothing due, 5 fen moved", Subject(packet_id="1" + "0" * 17 + "1"))
        for number in range(30):
            differences.add(f"bob: {number}", Subject(user_id="bob"))
    return differences.of(name, Side(what="left", count=1, fen=fen), Side(what="right", count=1, fen=fen))


async def keep(runs: Runs, *comparisons: Comparison, day: date = DAY, by: str = "root") -> int:
    return await runs.keep_reconciliation(day, comparisons, started_at_ms=1, by=by, is_provisional=False)


async def test_a_run_is_kept_whole_and_the_last_of_a_day_counts(engine: Engine) -> None:
    runs = Runs(engine.pool)
    huge = compared("claims", fen=2**70)
    first = await keep(runs, compared(differs=True), huge)
    (line,) = await runs.days(before=date(2027, 1, 1), since=date(2026, 1, 1), limit=9)
    assert (line.day, line.run, line.difference_count, line.differing, line.explained) == (DAY, 1, 31, 1, 0)
    (run,) = (await runs.of_day(DAY, after=None, limit=9)).rows
    assert run.comparisons == [compared(differs=True), huge]
    assert run.comparisons[0].subjects[0] == Subject(packet_id="1000000000000000001")
    assert len(run.comparisons[0].subjects) == len(run.comparisons[0].differences)
    with pytest.raises(InvalidFieldsError):
        await runs.explain(first, "claims", reason="it agrees", by="root")
    with pytest.raises(UnknownRunError):
        await runs.explain(999, "claims", reason="?", by="root")
    await runs.explain(first, "sends: packets", reason="the bank was late", by="root")
    (line,) = await runs.days(before=date(2027, 1, 1), since=date(2026, 1, 1), limit=9)
    assert (line.explained, line.agrees) == (1, False)
    assert [(why.comparison, why.explained_by) for why in await runs.reasons(first)] == [("sends: packets", "root")]
    await asyncio.gather(*(keep(runs, compared(), by=f"{number}") for number in range(3)))
    (line,) = await runs.days(before=date(2027, 1, 1), since=date(2026, 1, 1), limit=9)
    assert (line.run, line.agrees, line.explained) == (4, True, 0)
    assert await runs.has_final(DAY)
    assert not await runs.has_final(DAY + timedelta(days=1))
    page = await runs.of_day(DAY, after=None, limit=3)
    rest = await runs.of_day(DAY, after=page.next, limit=3)
    assert [run.run for run in page.rows + rest.rows] == [4, 3, 2, 1]
    for table in ("reconciliations", "reconciliation_reasons"):
        with pytest.raises(Exception, match="never changed"):
            await engine.pool.execute(f"DELETE FROM {table}")


async def test_an_audit_is_run_and_kept_with_its_anchor(engine: Engine, settings: Settings) -> None:
    async with persisting(settings):
        sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
        for user in ("bob", "carol", "dave"):
            await engine.claims.claim(sent.packet_id, user)
        await settled(engine, sent.packet_id)
        await caught_up(engine)
    runs, told = Runs(engine.pool), list[tuple[str, int, int]]()
    number = await run_audit(settings, by="root", is_full=True, told=lambda *piece: told.append(piece))
    run = await runs.audit(number)
    assert (run.run_by, run.is_full, run.problem_count) == ("root", True, 0)
    assert all(finding.holds for finding in run.findings)
    assert "no_user_twice" in {finding.invariant for finding in run.findings}
    assert told[-1][1] == told[-1][2] > 5
    heads = next(found for found in await runs.anchor(number) if found["invariant"] == "chains_unbroken")["heads"]
    assert heads
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE accounts SET balance_fen = balance_fen + 1 WHERE owner = 'bob'")
    assert (await runs.audit(await run_audit(settings, by="root"))).problem_count > 0
    lines = await runs.audits(after=None, limit=1)
    assert lines.rows[0].problem_count > 0
    assert [line.audit_run_id for line in (await runs.audits(after=lines.next, limit=1)).rows] == [number]
    for missing in (runs.audit(999), runs.anchor(999)):
        with pytest.raises(UnknownRunError):
            await missing


async def test_a_day_is_reconciled_and_its_differences_name_what_they_are_about(
    engine: Engine, settings: Settings
) -> None:
    async with persisting(settings):
        sent = await send(engine, total_fen=30, count=3, split=SplitKind.EQUAL)
        await engine.claims.claim(sent.packet_id, "bob")
        await caught_up(engine)
    async with engine.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE accounts SET balance_fen = balance_fen + 1 WHERE owner = 'bob'")
        await connection.execute("UPDATE packets SET total_fen = 31 WHERE packet_id = $1", int(sent.packet_id))
    number = await run_reconciliation(settings, today(), by="root", provisional=True)
    (run,) = (await Runs(engine.pool).of_day(today(), after=None, limit=1)).rows
    assert (run.reconciliation_id, run.is_provisional, run.agrees) == (number, True, False)
    subjects = {subject for one in run.comparisons for subject in one.subjects}
    assert {Subject(user_id="bob"), Subject(packet_id=sent.packet_id)} <= subjects


async def test_one_heavy_job_runs_at_a_time(engine: Engine, settings: Settings) -> None:
    jobs = HeavyJobs(settings)
    assert settings.database_url is not None
    async with heavy_job(settings.database_url):
        with pytest.raises(HeavyJobError):
            await run_audit(settings, by="root")
        job = jobs.audit(by="root", is_full=False)
        await jobs.wait()
        assert job.error is not None
        assert "under way" in job.error
    job = jobs.reconcile(today(), by="root", provisional=False)
    with pytest.raises(HeavyJobError):
        jobs.audit(by="root", is_full=False)
    await jobs.wait()
    assert job.error is not None
    assert "not over" in job.error or "not closed" in job.error
    job = jobs.audit(by="root", is_full=False)
    await jobs.wait()
    assert (job.error, job.run_id is None, job.ended_at_ms is None) == (None, False, False)
    jobs.audit(by="root", is_full=True)
    await jobs.close()
    async with heavy_job(settings.database_url):
        pass


async def test_yesterday_is_reconciled_once_if_there_was_a_ledger(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, yesterday = Runs(engine.pool), today() - timedelta(days=1)
    assert not await reconcile_yesterday(settings, runs, await runs.first_ms())  # the ledger began today
    assert not await reconcile_yesterday(settings, runs, None)
    began_ms = begin_ms(yesterday)
    assert await reconcile_yesterday(settings, runs, began_ms)
    assert not await reconcile_yesterday(settings, runs, began_ms)
    (run,) = (await runs.of_day(yesterday, after=None, limit=5)).rows
    assert (run.run_by, run.is_provisional, run.agrees) == ("daily", False, True)
    monkeypatch.setattr(heavy, "today", lambda: today() + timedelta(days=1))
    assert not await reconcile_yesterday(settings, runs, began_ms)  # it is not closed
