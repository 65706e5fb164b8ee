"""`hongbao lanes`, as an operator runs it."""

from pathlib import Path

import orjson
import pytest

from engine.engine import Engine
from engine.persisting.lane_lines import LaneLine, Placement, ServerLine
from engine.settings import Settings
from tests.support.commands import hongbao, sentence
from tests.support.lost_lanes import lose_lane
from tests.support.scenes import caught_up, changed, persisting, positions, send_in
from tests.support.two_servers import two_servers


def variables(settings: Settings) -> dict[str, str]:
    return {
        "HONGBAO_REDIS_URL": str(settings.redis_url),
        "HONGBAO_DATABASE_URL": str(settings.database_url),
        "HONGBAO_DATA_DIR": str(settings.data_dir),
        "HONGBAO_LANES": str(settings.lanes),
    }


async def test_each_lane_is_a_line_and_one_that_is_lost_is_said(settings: Settings) -> None:
    settings = changed(settings, lanes=2)
    async with Engine.open(settings) as engine:
        packet_id = await send_in(engine, 1, count=3)
        async with persisting(settings):
            await caught_up(engine)
        at = await positions(engine)
        await engine.claims.claim(packet_id, "ann")
        finished = hongbao("lanes", "--sample-s", "0.1", **variables(settings))
        assert (finished.returncode, finished.stderr) == (0, "")
        first, second, server = finished.stdout.splitlines()
        assert first.startswith("lane 000  slot 5936  ")
        assert first.endswith(f"at {at[0]}, the ledger is 0 behind by 0.0 s, backlog 0, 0.0 changes per second")
        assert second.startswith("lane 001  slot 1809  ")
        assert f"at {at[1] + 1}, the ledger is 1 behind by " in second
        assert second.endswith(" s, backlog 1, 0.0 changes per second")
        assert server.endswith(": 2 of 2 lanes, 0.0 changes per second")
        await lose_lane(engine, 1)
        lost = hongbao("lanes", "--sample-s", "0.1", "--json", **variables(settings))
        assert lost.returncode == 1
        told = orjson.loads(lost.stdout)
        assert [line["why_not"] for line in told["lanes"]] == [None, "fenced: Redis has lost it"]
        assert (told["lanes"][0]["position"], told["lanes"][1]["position"], told["imbalance"]) == (at[0], None, 1.0)


@pytest.mark.long
async def test_a_server_that_is_away_is_said_of_its_lanes_alone(settings: Settings, tmp_path: Path) -> None:
    async with two_servers(settings, tmp_path) as two:
        async with Engine.open(two.settings):
            pass
        two.second.kill()
        finished = hongbao("lanes", "--sample-s", "0.1", "--json", **variables(two.settings))
        assert finished.returncode == 1
        told = orjson.loads(finished.stdout)
        places = [f"127.0.0.1:{two.first.port}"] * 2 + [f"127.0.0.1:{two.second.port}"] * 2
        assert [line["server"] for line in told["lanes"]] == places
        assert [line["position"] for line in told["lanes"]] == [0, 0, None, None]
        assert [line["why_not"] is None for line in told["lanes"]] == [True, True, False, False]
        assert "does not answer" in told["lanes"][2]["why_not"]
        assert [server["lanes"] for server in told["servers"]] == [2, 2]
        printed = hongbao("lanes", "--sample-s", "0.1", **variables(two.settings)).stdout.splitlines()
        assert printed[2].startswith(f"lane 002  slot 14194  {places[2]}  does not serve: ")
        assert printed[4].endswith(": 2 of 4 lanes, 0.0 changes per second; the busiest has 1.00 times the mean")


async def test_changes_are_counted_while_it_looks(settings: Settings) -> None:
    from engine.connected import Connected
    from engine.persisting.lane_lines import placement

    settings = changed(settings, lanes=2)
    async with Engine.open(settings) as engine, Connected.open(settings) as connected:
        packet_id = await send_in(engine, 0, count=3)
        real, asked = connected.store.lane_status, list[int]()

        async def meanwhile(lane: int) -> object:
            """A share is claimed in lane 0 between the two looks."""
            asked.append(lane)
            if asked.count(0) == 2:
                await engine.claims.claim(packet_id, "ann")
            return await real(lane)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connected.store, "lane_status", meanwhile)
            found = await placement(connected.pool, connected.store, connected.stream, called="here", sample_s=0.1)
        busy, idle = found.lanes
        assert busy.changes_per_second is not None
        assert 0 < busy.changes_per_second <= 10
        assert (idle.changes_per_second, found.servers[0].changes_per_second) == (0, busy.changes_per_second)


def test_books_that_are_nowhere_are_a_sentence(tmp_path: Path) -> None:
    assert sentence(hongbao("lanes", "--data-dir", tmp_path)).startswith("There are no books in ")


@pytest.mark.parametrize(
    ("parts", "imbalance"),
    [
        ([], 1.0),
        ([(2, 0.0)], 1.0),
        ([(6, 0.0), (3, 0.0), (3, 0.0)], 1.5),  # as twelve lanes fall on three equal masters by their slots
        ([(6, 100.0), (3, 100.0), (3, 100.0)], 1.0),
        ([(1, 300.0), (1, 0.0), (1, 0.0)], 3.0),
    ],
)
def test_the_imbalance_is_the_busiest_servers_part_of_the_mean(
    parts: list[tuple[int, float]], imbalance: float
) -> None:
    servers = [ServerLine(server="a", lanes=lanes, changes_per_second=rate) for lanes, rate in parts]
    assert Placement(lanes=list[LaneLine](), servers=servers).imbalance == pytest.approx(imbalance)


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    """Another data directory's lanes would be moved."""
    finished = hongbao("lanes", "--data-dir", str(tmp_path), "place", "--dry-run")
    assert finished.returncode == 2
    assert "write its options after `place`" in finished.stderr
