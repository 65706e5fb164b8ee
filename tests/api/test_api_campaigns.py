"""Campaigns over HTTP: a grant's admission lets a user in, and what is wrong with a prize is named where it is."""

import time
from collections.abc import AsyncIterator

import pytest

from engine.campaigns import terms as campaign_terms_module
from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import persisting, sweeping
from tests.support.waiting import wait_until


@pytest.fixture
async def front(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(campaign_terms_module, "LEAD_S_MIN", 0)
    async with open_front(settings) as client:
        yield client


def body_of(**changed: object) -> Json:
    prizes = [{"total_fen": 4_000, "count": 40, "split": "lucky"}]
    wave = {"starts_at_ms": int(time.time() * 1000) + 500, "seconds": 60, "prizes": prizes}
    return {"name": "rain", "waves": [wave], **changed}


async def made(front: Client, body: Json) -> Json:
    await front.deposit("alice", 4_000)
    answer = await front.http.post("/v1/campaigns", json=body, headers=front.as_user("alice") | new_key())
    found: Json = answer.json()
    return found


async def test_a_games_result_becomes_grabs(front: Client, settings: Settings) -> None:
    terms = body_of(who="admitted", wave_wins_max=3, wins_max=2)
    assert (await made(front, terms))["campaign_id"] == "1"
    path, bob = "/v1/campaigns/1", front.as_user("bob", "claim")
    backend = front.as_backend("bob")
    async with persisting(settings), sweeping(settings):

        async def is_running() -> bool:
            return bool((await front.http.get(path, headers=bob)).json()["state"] == "running")

        await wait_until(is_running, what="the first wave")
        refused = await front.http.post(f"{path}/grabs", headers=bob)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_invited")
        key = new_key()
        granted = await front.http.post(f"{path}/grants", json={"wins": 1}, headers=backend | key)
        assert (granted.status_code, granted.json()["wins"]) == (201, 1)
        again = await front.http.post(f"{path}/grants", json={"wins": 1}, headers=backend | key)
        assert (again.json(), again.headers["idempotency-replayed"]) == (granted.json(), "true")
        admission = {"admission": granted.json()["admission"]}
        won = await front.http.post(f"{path}/grabs", json=admission, headers=bob)
        assert (won.status_code, won.json()["outcome"], len(won.json()["shares"])) == (200, "claimed", 1)
        repeat = await front.http.post(f"{path}/grabs", json=admission, headers=bob)
        assert (repeat.json()["outcome"], repeat.json()["shares"]) == ("already_claimed", won.json()["shares"])
        stranger = await front.http.post(f"{path}/grabs", json=admission, headers=front.as_user("eve", "claim"))
        assert (stranger.status_code, stranger.json()["code"]) == (403, "not_invited")
        more = await front.http.post(f"{path}/grants", json={"wins": 1}, headers=backend | new_key())
        grab = await front.http.post(f"{path}/grabs", json={"admission": more.json()["admission"]}, headers=bob)
        assert grab.json()["outcome"] == "claimed"
        too_many = await front.http.post(f"{path}/grants", json={"wins": 1}, headers=backend | new_key())
        assert (too_many.status_code, too_many.json()["errors"][0]["field"]) == (422, "wins")
        grabs = [{"campaign_id": "1", "user_id": user, "wins_max": 1} for user in ("carol", "carol")]
        batch = await front.http.post("/v1/grabs", json={"grabs": grabs}, headers=front.as_backend())
        outcomes = sorted(result["outcome"] for result in batch.json()["results"])
        assert outcomes == ["already_claimed", "claimed"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"waves": []}, "waves"),
        ({"who": "everyone"}, "who"),
        ({"who": "listed"}, "guests"),
        ({"guests": ["a b"], "who": "listed"}, "guests[0]"),
        ({"label": "staff"}, "label"),
        ({"wave_wins_max": 0}, "wave_wins_max"),
        ({"wins_max": 1.5}, "wins_max"),
        ({"interval_ms": -1}, "interval_ms"),
        ({"lanes": 99}, "lanes"),
        ({"split": "lucky"}, "split"),
    ],
)
async def test_a_bad_field_is_named(front: Client, changed: Json, field: str) -> None:
    answer = await made(front, body_of(**changed))
    assert answer["code"] == "invalid_fields"
    assert field in [error["field"] for error in answer["errors"]]


@pytest.mark.parametrize(
    ("prize", "field"),
    [
        ({"asset": "GOLD"}, "asset"),
        ({"split": "even"}, "split"),
        ({"count": 0}, "count"),
        ({"total_fen": 0}, "total_fen"),
        ({"min_fen": 0}, "min_fen"),
        ({"max_fen": 2**60}, "max_fen"),
    ],
)
async def test_a_bad_prize_is_named_by_its_place(front: Client, prize: Json, field: str) -> None:
    body = body_of()
    body["waves"][0]["prizes"].append(body["waves"][0]["prizes"][0] | prize)
    answer = await made(front, body)
    assert f"waves[0].prizes[1].{field}" in [error["field"] for error in answer["errors"]]
