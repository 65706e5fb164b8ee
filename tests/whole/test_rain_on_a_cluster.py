"""A rain over the masters of a cluster, one of which dies in the middle of a wave."""

import asyncio
from pathlib import Path

import pytest

from engine.auditing.audit import audit
from engine.campaigns import terms as campaign_terms_module
from engine.campaigns.grabbing import Grab, GrabOutcome
from engine.campaigns.views import CampaignState
from engine.engine import Engine
from engine.records import Ack
from engine.settings import Settings
from tests.support.clustered import clustered
from tests.support.lost_lanes import amounts_in_ledger
from tests.support.rains import buckets_of, fen_of, grab_until_told, make, ready
from tests.support.scenes import assert_books_balance, caught_up, changed, persisting, settled, sweeping
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

SHARES, HANDS = 60, 90


async def test_nobody_wins_twice_when_a_master_dies_in_the_middle_of_a_wave(
    settings: Settings, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    async with clustered(quick_path / "cluster") as cluster:
        on_cluster = changed(settings, redis_url=cluster.url, lanes=3, ack=Ack.LEDGER, redis_timeout_s=1.0)
        async with Engine.open(on_cluster) as engine, persisting(on_cluster), sweeping(on_cluster):
            campaign_id = (await make(engine, (0, 300, SHARES * 50, SHARES))).campaign_id
            await wait_until(lambda: ready(engine, campaign_id), what="the shares being in Redis")
            told: dict[str, list[Grab]] = {f"hand{number}": [] for number in range(HANDS)}

            async def tap(user: str) -> None:
                for _ in range(3):  # and twice more, whatever the first was answered
                    told[user].append(await grab_until_told(engine, campaign_id, user))

            first = list(told)[: SHARES // 2]
            await asyncio.gather(*map(tap, first))
            victim = await cluster.holder_of(0)
            hands = [asyncio.create_task(tap(user)) for user in told]
            await asyncio.sleep(0)  # they are on their way
            victim.kill()
            assert (await engine.campaign_views.get(campaign_id)).state is CampaignState.RUNNING  # its page stays
            await asyncio.gather(*hands)
            victim.start()
            won = {
                user: fen_of(grab)
                for user, grabs in told.items()
                for grab in grabs
                if grab.outcome in (GrabOutcome.CLAIMED, GrabOutcome.ALREADY_CLAIMED)
            }
            assert len(won) == SHARES
            for user, grabs in told.items():
                amounts = {fen_of(grab) for grab in grabs if grab.shares}
                assert amounts == ({won[user]} if user in won else set()), user
            await engine.campaigns.end(campaign_id, "mall")
            (buckets,) = await buckets_of(engine, campaign_id)
            await settled(engine, *buckets)
            await caught_up(engine)
            in_ledger = {user: fen for (packet_id, user), fen in (await amounts_in_ledger(engine)).items()}
            assert in_ledger == won
            assert len(await amounts_in_ledger(engine)) == SHARES  # one each
            assert sum(won.values()) == SHARES * 50
            await assert_books_balance(engine.pool)
            findings = await audit(engine.pool, engine.store, engine.stream)
            assert [problem for finding in findings for problem in finding.problems] == []
