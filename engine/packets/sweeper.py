"""Closes packets whose time is over. Late or twice does no harm: the scripts go by the clock and close only once."""

import asyncio
from collections.abc import Sequence

import structlog

from engine.errors import HongbaoError
from engine.lanes.replies import Closed, CloseReason
from engine.lanes.store import Store
from engine.loops import stopped_within
from engine.observability import metrics
from engine.settings import Settings

LOG = structlog.get_logger()


async def sweep_lane(store: Store, lane: int, batch_max: int, backlog_max: int) -> int:
    """Close up to ``batch_max`` packets of a lane that are due; gives how many this call closed."""
    closed = 0
    for packet_id in await store.due(lane, await store.now_ms(), batch_max):
        reply, remaining_count, remaining_fen = await store.close(packet_id, CloseReason.EXPIRED)
        if reply is Closed.CLOSED:
            closed += 1
            LOG.info("expired", packet_id=packet_id, remaining_count=remaining_count, remaining_fen=remaining_fen)
        elif reply is Closed.ARRIVED:
            await _give(store, lane, packet_id, backlog_max)
        elif reply is Closed.MISSING:
            LOG.error("due_but_missing", packet_id=packet_id)
    return closed


async def _give(store: Store, lane: int, packet_id: str, backlog_max: int) -> None:
    """Claim a transfer that has arrived for whom it is for. Refused (frozen, the ledger is behind), it is due again."""
    recipients = await store.recipients(packet_id)
    if len(recipients) != 1:  # the lane was lost just now, or is being rebuilt
        LOG.error("arrived_for_nobody", packet_id=packet_id)
        return
    reply = await store.claim(lane, {packet_id: recipients}, backlog_max=backlog_max)
    LOG.info("arrived", packet_id=packet_id, outcome=reply.results[0].outcome.name.lower())


async def sweep(store: Store, settings: Settings, lanes: Sequence[int], stop: asyncio.Event) -> None:
    """Sweep all lanes again and again until ``stop`` is set; what fails is logged and tried again."""
    while not stop.is_set():
        closed = 0
        for lane in lanes:
            try:
                closed = max(closed, await sweep_lane(store, lane, settings.sweep_batch_max, settings.backlog_max))
            except HongbaoError as error:
                metrics.LOOP_ERRORS.labels("sweeper").inc()
                LOG.error("sweeper_error", lane=lane, error=str(error), error_type=type(error).__name__)
        if closed < settings.sweep_batch_max:
            await stopped_within(stop, settings.sweep_interval_s)
