"""`hongbao recover`, as an operator runs it."""

import orjson
import pytest

from engine.engine import Engine
from engine.ids import lane_of
from engine.settings import Settings
from tests.support.commands import hongbao, sentence
from tests.support.lost_lanes import assert_in_order, claim_until_served, lose_lane
from tests.support.scenes import caught_up, changed, persisting, send
from tests.support.waiting import wait_until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two lanes, as the command will find them."""
    return changed(settings, lanes=2)


def variables(settings: Settings) -> dict[str, str]:
    """The environment of the command."""
    return {
        "HONGBAO_REDIS_URL": str(settings.redis_url),
        "HONGBAO_DATABASE_URL": str(settings.database_url),
        "HONGBAO_DATA_DIR": str(settings.data_dir),
        "HONGBAO_LANES": "2",
    }


async def test_it_rebuilds_what_is_lost_and_tells_of_each_lane(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        sent: list[str] = []
        while [lane_of(packet_id) for packet_id in sent].count(1) < 3:
            sent.append((await send(engine, count=10)).packet_id)
        for packet_id in sent:
            await engine.claims.claim(packet_id, "user0")
        async with persisting(settings):
            await caught_up(engine)
        await lose_lane(engine, 1)
        lost = [packet_id for packet_id in sent if lane_of(packet_id) == 1]
        finished = hongbao("recover", **variables(settings))
        assert finished.returncode == 0, finished.stderr
        in_order, rebuilt = finished.stdout.splitlines()
        assert in_order == "lane 000  in order"
        assert rebuilt.startswith("lane 001  rebuilt in ")
        expected = f"s: {len(lost)} packets, {len(lost)} claims put back, {9 * len(lost)} shares left; "
        assert expected in rebuilt
        assert rebuilt.endswith("an unknown number of changes in Redis never reached the ledger")
        await wait_until(lambda: claim_until_served(engine, lost[0], "user0"), what="serving")
        await assert_in_order(engine)
        again = hongbao("recover", "--lane", "1", "--json", **variables(settings))
        assert (again.returncode, orjson.loads(again.stdout)) == (0, [])


async def test_what_it_cannot_do_is_told_and_it_exits_1(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        assert sentence(hongbao("recover", "--lane", "7", **variables(settings))) == "There is no lane 7."
        await engine.redis.hset("{hongbao:000}:lane", "epoch", "of-another-ledger@somewhere")
        finished = hongbao("recover", **variables(settings))
        assert finished.returncode == 1
        refused, in_order = finished.stdout.splitlines()
        assert refused.startswith("lane 000  not rebuilt: Lane 0 is fenced: Redis and the ledger disagree")
        assert "--force" in refused
        assert in_order == "lane 001  in order"
        assert await engine.redis.hget("{hongbao:000}:lane", "epoch") == b"of-another-ledger@somewhere"
        forced = hongbao("recover", "--force", "--json", **variables(settings))
        assert forced.returncode == 0, forced.stderr
        (rebuilt,) = orjson.loads(forced.stdout)
        assert (rebuilt["lane"], rebuilt["packets"], rebuilt["claims"]) == (0, 0, 0)
        assert await engine.ready() == []
