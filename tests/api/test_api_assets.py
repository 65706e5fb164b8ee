"""Assets over HTTP: who may make them, and what is said of a bad one."""

from collections.abc import AsyncIterator

import pytest

from engine.settings import Settings
from tests.support.front import Client, Json, new_key, open_front


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


def fields(answer: Json) -> list[str]:
    return [error["field"] for error in answer["errors"]]


async def test_an_asset_is_made_by_an_admin_and_seen_by_everybody(front: Client) -> None:
    body, admin = {"scale": 1, "name": "积分"}, front.as_user("root", "admin")
    refused = await front.http.put("/v1/assets/POINTS", json=body, headers=front.as_user("ada"))
    assert refused.status_code == 403
    made = await front.http.put("/v1/assets/POINTS", json=body, headers=admin)
    assert made.status_code == 200
    assert made.json() | {"created_at_ms": 0} == {
        "asset": "POINTS",
        "scale": 1,
        "name": "积分",
        "created_at_ms": 0,
        "issued_fen": 0,
    }
    again = await front.http.put("/v1/assets/POINTS", json=body, headers=admin)
    assert (again.status_code, again.json()) == (200, made.json())
    other = await front.http.put("/v1/assets/POINTS", json=body | {"scale": 2}, headers=admin)
    assert (other.status_code, other.json()["code"], fields(other.json())) == (409, "asset_exists", ["asset"])
    seen = await front.http.get("/v1/assets/POINTS", headers=front.as_user("ada"))
    assert seen.json() == made.json()
    listed = await front.http.get("/v1/assets", headers=front.as_user("ada"))
    assert listed.json() == {"assets": [made.json()], "next": None}
    unknown = await front.http.get("/v1/assets/MILES", headers=front.as_user("ada"))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_asset")


@pytest.mark.parametrize(
    ("asset", "body", "named"),
    [
        ("points", {"scale": 0, "name": "a"}, "asset"),
        ("PT", {"scale": 0, "name": "a"}, "asset"),
        ("P" * 33, {"scale": 0, "name": "a"}, "asset"),
        ("POINTS", {"scale": 7, "name": "a"}, "scale"),
        ("POINTS", {"scale": -1, "name": "a"}, "scale"),
        ("POINTS", {"scale": 1.0, "name": "a"}, "scale"),
        ("POINTS", {"scale": True, "name": "a"}, "scale"),
        ("POINTS", {"name": "a"}, "scale"),
        ("POINTS", {"scale": 0}, "name"),
        ("POINTS", {"scale": 0, "name": ""}, "name"),
        ("POINTS", {"scale": 0, "name": "a" * 41}, "name"),
        ("POINTS", {"scale": 0, "name": "a\u202eb"}, "name"),
        ("POINTS", {"scale": 0, "name": "a", "colour": "red"}, "colour"),
    ],
)
async def test_a_bad_asset_is_refused_by_its_field(front: Client, asset: str, body: Json, named: str) -> None:
    answer = await front.http.put(f"/v1/assets/{asset}", json=body, headers=front.as_user("root", "admin"))
    assert (answer.status_code, fields(answer.json())) == (422, [named])


async def test_the_ledgers_currency_is_no_other_asset(front: Client) -> None:
    admin = front.as_user("root", "admin")
    answer = await front.http.put("/v1/assets/CNY", json={"scale": 2, "name": "yuan"}, headers=admin)
    assert (answer.status_code, fields(answer.json())) == (409, ["asset"])
    body = {"amount_fen": 5, "asset": "CNY"}
    answer = await front.http.post("/v1/wallets/ada/deposits", json=body, headers=admin | new_key())
    assert (answer.status_code, answer.json()["asset"]) == (201, "CNY")
    wallet = await front.http.get("/v1/wallets/ada?asset=CNY", headers=front.as_user("ada"))
    assert wallet.json()["balance_fen"] == 5


@pytest.mark.parametrize("asset", ["MILES", "miles", "", "A" * 65])
async def test_an_asset_that_there_is_not_is_named_wherever_one_is_given(front: Client, asset: str) -> None:
    user, admin = front.as_user("ada", "send"), front.as_user("root", "admin")
    packet = {"total_fen": 10, "count": 2, "split": "equal", "asset": asset}
    transfer = {"to": "bob", "amount_fen": 1, "asset": asset}
    answers = [
        await front.http.post(
            "/v1/wallets/ada/deposits", json={"amount_fen": 1, "asset": asset}, headers=admin | new_key()
        ),
        await front.http.post("/v1/packets", json=packet, headers=user | new_key()),
        await front.http.post("/v1/packets/preview", json=packet, headers=user),
        await front.http.post("/v1/transfers", json=transfer, headers=user | new_key()),
        *[
            await front.http.get(path, params={"asset": asset} | role, headers=front.as_user("ada"))
            for path, role in (
                ("/v1/wallets/ada", {}),
                ("/v1/wallets/ada/transfers", {}),
                ("/v1/wallets/ada/statement.csv", {}),
                ("/v1/users/ada/packets", {"role": "sent"}),
            )
        ],
    ]
    assert [(answer.status_code, fields(answer.json())) for answer in answers] == [(422, ["asset"])] * len(answers)


async def test_holdings_are_read_by_their_user_only(front: Client) -> None:
    answer = await front.http.get("/v1/wallets/ada/holdings", headers=front.as_user("bob"))
    assert answer.status_code == 403
    answer = await front.http.get("/v1/wallets/ada/holdings?after=x", headers=front.as_user("ada"))
    assert (answer.status_code, fields(answer.json())) == (422, ["after"])
