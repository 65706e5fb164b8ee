"""Plays that are made of packets: a rain in waves, five cards to collect, coupons, a collection for somebody."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from engine.engine import Engine
from engine.settings import Settings
from tests.support.front import Client, new_key, open_front
from tests.support.scenes import assert_books_balance, caught_up, persisting, settled

CARDS = ("harmony", "love", "wealth", "friendship", "kindness")


@pytest.fixture
async def front(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client:
        yield client


async def test_a_rain_is_one_pool_and_waves_of_hands(front: Client, settings: Settings) -> None:
    packet_id = await front.send("mall", total_fen=90_000, count=900, label="rain-1")
    told: Counter[str] = Counter()
    fen = 0
    for wave in range(3):
        hands = [f"hand{wave * 200 + number}" for number in range(600)]  # some tap in more than one wave
        claims = {"claims": [{"packet_id": packet_id, "user_id": hand} for hand in hands]}
        answer = await front.http.post("/v1/claims", json=claims, headers=front.as_backend())
        for result in answer.json()["results"]:
            told[result["outcome"]] += 1
            fen += result["amount_fen"] if result["outcome"] == "claimed" else 0
    assert told == {"claimed": 900, "already_claimed": 800, "sold_out": 100}
    assert fen == 90_000
    async with persisting(settings), Engine.open(settings) as engine:
        await settled(engine, packet_id)
        await assert_books_balance(engine.pool)


async def test_who_has_all_five_cards_shares_the_pool(front: Client) -> None:
    """Each card is a packet of shares of one fen in a purse of its own; the pool is for those who have all of them."""
    cards = {card: await front.send("cards", total_fen=4, count=4, split="equal") for card in CARDS}
    lucky = {"ada": CARDS, "bob": CARDS, "eve": CARDS[:4], "zoe": CARDS[1:]}
    for user, drawn in lucky.items():
        for card in drawn:
            assert (await front.claim(cards[card], user))["outcome"] == "claimed"
    holders = []
    for packet_id in cards.values():
        page = await front.http.get(f"/v1/packets/{packet_id}/claims", headers=front.as_user("mall"))
        holders.append({claim["user_id"] for claim in page.json()["claims"]})
    completers = sorted(set.intersection(*holders))
    assert completers == ["ada", "bob"]
    pool = await front.send("mall", total_fen=2_000, count=2, split="equal", recipients=completers)
    for user in lucky:
        answer = await front.http.post(f"/v1/packets/{pool}/claims", headers=front.as_user(user))
        assert answer.status_code == (200 if user in completers else 403), answer.text


async def test_coupons_are_an_asset_of_their_own(front: Client, settings: Settings) -> None:
    admin = front.as_user("root", "admin")
    made = await front.http.put("/v1/assets/TWENTY_OFF", json={"scale": 0, "name": "八折券"}, headers=admin)
    assert made.status_code == 200, made.text
    body = {"amount_fen": 3, "asset": "TWENTY_OFF"}
    issued = await front.http.post("/v1/wallets/shop/deposits", json=body, headers=admin | new_key())
    assert (issued.status_code, issued.json()["balance_fen"]) == (201, 3)
    terms = {"total_fen": 3, "count": 3, "split": "equal", "asset": "TWENTY_OFF"}
    sent = await front.http.post("/v1/packets", json=terms, headers=front.as_user("shop", "send") | new_key())
    assert sent.status_code == 201, sent.text
    packet_id = sent.json()["packet_id"]
    won = [(await front.claim(packet_id, user))["amount_fen"] for user in ("ada", "bob", "eve", "zoe")]
    assert won == [1, 1, 1, 0]
    async with persisting(settings), Engine.open(settings) as engine:
        await caught_up(engine)
    held = await front.http.get("/v1/wallets/ada/holdings", headers=front.as_user("ada"))
    assert held.json() == {
        "holdings": [{"asset": "TWENTY_OFF", "scale": 0, "name": "八折券", "balance_fen": 1}],
        "next": None,
    }
    wallet = await front.http.get("/v1/wallets/ada", headers=front.as_user("ada"))
    assert wallet.json() == {"user_id": "ada", "balance_fen": 0, "currency": "CNY", "scale": 2}


async def test_many_give_to_one(front: Client, settings: Settings) -> None:
    givers = [f"giver{number}" for number in range(10)]

    async def give(giver: str) -> str:
        await front.deposit(giver, 500)
        body = {"to": "school", "amount_fen": 500, "arrives_after_s": 7_200, "note": "books"}
        answer = await front.http.post("/v1/transfers", json=body, headers=front.as_user(giver) | new_key())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["transfer_id"])

    gifts = await asyncio.gather(*map(give, givers))
    called_off = await front.http.post(f"/v1/transfers/{gifts[0]}/cancellation", headers=front.as_user(givers[0]))
    assert called_off.json()["state"] == "cancelled"
    states = [
        (await front.http.get(f"/v1/transfers/{gift}", headers=front.as_user("school"))).json()["state"]
        for gift in gifts
    ]
    assert states == ["cancelled", *["delayed"] * 9]
