"""Random walks over disputes of several users: money is neither made nor lost."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.disputes.filing import Complaint, DisputeKind, DisputeState
from engine.engine import Engine
from engine.errors import (
    DisputeDecidedError,
    DisputeOpenError,
    InvalidFieldsError,
    NotSenderError,
)
from engine.settings import Settings
from tests.support.dispute_scene import FAULT, FRAUD, MINOR, REJECTED, UPHELD, claimed_packet, with_small_disputes
from tests.support.scenes import assert_books_balance, changed, persisting, settled

pytestmark = pytest.mark.long

USERS = ("alice", "bob", "carol", "dave")
REFUSALS = (InvalidFieldsError, NotSenderError, DisputeOpenError)


class Step(NamedTuple):
    what: str
    one: str
    other: str
    place: int
    kind: DisputeKind
    outcome: DisputeState


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["file", "file", "decide", "decide", "ruin"]),
        st.sampled_from(USERS),
        st.sampled_from(USERS),
        st.integers(0, 5),
        st.sampled_from([FRAUD, MINOR, FAULT]),
        st.sampled_from([UPHELD, UPHELD, REJECTED]),
    ),
    min_size=5,
    max_size=30,
)


@pytest.fixture
async def walked(settings: Settings) -> AsyncIterator[Engine]:
    settings = changed(with_small_disputes(settings), disputes_a_year_max=1_000)
    async with Engine.open(settings) as engine, persisting(settings):
        yield engine
        # They came to something.
        for kind in ("transfer_id IS NOT NULL", "state = 'rejected'", "returned_fen IS NOT NULL"):
            assert await engine.pool.fetchval(f"SELECT count(*) FROM disputes WHERE {kind}") > 0, kind
        assert await engine.pool.fetchval("SELECT count(*) FROM debts") > 0


@examples(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_random_walks_neither_make_nor_lose_money(walked: Engine, steps: list[Step]) -> None:
    """Whatever is filed and decided: each upheld dispute moves its amount once or is owed, and nothing else moves."""
    packets = [
        await claimed_packet(walked, *(user for user in USERS if user != sender), sender=sender) for sender in USERS
    ]
    await settled(walked, *(number for number, _ in packets))
    known: list[int] = []
    for step in steps:
        before = await holdings(walked)
        # Only the sender complains; what others do is refused.
        place = USERS.index(step.one) if step.place < 5 else step.place % len(packets)
        moved = await taken(walked, step, packets[place], known, before)
        assert await holdings(walked) == {user: fen + moved.get(user, 0) for user, fen in before.items()}
    await assert_consistent(walked)
    for dispute_id in known:  # the next walk begins with nobody frozen
        if (await walked.disputes.get(dispute_id, None, sees_all=True)).state is DisputeState.OPEN:
            await walked.dispute_decisions.decide(dispute_id, REJECTED, reason="x", decided_by="root")


async def taken(
    engine: Engine, step: Step, packet: tuple[str, int], known: list[int], before: dict[str, int]
) -> dict[str, int]:
    """Take a step; what it is to have moved, by user."""
    moved: dict[str, int] = {}
    if step.what == "file":
        with suppress(*REFUSALS):
            known.append(await filed_by(engine, step, *packet))
    elif known:
        dispute_id = known[-1 - step.place % min(len(known), 3)]
        was = await engine.disputes.get(dispute_id, None, sees_all=True)
        outcome = UPHELD if step.what == "ruin" else step.outcome
        if step.what == "ruin" and was.counterparty is not None and before[was.counterparty]:
            query = "SELECT move_money('withdrawal', account_id, 4, $2, 1) FROM accounts WHERE owner = $1"
            assert await engine.pool.fetchval(query, was.counterparty, before[was.counterparty])
            moved[was.counterparty] = -before[was.counterparty]
        with suppress(DisputeDecidedError, DisputeOpenError):
            now = await engine.dispute_decisions.decide(dispute_id, outcome, reason="x", decided_by="root")
            if was.state is DisputeState.OPEN and now.transfer_id is not None:
                assert not moved, "somebody without money paid"
                moved = {now.complainant: now.amount_fen, str(now.counterparty): -now.amount_fen}
    return moved


async def filed_by(engine: Engine, step: Step, number: str, paid_at_ms: int) -> int:
    party = None if step.kind is FAULT else step.other
    complaint = Complaint(step.kind, number, paid_at_ms, party, ("seen",))
    return int((await engine.disputes.file(step.one, complaint)).dispute_id)


async def holdings(engine: Engine) -> dict[str, int]:
    rows = await engine.pool.fetch("SELECT owner, balance_fen FROM accounts WHERE kind = 'wallet'")
    return {row["owner"]: row["balance_fen"] for row in rows}


async def assert_consistent(engine: Engine) -> None:
    await assert_books_balance(engine.pool)
    fetch = engine.pool.fetch
    disputes = await fetch("SELECT * FROM disputes LEFT JOIN debts USING (dispute_id)")
    upheld = [row for row in disputes if row["state"] == "upheld" and row["kind"] != "system_fault"]
    assert all((row["transfer_id"] is None) is not (row["debt_id"] is None) for row in upheld)
    corrections = await fetch("SELECT transfer_id, amount_fen FROM transfers WHERE kind = 'correction'")
    assert {row["transfer_id"] for row in corrections} == {row["transfer_id"] for row in upheld if row["transfer_id"]}
    assert len({(row["packet_id"], row["counterparty"]) for row in upheld}) == len(upheld)
    senders = {row["packet_id"]: row["sender"] for row in await fetch("SELECT packet_id, sender FROM packets")}
    assert [row["dispute_id"] for row in disputes if row["complainant"] != senders[row["packet_id"]]] == []
    # Who is accused of fraud is frozen, and nobody else.
    accused = {row["counterparty"] for row in disputes if row["state"] == "open" and row["kind"] == "fraud"}
    assert {row["owner"] for row in await fetch("SELECT owner FROM accounts WHERE frozen")} == accused
