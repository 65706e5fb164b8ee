"""Sets of cards over HTTP: the whole of it as clients do it, repeats, and what is said of bad input."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.access.tokens import load_secret
from engine.engine import Engine
from engine.settings import Settings
from tests.support.asking import BODIES
from tests.support.both_ways import Opened, open_app
from tests.support.collectors import draw, end
from tests.support.front import CHECKED, Client, Json, new_key

SET = "/v1/card-sets/1"


@pytest.fixture
async def behind(settings: Settings) -> AsyncIterator[Opened]:
    async with open_app(settings) as opened:
        yield opened


@pytest.fixture
def engine(behind: Opened) -> Engine:
    """The one behind the front."""
    return behind.front.engine


@pytest.fixture
async def front(settings: Settings, behind: Opened) -> AsyncIterator[Client]:
    """With a set of the merchant mall's, its number 1."""
    transport = httpx.ASGITransport(behind.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://front", event_hooks=CHECKED) as http:
        client = Client(http, load_secret(settings))
        await client.deposit("mall", 1_000)
        admin = client.as_user("root", "admin")
        await http.put("/v1/accounts/mall/profile", json={"kind": "merchant"}, headers=admin)
        made = await post(client, "mall", "/v1/card-sets", BODIES["make_card_set"])
        assert (made.status_code, made.json()["set_id"]) == (201, "1")
        yield client


async def post(
    client: Client, user: str, path: str, body: Json | None = None, key: dict[str, str] | None = None
) -> httpx.Response:
    headers = client.as_user(user, "send", "claim") | (key or new_key())
    return await client.http.post(path, json=body, headers=headers)


def fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


async def give(client: Client, user: str, *cards: int) -> None:
    for card in cards:
        answer = await post(client, "mall", f"{SET}/gifts", {"card": card, "to_user": user})
        assert answer.status_code == 201, answer.text


async def test_two_users_exchange_complete_and_share(front: Client, engine: Engine) -> None:
    await give(front, "ada", 1, 1)
    await give(front, "bob", 2, 2)
    offered = await post(front, "ada", f"{SET}/offers", {"give": 1, "want": 2, "to_user": "bob"})
    assert (offered.status_code, offered.json()["state"]) == (201, "open")
    number = offered.json()["offer_id"]
    accepted = await post(front, "bob", f"/v1/card-offers/{number}/accept")
    assert (accepted.status_code, accepted.json()["accepted_by"]) == (200, "bob")
    for user in ("ada", "bob"):
        completed = await post(front, user, f"{SET}/completions")
        assert completed.status_code == 201, completed.text
    view = (await front.http.get(SET, headers=front.as_user("eve"))).json()
    assert (view["state"], view["completers"]) == ("collecting", 2)
    await end(engine, "1")
    await draw(engine)
    part = (await front.http.get("/v1/users/ada/cards?set_id=1", headers=front.as_user("ada"))).json()
    assert part["paid_at_ms"] is not None
    shares = (await front.http.get(f"{SET}/shares", headers=front.as_user("eve"))).json()["shares"]
    assert sum(line["share_fen"] for line in shares) == 100
    wallet = (await front.http.get("/v1/wallets/ada", headers=front.as_user("ada"))).json()
    assert wallet["balance_fen"] == part["share_fen"]
    proof = await front.http.get(f"{SET}/proof", headers=front.as_user("eve"))
    assert (proof.status_code, proof.json()["completers"]) == (200, 2)
    paid = await post(front, "ada", f"{SET}/prize")
    assert (paid.status_code, paid.json()["share_fen"]) == (200, part["share_fen"])
    late = await post(front, "ada", f"{SET}/gifts", {"card": 1, "to_user": "bob"})
    assert (late.status_code, late.json()["code"], fields(late)) == (409, "card_set_ended", ["set_id"])


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("gifts", {"card": 1, "to_user": "bob"}, {"card": 2, "to_user": "bob"}),
        ("offers", {"give": 1, "want": 2}, {"give": 2, "want": 1}),
        ("completions", None, None),
        ("grants", {"user_id": "ada", "reason": "a"}, {"user_id": "ada", "reason": "b"}),
    ],
)
async def test_a_repeat_is_answered_as_it_was_and_moves_nothing(
    front: Client, engine: Engine, path: str, body: Json | None, other: Json | None
) -> None:
    await give(front, "ada", 1, 2)
    key = new_key()
    headers = front.as_user("ada", "send", "claim") if path != "grants" else front.as_backend()

    async def ask(body: Json | None) -> httpx.Response:
        return await front.http.post(f"{SET}/{path}", json=body, headers=headers | key)

    first = await ask(body)
    assert first.status_code == 201, first.text
    moved = await engine.pool.fetchval("SELECT count(*) FROM transfers")
    if path != "grants":  # which no account of the backend's has to do with
        await engine.freezes.freeze("ada", reason="odd", frozen_by="root")
    again = await ask(body)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert await engine.pool.fetchval("SELECT count(*) FROM transfers") == moved
    if other is not None:
        changed = await ask(other)
        assert (changed.status_code, changed.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_key_is_of_one_set(front: Client) -> None:
    made = await post(front, "mall", "/v1/card-sets", BODIES["make_card_set"])
    assert made.json()["set_id"] == "2"
    await give(front, "ada", 1, 2)
    key = new_key()
    assert (await post(front, "ada", f"{SET}/completions", key=key)).status_code == 201
    other = await post(front, "ada", "/v1/card-sets/2/completions", key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


_CARDS: list[dict[str, Any]] = BODIES["make_card_set"]["cards"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"name": ""}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"cards": _CARDS[:1]}, ["cards"]),
        ({"cards": [_CARDS[0] | {"count": 1.5}, _CARDS[1]]}, ["cards[0].count"]),
        ({"cards": [_CARDS[0] | {"count": 49}, _CARDS[1]]}, ["cards[0].granted_count"]),
        ({"cards": [_CARDS[0] | {"weight": 1}, _CARDS[1]]}, ["cards[0].weight"]),
        ({"cards": [_CARDS[0], _CARDS[0]]}, ["cards[1].name"]),
        ({"wild": {"name": "w", "count": 0}}, ["wild.count"]),
        ({"pool_fen": 99}, ["pool_fen"]),
        ({"pool_fen": 2**60}, ["pool_fen"]),
        ({"split": "even"}, ["split"]),
        ({"payout": "later"}, ["payout"]),
        ({"payout": "claimable"}, ["claim_seconds"]),
        ({"min_fen": 2}, ["pool_fen"]),
        ({"ends_at_ms": 1}, ["ends_at_ms"]),
        ({"draws_at_ms": 1}, ["draws_at_ms"]),
        ({"grants_a_user_max": 0}, ["grants_a_user_max"]),
        ({"asset": "POINTS"}, ["asset"]),
    ],
)
async def test_a_bad_set_is_refused_by_its_field(front: Client, changed: Json, named: list[str]) -> None:
    answer = await post(front, "mall", "/v1/card-sets", BODIES["make_card_set"] | changed)
    assert (answer.status_code, fields(answer)) == (422, named), answer.text


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("gifts", {"card": 3, "to_user": "bob"}, ["card"]),
        ("gifts", {"card": 0, "to_user": "bob"}, ["card"]),
        ("gifts", {"card": 1, "to_user": "mall"}, ["to_user"]),
        ("gifts", {"card": 1, "to_user": ".."}, ["to_user"]),
        ("gifts", {}, ["card", "to_user"]),
        ("offers", {"give": 1, "want": 1}, ["want"]),
        ("offers", {"give": 9, "want": 1}, ["give"]),
        ("offers", {"give": 1, "want": 2, "seconds": 5}, ["seconds"]),
        ("offers", {"give": 1, "want": 2, "to_user": "mall"}, ["to_user"]),
        ("offers", {"give": 1, "want": 2, "to_user": ""}, ["to_user"]),
    ],
)
async def test_a_bad_request_of_a_collector_is_refused_by_its_field(
    front: Client, path: str, body: Json, named: list[str]
) -> None:
    answer = await post(front, "mall", f"{SET}/{path}", body)
    assert (answer.status_code, fields(answer)) == (422, named), answer.text


