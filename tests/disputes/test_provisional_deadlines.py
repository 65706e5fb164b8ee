"""Deadlines in a year whose working days are not planned: marked, and computed again when the plan is out."""

from collections.abc import AsyncIterator
from datetime import date

import asyncpg
import pytest

from engine.calendar.china_time import begin_ms
from engine.disputes.deciding import settle_deadlines, tell_overdue
from engine.disputes.filing import Dispute, DisputeKind, due_of
from engine.ledger import schema
from engine.settings import Settings
from tests.support.dispute_scene import (
    FAULT,
    FRAUD,
    MINOR,
    REJECTED,
    Scene,
    claimed_packet,
    open_scene,
    with_small_disputes,
)
from tests.support.plans import planned_until
from tests.support.scenes import changed, settled, sweeping
from tests.support.waiting import wait_until

FILED_MS = begin_ms(date(2026, 12, 28)) + 1_000  # a Monday
WEEKDAYS = (begin_ms(date(2026, 12, 31)), begin_ms(date(2027, 1, 8)))  # 3 to 7 days, with New Year alone between
PLANNED = (begin_ms(date(2026, 12, 31)), begin_ms(date(2027, 1, 14)))  # and with a week of holidays


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_small_disputes(settings)


@pytest.fixture
async def scene(settings: Settings) -> AsyncIterator[Scene]:
    async with open_scene(settings) as scene:
        yield scene


async def filed_then(scene: Scene, kind: DisputeKind = FRAUD) -> Dispute:
    """A dispute as if it had been filed at the end of 2026."""
    dispute = await scene.file(kind)
    due = due_of(kind, FILED_MS, scene.engine.settings)
    query = """
        UPDATE disputes SET filed_at_ms = $2, earliest_at_ms = $3, deadline_at_ms = $4, deadline_is_provisional = $5
        WHERE dispute_id = $1
    """
    await scene.engine.pool.execute(query, int(dispute.dispute_id), FILED_MS, *due[:3])
    return await again(scene, dispute)


async def again(scene: Scene, dispute: Dispute) -> Dispute:
    return await scene.engine.disputes.get(int(dispute.dispute_id), "alice", sees_all=False)


def test_which_deadlines_are_provisional(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_until(2026, monkeypatch)
    november_ms = begin_ms(date(2026, 11, 28))
    found = [
        due_of(kind, at_ms, settings).is_provisional
        for kind in (FRAUD, MINOR, FAULT)
        for at_ms in (november_ms, FILED_MS)
    ]
    assert found == [False, True, False, True, False, False]
    assert due_of(FRAUD, FILED_MS, settings)[:3] == (*WEEKDAYS, True)
    planned_until(2027, monkeypatch)
    assert due_of(FRAUD, FILED_MS, settings)[:3] == (*PLANNED, False)


async def test_it_is_marked_and_computed_again_when_the_plan_is_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_until(2026, monkeypatch)
    dispute, settings = await filed_then(scene), scene.engine.settings
    assert (dispute.earliest_at_ms, dispute.deadline_at_ms, dispute.deadline_is_provisional) == (*WEEKDAYS, True)
    await settle_deadlines(scene.engine.pool, settings)
    assert await again(scene, dispute) == dispute
    planned_until(2027, monkeypatch)
    # The days are those of the filing, whatever the settings are by now.
    await settle_deadlines(scene.engine.pool, changed(settings, dispute_fraud_days_max=20))
    found = await again(scene, dispute)
    assert (found.earliest_at_ms, found.deadline_at_ms, found.deadline_is_provisional) == (*PLANNED, False)
    # A plan that is known once does not move it again.
    planned_until(2026, monkeypatch)
    await settle_deadlines(scene.engine.pool, settings)
    assert await again(scene, dispute) == found


@pytest.mark.long
async def test_pages_reach_all_of_them(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.disputes.deciding._PAGE_MAX", 1)
    planned_until(2026, monkeypatch)
    disputes = [await filed_then(scene, kind) for kind in (MINOR,)]
    number, at_ms = await claimed_packet(scene.engine, "bob", "carol")
    await settled(scene.engine, number)
    disputes.append(await filed_then(Scene(scene.engine, number, at_ms)))
    planned_until(2027, monkeypatch)
    after = await settle_deadlines(scene.engine.pool, scene.engine.settings)
    assert after == int(disputes[0].dispute_id)
    await settle_deadlines(scene.engine.pool, scene.engine.settings, after=after)
    assert [(await again(scene, dispute)).deadline_is_provisional for dispute in disputes] == [False, False]


@pytest.mark.long
async def test_one_that_was_overdue_by_the_guess_is_told_again_by_the_plan(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_until(2026, monkeypatch)
    dispute, engine = await filed_then(scene), scene.engine
    await engine.pool.execute("UPDATE disputes SET deadline_at_ms = 1")
    assert await tell_overdue(engine.pool, engine.settings) == 1
    (alert,) = (await engine.alerts.page(after=None, limit=10)).alerts
    assert alert.details["deadline_is_provisional"] is True
    planned_until(2027, monkeypatch)
    await settle_deadlines(engine.pool, engine.settings)
    told = await engine.pool.fetchval("SELECT overdue_told FROM disputes")
    clock_ms = await engine.pool.fetchval("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    assert told is (clock_ms >= (await again(scene, dispute)).deadline_at_ms)


async def test_a_decided_one_is_not_provisional(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_until(2026, monkeypatch)
    dispute = await filed_then(scene)
    decided = await scene.decide(dispute, REJECTED)
    assert not decided.deadline_is_provisional
    planned_until(2027, monkeypatch)
    await settle_deadlines(scene.engine.pool, scene.engine.settings)
    assert await again(scene, dispute) == decided


async def test_the_sweeper_does_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_until(2026, monkeypatch)
    dispute = await filed_then(scene)
    planned_until(2027, monkeypatch)
    async with sweeping(scene.engine.settings):
        await wait_until(lambda: _is_settled(scene, dispute))
    assert (await again(scene, dispute)).deadline_at_ms == PLANNED[1]


async def _is_settled(scene: Scene, dispute: Dispute) -> bool:
    return not (await again(scene, dispute)).deadline_is_provisional


async def test_those_filed_before_the_mark_get_it(
    empty_database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema.migrations()
    with monkeypatch.context() as before:
        before.setattr(schema, "migrations", lambda: [each for each in known if each[0] < 11])
        await schema.migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    query = """
        INSERT INTO disputes (kind, packet_id, complainant, counterparty, amount_fen, transaction_at_ms, evidence,
            filed_at_ms, earliest_at_ms, deadline_at_ms) VALUES ($1, $2, 'alice', $3, 1, 1, '[]', $4, $5, $6)
    """
    await connection.execute(query, "fraud", 1, "bob", FILED_MS, *WEEKDAYS)
    await connection.execute(query, "fraud", 2, "bob", 1, 2, 3)
    await connection.execute(query, "system_fault", 3, None, FILED_MS, *WEEKDAYS)
    await schema.migrate(empty_database_url)
    marks = "SELECT array_agg(deadline_is_provisional ORDER BY dispute_id) FROM disputes"
    assert await connection.fetchval(marks) == [True, False, False]
    planned_until(2027, monkeypatch)
    async with asyncpg.create_pool(empty_database_url, min_size=1, max_size=1) as pool:
        await settle_deadlines(pool, settings)
    assert await connection.fetchval("SELECT deadline_at_ms FROM disputes WHERE packet_id = 1") == PLANNED[1]
    assert await connection.fetchval(marks) == [False, False, False]
    await connection.close()
