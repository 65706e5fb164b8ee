"""Fund-raising over HTTP: a whole fundraiser as its users see it, and what is said of a bad request."""

from collections.abc import AsyncIterator

import httpx
import pytest

from engine.settings import Settings
from tests.support.asking import BODIES, TOMORROW_MS, UNKNOWN
from tests.support.front import Client, Json, new_key, open_front
from tests.support.scenes import sweeping
from tests.support.waiting import wait_until


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


def fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def post(front: Client, path: str, body: Json | None, user: str = "org", **headers: str) -> httpx.Response:
    """A user's request."""
    return await front.http.post(path, json=body, headers=front.as_user(user) | new_key() | headers)


async def read(front: Client, path: str, user: str = "ada", *scopes: str) -> httpx.Response:
    return await front.http.get(path, headers=front.as_user(user, *scopes))


async def made(front: Client, **other: object) -> str:
    """The path of a new fundraiser."""
    answer = await post(front, "/v1/fundraisers", BODIES["make_fundraiser"] | other)
    assert answer.status_code == 201, answer.text
    return f"/v1/fundraisers/{answer.json()['fundraiser_id']}"


async def test_a_fundraiser_from_its_making_to_its_payout(front: Client, settings: Settings) -> None:
    path = await made(front, story="Books.\nMany.")
    await front.deposit("ada", 1_000)
    await front.deposit("mall", 1_000)
    merchant = await front.http.put(
        "/v1/accounts/mall/profile", json={"kind": "merchant"}, headers=front.as_user("root", "admin")
    )
    assert merchant.status_code == 200
    matched = await post(front, f"{path}/matches", {"percent": 50, "budget_fen": 400}, "mall")
    assert (matched.status_code, matched.json()["match_id"]) == (201, "1")
    key = new_key()
    gift = {"amount_fen": 80, "message": "加油", "is_anonymous": True}
    given = await post(front, f"{path}/gifts", gift, "ada", **key)
    assert (given.status_code, given.json()["matched_fen"]) == (201, 40)
    again = await post(front, f"{path}/gifts", gift, "ada", **key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (given.json(), "true")
    seen = (await read(front, path)).json()
    assert (seen["state"], seen["raised_fen"], seen["is_goal_reached"], seen["gift_count"]) == ("open", 120, True, 1)
    assert seen["left_ms"] == seen["ends_at_ms"] - seen["now_ms"] > 0
    assert seen["matches"][0] == {
        "match_id": "1",
        "merchant": "mall",
        "percent": 50,
        "budget_fen": 400,
        "matched_fen": 40,
    }
    assert [gift["giver"] for gift in (await read(front, f"{path}/gifts", "bob")).json()["gifts"]] == [None]
    assert [gift["giver"] for gift in (await read(front, f"{path}/gifts", "ada")).json()["gifts"]] == ["ada"]
    listed = (await read(front, f"{path}/gifts", "root", "admin")).json()
    assert ([gift["giver"] for gift in listed["gifts"]], listed["next"]) == (["ada"], None)
    refused = await post(front, f"{path}/end", None, "ada")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_sender")
    ended = await post(front, f"{path}/end", None)
    assert (ended.status_code, ended.json()["state"], ended.json()["left_ms"]) == (200, "ending", 0)
    late = await post(front, f"{path}/gifts", {"amount_fen": 1}, "ada")
    assert (late.status_code, late.json()["code"], fields(late)) == (409, "fundraiser_ended", ["fundraiser_id"])
    receipt = (await read(front, f"{path}/gifts/1/receipt")).json()
    assert receipt["facts"]["state"] == "held"
    async with sweeping(settings):

        async def is_paid_out() -> bool:
            return bool((await read(front, path)).json()["state"] == "paid_out")

        await wait_until(is_paid_out, what="the payout")
    wallets = [(await read(front, f"/v1/wallets/{user}", user)).json() for user in ("ada", "mall", "school")]
    assert [wallet["balance_fen"] for wallet in wallets] == [920, 960, 120]
    receipt = (await read(front, f"{path}/gifts/1/receipt")).json()
    assert (receipt["facts"]["state"], len(receipt["hash"])) == ("paid_out", 64)
    hidden = await read(front, f"{path}/gifts/1/receipt", "bob")
    assert (hidden.status_code, hidden.json()["code"], fields(hidden)) == (404, "unknown_gift", ["gift_id"])
    lines = (await read(front, "/v1/users/org/fundraisers", "org")).json()["fundraisers"]
    assert [(line["fundraiser_id"], line["state"], line["raised_fen"]) for line in lines] == [("1", "paid_out", 120)]
    assert (await read(front, "/v1/users/org/fundraisers", "ada")).status_code == 403


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 61}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": 5}, "title"),
        ({"story": "x" * 5_001}, "story"),
        ({"story": "a\u202eb"}, "story"),
        ({"goal_fen": 0}, "goal_fen"),
        ({"goal_fen": 10**15 + 1}, "goal_fen"),
        ({"goal_fen": 2**63}, "goal_fen"),
        ({"goal_fen": 1.5}, "goal_fen"),
        ({"goal_fen": True}, "goal_fen"),
        ({"ends_at_ms": 1}, "ends_at_ms"),
        ({"ends_at_ms": TOMORROW_MS + 91 * 86_400_000}, "ends_at_ms"),
        ({"ends_at_ms": 2**70}, "ends_at_ms"),
        ({"beneficiary": "a b"}, "beneficiary"),
        ({"beneficiary": ""}, "beneficiary"),
        ({"mode": "some"}, "mode"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_fundraiser_is_refused_by_its_field(front: Client, changed: Json, named: str) -> None:
    answer = await post(front, "/v1/fundraisers", BODIES["make_fundraiser"] | changed)
    assert (answer.status_code, fields(answer)) == (422, [named])


@pytest.mark.parametrize("missing", ["title", "goal_fen", "ends_at_ms", "beneficiary", "mode"])
async def test_what_a_fundraiser_needs_is_named(front: Client, missing: str) -> None:
    body = {name: value for name, value in BODIES["make_fundraiser"].items() if name != missing}
    answer = await post(front, "/v1/fundraisers", body)
    assert (answer.status_code, fields(answer)) == (422, [missing])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "amount_fen"),
        ({"amount_fen": 0}, "amount_fen"),
        ({"amount_fen": -5}, "amount_fen"),
        ({"amount_fen": 20_000_001}, "amount_fen"),
        ({"amount_fen": 2**63}, "amount_fen"),
        ({"amount_fen": "5"}, "amount_fen"),
        ({"amount_fen": 5, "packet_id": UNKNOWN}, "amount_fen"),
        ({"packet_id": "5"}, "packet_id"),
        ({"amount_fen": 5, "message": "x" * 201}, "message"),
        ({"amount_fen": 5, "message": "\u0000"}, "message"),
        ({"amount_fen": 5, "is_anonymous": 1}, "is_anonymous"),
        ({"amount_fen": 5, "asset": "POINTS"}, "asset"),
    ],
)
async def test_a_bad_gift_is_refused_by_its_field(front: Client, body: Json, named: str) -> None:
    await front.deposit("ada", 100_000_000)
    answer = await post(front, f"{await made(front)}/gifts", body, "ada")
    assert (answer.status_code, fields(answer)) == (422, [named])