@pytest.mark.parametrize(
    "body", [{"user_id": "ada"}, {"user_id": "ada", "reason": ""}, {"user_id": "ada", "reason": "\u202e"}]
)
async def test_a_grant_needs_a_reason(front: Client, body: Json) -> None:
    answer = await front.http.post(f"{SET}/grants", json=body, headers=front.as_backend() | new_key())
    assert (answer.status_code, fields(answer)) == (422, ["reason"])


async def test_what_is_not_there_is_not_found(front: Client) -> None:
    for path in ("gifts", "offers", "completions", "prize"):
        bodies: dict[str, Json] = {"gifts": {"card": 1, "to_user": "bob"}, "offers": {"give": 1, "want": 2}}
        body = bodies.get(path)
        answer = await post(front, "ada", f"/v1/card-sets/9/{path}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_card_set")
    for path in ("accept", "decline", "withdraw"):
        answer = await post(front, "ada", f"/v1/card-offers/9/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_card_offer")
    for path, field in (
        ("/v1/users/ada/cards", "set_id"),
        ("/v1/users/ada/cards?set_id=x", "set_id"),
        ("/v1/users/ada/card-offers", "role"),
        ("/v1/users/ada/card-offers?role=made&after=x", "after"),
    ):
        answer = await front.http.get(path, headers=front.as_user("ada"))
        assert (answer.status_code, fields(answer)) == (422, [field])


async def test_cards_are_not_issued_or_sent_past_the_set(front: Client) -> None:
    await give(front, "ada", 1)
    admin = front.as_user("root", "admin")
    asset = {"asset": "CARD_1_1"}
    deposit = await front.http.post(
        "/v1/wallets/ada/deposits", json={"amount_fen": 1} | asset, headers=admin | new_key()
    )
    packet = await post(front, "ada", "/v1/packets", {"total_fen": 1, "count": 1, "split": "equal"} | asset)
    transfer = await post(front, "ada", "/v1/transfers", {"to": "bob", "amount_fen": 1} | asset)
    for answer in (deposit, packet, transfer):
        assert (answer.status_code, fields(answer)) == (422, ["asset"])
    defined = await front.http.put("/v1/assets/CARD_7_7", json={"scale": 0, "name": "a"}, headers=admin)
    assert (defined.status_code, defined.json()["code"]) == (409, "asset_exists")
