"""Probes and scrapes while the stream of one lane holds what it should not."""

import pytest

from engine.engine import Engine
from engine.lanes import keys
from engine.lanes.clients import command
from engine.settings import Settings
from tests.support.bad_entries import NEWER, put_counted, put_foreign
from tests.support.front import open_front


@pytest.mark.parametrize("payload", [b"garbage", NEWER])
@pytest.mark.parametrize("is_counted", [False, True], ids=["foreign", "counted"])
async def test_a_scrape_shows_where_it_is_and_the_probe_whether_claims_are_refused(
    settings: Settings, payload: bytes, is_counted: bool
) -> None:
    async with open_front(settings) as client, Engine.open(settings) as engine:
        entry_id = await (put_counted if is_counted else put_foreign)(engine, ("event", payload))
        scrape = await client.http.get("/metrics")
        assert scrape.status_code == 200
        assert 'hongbao_lane_bad_entry{lane="0"} 1.0' in scrape.text
        assert 'hongbao_lane_bad_entry{lane="1"} 0.0' in scrape.text
        assert 'hongbao_persister_lag_events{lane="1"} 0.0' in scrape.text
        # Nobody knows how old it is.
        seconds = "NaN" if is_counted else "0.0"
        assert f'hongbao_persister_lag_seconds{{lane="0"}} {seconds}' in scrape.text
        assert f'hongbao_backlog{{lane="0"}} {float(is_counted)}' in scrape.text
        probe = await client.http.get("/readyz")
        assert probe.status_code == (200 if is_counted else 503)
        assert is_counted or f"Lane 0 has a bad entry at {entry_id}" in probe.json()["reasons"][0]


@pytest.mark.parametrize("name", [keys.events(0), keys.lane(0)], ids=["the stream", "the lane"])
async def test_a_key_of_another_type_is_no_reason_not_to_be_scraped(settings: Settings, name: str) -> None:
    async with open_front(settings) as client, Engine.open(settings) as engine:
        await engine.redis.delete(name)
        await command(engine.redis, "SADD", name, "garbage")
        scrape = await client.http.get("/metrics")
        assert scrape.status_code == 200
        assert 'hongbao_persister_lag_events{lane="1"} 0.0' in scrape.text
        shown = "hongbao_lane_bad_entry" if name == keys.events(0) else "hongbao_lane_fenced"
        assert f'{shown}{{lane="0"}} 1.0' in scrape.text
        probe = await client.http.get("/readyz")
        assert (probe.status_code, "Lane 0" in probe.json()["reasons"][0]) == (503, True)
