"""A proper request to every endpoint, by its operation's name."""

import time

import httpx

from api.dispatch import Operation
from tests.support.front import Client, Json, new_key
from tests.support.paths import path_of

TOMORROW_MS = int(time.time() * 1000) + 86_400_000
UNKNOWN = f"10000{'0' * 14}"
"""A packet number that no packet has."""
COUPON_BATCH: Json = {
    "name": "five off",
    "face": {"kind": "amount_off", "off_fen": 500},
    "count": 2,
    "valid_from_ms": 0,
    "valid_until_ms": TOMORROW_MS,
}
BODIES: dict[str, Json] = {
    "send_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "preview_packet": {"total_fen": 100, "count": 2, "split": "lucky"},
    "claim": {},
    "claim_many": {"claims": [{"packet_id": UNKNOWN, "user_id": "bob"}]},
    "deposit": {"amount_fen": 1},
    "retract_packet": {},
    "send_transfer": {"to": "bob", "amount_fen": 1},
    "freeze_account": {"reason": "odd"},
    "put_profile": {"kind": "person"},
    "put_label": {"day_sent_fen_max": 1},
    "put_display": {"name": "小明"},
    "put_wechatpay_merchant": {"account": "shop", "appids": ["wx8888888888888888"]},
    "renew_wechatpay_key": {"key": "v2"},
    "put_asset": {"scale": 0, "name": "points"},
    "make_campaign": {
        "name": "rain",
        "waves": [
            {"starts_at_ms": TOMORROW_MS, "seconds": 60, "prizes": [{"total_fen": 2, "count": 2, "split": "lucky"}]}
        ],
        "who": "admitted",
    },
    "extend_wave": {"ends_at_ms": TOMORROW_MS + 90_000},
    "grant_wins": {"wins": 1},
    "make_fundraiser": {
        "title": "library",
        "goal_fen": 100,
        "ends_at_ms": TOMORROW_MS,
        "beneficiary": "school",
        "mode": "all_or_nothing",
    },
    "give": {"amount_fen": 1},
    "match_gifts": {"percent": 100, "budget_fen": 1},
    "grab": {},
    "grab_many": {"grabs": [{"campaign_id": "1", "user_id": "bob"}]},
    "make_coupon_batch": COUPON_BATCH,
    "upload_coupon_codes": {"codes": ["code-1", "code-2"]},
    "redeem_coupon_code": {"code": "code-9"},
    "redeem_coupon": {},
    "void_coupon": {},
    "transfer_coupon": {"to": "bob"},
    "make_card_set": {
        "name": "cards",
        "cards": [{"name": name, "count": 100, "granted_count": 50} for name in "ab"],
        "pool_fen": 100,
        "split": "lucky",
        "payout": "at_once",
        "grants_a_user_max": 1_000,
        "ends_at_ms": TOMORROW_MS,
        "draws_at_ms": TOMORROW_MS,
    },
    "give_card": {"card": 1, "to_user": "bob"},
    "grant_card": {"user_id": "bob", "reason": "shared"},
    "offer_card": {"give": 1, "want": 2},
    "file_dispute": {"kind": "system_fault", "number": UNKNOWN, "at_ms": 1, "evidence": ["x"]},
    "decide_dispute": {"outcome": "rejected", "reason": "x"},
    "choose_arrival_delay": {"arrives_after_s": 0},
    "set_payment_password": {"password": "135790", "current_password": "135790"},
    "withdraw": {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": "135790"},
}
NAMES_A_USER = (
    "get_wallet",
    "get_statement",
    "list_transfers",
    "list_packets",
    "get_suggestions",
    "get_arrival_delay",
    "list_withdrawals",
    "list_holdings",
    "list_campaigns",
    "list_wins",
    "get_display",
    "list_fundraisers",
    "list_coupons",
    "list_coupon_batches",
    "get_cards",
    "list_card_offers",
    "list_card_sets",
)
"""Operations whose path names a user."""
QUERIES = {
    "list_packets": {"role": "sent"},
    "lift_freeze": {"reason": "all is well"},
    "get_cards": {"set_id": "1"},
    "list_card_offers": {"role": "made"},
}


async def ask(client: Client, row: Operation, headers: dict[str, str], packet_id: str = UNKNOWN) -> httpx.Response:
    """A proper request for alice's things."""
    return await client.http.request(
        row.method,
        path_of(row, packet_id),
        params=QUERIES.get(row.name),
        json=BODIES.get(row.name),
        headers=new_key() | headers,
    )


async def make_set_of_cards(client: Client) -> None:
    """Alice's, who has the money for it, has completed it, and has offered a card to anyone."""
    admin, alice = client.as_user("root", "admin"), client.as_user("alice", "send", "claim")
    await client.http.put("/v1/accounts/alice/profile", json={"kind": "merchant"}, headers=admin)
    for path, body in (
        ("/v1/card-sets", BODIES["make_card_set"]),
        ("/v1/card-sets/1/completions", None),
        ("/v1/card-sets/1/offers", BODIES["offer_card"]),
    ):
        answer = await client.http.post(path, json=body, headers=alice | new_key())
        assert answer.status_code == 201, answer.text
