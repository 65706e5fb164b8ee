"""Whatever was sent and claimed: a lane rebuilt from the ledger is, key by key, the one that was lost."""

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.engine import Engine
from engine.lanes.replies import CloseReason
from engine.records import Ack, SplitKind
from engine.settings import Settings
from tests.recovery.test_recovery import epochs_known
from tests.support.lost_lanes import assert_in_order, live_packets, mended
from tests.support.scenes import caught_up, changed, persisting, send
from tests.support.waiting import wait_until

USERS = [f"user{number}" for number in range(40)]


@dataclass(frozen=True, slots=True)
class Plan:
    """One packet, who taps for it in which order, and whether it is closed afterwards."""

    count: int
    mean_fen: int
    split: SplitKind
    invited: int
    ack: Ack | None
    taps: tuple[int, ...]
    ending: CloseReason | None


PLANS = st.builds(
    Plan,
    count=st.sampled_from([1, 2, 3, 10, 31, 150]),
    mean_fen=st.integers(1, 500),
    split=st.sampled_from(SplitKind),
    invited=st.sampled_from([0, 0, 1, 7, 40]),
    ack=st.sampled_from([None, None, Ack.MEMORY]),
    taps=st.lists(st.integers(0, len(USERS) - 1), max_size=50).map(tuple),
    ending=st.sampled_from([None, None, None, CloseReason.EXPIRED]),
)


async def play(engine: Engine, plan: Plan, number: int) -> None:
    """Send, claim, and end."""
    # No more shares than recipients.
    recipients = USERS[: max(plan.invited, plan.count)] if plan.invited and plan.count <= len(USERS) else []
    sent = await send(
        engine,
        total_fen=plan.count * plan.mean_fen,
        count=plan.count,
        split=plan.split,
        recipients=recipients,
        ack=plan.ack,
    )
    taps = list(plan.taps)
    random.Random(number).shuffle(taps)
    while taps:
        part, taps = taps[:7], taps[7:]
        await engine.claims.claim_many([(sent.packet_id, USERS[tap]) for tap in part])
    if plan.ending is not None:
        await engine.pool.execute("UPDATE packets SET expires_at_ms = 1 WHERE packet_id = $1", int(sent.packet_id))
        await engine.redis.hset(f"{{hongbao:000}}:packet:{sent.packet_id}", "expires_at_ms", 1)
        await engine.store.close(sent.packet_id, plan.ending)


async def lose_and_compare(engine: Engine, settings: Settings, plans: list[Plan]) -> None:
    """One example."""
    for number, plan in enumerate(plans):
        await play(engine, plan, number)
    async with persisting(settings):
        await caught_up(engine)
    before = await live_packets(engine)
    await engine.redis.flushall()
    recovered = await mended(engine)
    assert await live_packets(engine) == before
    assert recovered.packets == len(before)
    assert recovered.shares_left == sum(len(held["shares"]) for held in before.values())
    assert recovered.claims == sum(len(held["claims"]) for held in before.values())
    await wait_until(lambda: epochs_known(engine), what="learning the new epoch")
    await assert_in_order(engine)


@pytest.mark.long
def test_a_rebuilt_lane_is_the_lane_that_was_lost(settings: Settings) -> None:
    settings = changed(settings, lanes=1)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        engine = runner.run(stack.enter_async_context(Engine.open(settings)))

        @examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(plans=st.lists(PLANS, min_size=1, max_size=4))
        def check(plans: list[Plan]) -> None:
            runner.run(lose_and_compare(engine, settings, plans))

        try:
            check()
        finally:
            runner.run(stack.aclose())
