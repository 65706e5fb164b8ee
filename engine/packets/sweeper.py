"""Closes packets whose time is over. It may run late or twice: the scripts use Redis's clock and close only once."""

import asyncio
from collections.abc import Sequence

import structlog

from engine.errors import HongbaoError
from engine.ids import may_be_in_campaign
from engine.lanes.replies import Closed, CloseReason
from engine.lanes.store import Store
from engine.loops import every, outlived
from engine.observability.repeats import repeats
from engine.settings import Settings

LOG = structlog.get_logger()
INTERVAL_S = 0.25
"""How often it looks for packets that have expired."""
BATCH_MAX = 200
"""How many packets it closes per lane each time."""


async def sweep_lane(store: Store, lane: int, batch_max: int, backlog_max: int) -> int:
    """Close up to ``batch_max`` packets of a lane that are due. Returns how many this call closed."""
    closed = 0
    for packet_id in await store.due(lane, await store.now_ms(lane), batch_max):
        reply, remaining_count, remaining_fen = await store.close(packet_id, CloseReason.EXPIRED)
        if reply is Closed.CLOSED:
            closed += 1
            LOG.info("expired", packet_id=packet_id, remaining_count=remaining_count, remaining_fen=remaining_fen)
        elif reply is Closed.ARRIVED:
            await _give(store, lane, packet_id, backlog_max)
        elif reply is Closed.MISSING and (times := repeats.times(("due_but_missing", packet_id))):
            LOG.error("due_but_missing", packet_id=packet_id, times=times)
    return closed


async def _give(store: Store, lane: int, packet_id: str, backlog_max: int) -> None:
    """Claim an arrived transfer for its recipient. If the claim is refused (frozen, ledger behind), it is due again."""
    recipients = await store.recipients(packet_id)
    # A part of a campaign is for whoever grabs. A transfer from before campaigns may have a number that looks like one.
    if not recipients and may_be_in_campaign(packet_id):
        return
    if len(recipients) != 1:  # the lane was just lost, or is being rebuilt
        if times := repeats.times(("arrived_for_nobody", packet_id)):
            LOG.error("arrived_for_nobody", packet_id=packet_id, times=times)
        return
    reply = await store.claim(lane, {packet_id: recipients}, backlog_max=backlog_max)
    outcome = reply.results[0].outcome.name.lower()
    if times := repeats.times(("arrived", packet_id), outcome):
        LOG.info("arrived", packet_id=packet_id, outcome=outcome, times=times)


async def sweep(store: Store, settings: Settings, lanes: Sequence[int], stop: asyncio.Event) -> None:
    """Sweep all lanes again and again until ``stop`` is set. Failures are logged and retried.

    Each server's lanes have a loop of their own, so that a server that hangs delays nobody else.
    """
    async with asyncio.TaskGroup() as group:
        for held in store.topology.by_node(lanes).values():
            group.create_task(_sweep_server(store, settings, held, stop))


async def _sweep_server(store: Store, settings: Settings, lanes: Sequence[int], stop: asyncio.Event) -> None:
    async def once() -> bool:
        closed = 0
        for lane in lanes:
            try:
                closed = max(closed, await sweep_lane(store, lane, BATCH_MAX, settings.backlog_max))
            except HongbaoError as error:  # one lane failed: the others are still swept
                outlived("sweeper", error, lane=lane)
        return closed == BATCH_MAX

    await every("sweeper", INTERVAL_S, stop, once)