async def test_what_a_gift_is_refused_for_is_told(front: Client) -> None:
    path = await made(front)
    answer = await post(front, f"{path}/gifts", {"amount_fen": 5}, "ada")
    assert (answer.status_code, answer.json()["code"], fields(answer)) == (409, "insufficient_funds", ["amount_fen"])
    answer = await post(front, f"{path}/gifts", {"packet_id": UNKNOWN}, "ada")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_in_ledger")
    for number, status, code in (("77", 404, "unknown_fundraiser"), ("0", 404, "not_found"), ("x", 404, "not_found")):
        for answer in (
            await post(front, f"/v1/fundraisers/{number}/gifts", {"amount_fen": 5}, "ada"),
            await post(front, f"/v1/fundraisers/{number}/end", None, "ada"),
            await read(front, f"/v1/fundraisers/{number}"),
            await read(front, f"/v1/fundraisers/{number}/gifts"),
            await read(front, f"/v1/fundraisers/{number}/gifts/1/receipt"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await read(front, f"{path}/gifts/0/receipt")).status_code == 404
    answer = await read(front, f"{path}/gifts?after=x")
    assert (answer.status_code, fields(answer)) == (422, ["after"])
    without = await front.http.post(f"{path}/gifts", json={"amount_fen": 5}, headers=front.as_user("ada"))
    assert (without.status_code, without.json()["code"]) == (400, "idempotency_key_required")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"percent": 0, "budget_fen": 5}, "percent"),
        ({"percent": 1_001, "budget_fen": 5}, "percent"),
        ({"percent": 1.5, "budget_fen": 5}, "percent"),
        ({"percent": 5, "budget_fen": 0}, "budget_fen"),
        ({"percent": 5, "budget_fen": 2**63}, "budget_fen"),
        ({"percent": 5}, "budget_fen"),
        ({"budget_fen": 5}, "percent"),
    ],
)
async def test_a_bad_match_is_refused_by_its_field(front: Client, body: Json, named: str) -> None:
    answer = await post(front, f"{await made(front)}/matches", body, "mall")
    assert (answer.status_code, fields(answer)) == (422, [named])
