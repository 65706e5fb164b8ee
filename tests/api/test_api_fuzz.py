"""Changed bodies by the thousand at every endpoint that takes one: no 5xx, only documented answers, and sound books.

``--fuzz-inputs`` says how many in all, ``--fuzz-seed`` which; `make fuzz` tries ten times as many.
"""

from collections import Counter
from functools import cache
from uuid import uuid4

import orjson
import pytest

from api.dispatch import Operation
from api.documents.openapi import statuses
from api.failures import codes_by_status, failures_of
from api.routes import ROUTES
from engine.access.tokens import issue, load_secret
from engine.auditing.audit import audit
from engine.campaigns.terms import Entry, Who
from engine.risk.limits import AccountKind
from engine.settings import Settings
from tests.support.asking import BODIES
from tests.support.both_ways import Asked, Opened, Reply, ask_long, open_app
from tests.support.coupons import make_batch, with_keys
from tests.support.front import Json
from tests.support.mutation import Mutator
from tests.support.paths import path_of
from tests.support.rains import make
from tests.support.scenes import caught_up, fund, persisting, send

POSTS = tuple(row for row in ROUTES if row.body is not None)
MONEY_FEN = 5_000_000
PASSWORD = "135790"
PROPER = {
    "retract_packet": (200, 409),
    "file_dispute": (201, 409, 422),
    "decide_dispute": (404,),
    "put_asset": (200, 409),
    "renew_wechatpay_key": (200, 404),
    "grab": (200, 403),
    "extend_wave": (403,),
    "give": (201, 404),
    "match_gifts": (201, 404, 409),
    "make_fundraiser": (201, 409),
    "upload_coupon_codes": (200, 409),
    "redeem_coupon_code": (404,),
    "redeem_coupon": (404,),
    "void_coupon": (404,),
    "transfer_coupon": (404,),
    "give_card": (201, 404, 409),
    "grant_card": (201, 404, 409),
    "offer_card": (201, 404, 409),
}
"""What a proper request is answered where it is no success: the packet is claimed from, nothing is disputed, and nobody
has a coupon."""
TYPES = (b"application/json",) * 16 + (
    b"application/json; charset=utf-8",
    b"text/plain",
    b"",
    b"application/json;x=\xff",
)


def proper_bodies(packet_id: str) -> dict[str, Json]:
    packet: Json = {"total_fen": 1_000, "count": 10, "split": "lucky", "min_fen": 1, "max_fen": 500, "ttl_s": 60}
    packet |= {"greeting": '恭喜 "\\ 发财', "recipients": [f"user{number}" for number in range(12)]}
    claims = [{"packet_id": packet_id, "user_id": user} for user in ("bob", "carol", "a.b_c:d@e-1")]
    return {
        "send_packet": packet,
        "preview_packet": packet,
        "claim": {},
        "claim_many": {"claims": claims},
        "deposit": {"amount_fen": 1},
        "retract_packet": {"confirm": True},
        "send_transfer": {"to": "bob", "amount_fen": 1, "confirm_within_s": 120, "note": "hi"},
        "choose_arrival_delay": {"arrives_after_s": 0},
        "set_payment_password": {"password": PASSWORD},
        "withdraw": {"amount_fen": 1, "bank_account": "6222020200112233", "payment_password": PASSWORD},
        "freeze_account": {"reason": "odd", "scope": "account"},
        "put_profile": {"kind": "merchant", "addresses": ["192.0.2.0/24"], "day_sent_fen_max": 5},
        "put_label": {"day_sent_fen_max": 5},
        "put_wechatpay_merchant": {
            "account": "shop",
            "appids": ["wx1"],
            "certificates": ["ab" * 32],
            "is_closed": True,
        },
        "renew_wechatpay_key": {"key": "v3"},
        "put_asset": {"scale": 2, "name": "积分"},
        "put_display": {"name": "小明"},
        "make_campaign": BODIES["make_campaign"],
        "grab": {"admission": "x"},
        "extend_wave": BODIES["extend_wave"],
        "grant_wins": BODIES["grant_wins"],
        "make_fundraiser": BODIES["make_fundraiser"] | {"story": "hi"},
        "give": {"amount_fen": 1, "is_anonymous": True, "message": "hi"},
        "match_gifts": {"percent": 100, "budget_fen": 1},
        "grab_many": BODIES["grab_many"],
        "make_coupon_batch": BODIES["make_coupon_batch"] | {"is_transferable": True},
        "upload_coupon_codes": BODIES["upload_coupon_codes"],
        "redeem_coupon_code": {"code": "code-1", "note": "order"},
        "redeem_coupon": {"note": "order"},
        "void_coupon": {"note": "odd"},
        "transfer_coupon": {"to": "bob"},
        "make_card_set": BODIES["make_card_set"],
        "give_card": BODIES["give_card"],
        "grant_card": BODIES["grant_card"],
        "offer_card": BODIES["offer_card"],
        "file_dispute": {"kind": "fraud", "number": packet_id, "at_ms": 1, "counterparty": "bob", "evidence": ["a"]},
        "decide_dispute": {"outcome": "rejected", "reason": "odd"},
    }


def acting(row: Operation, number: int) -> str:
    """Who asks, of his own things: alice, who is never frozen, but where a second proper request is another matter."""
    if row.name == "set_payment_password":
        return f"user-{number}"
    is_mallorys = row.path.startswith("/v1/accounts") or row.name == "extend_wave"  # an end moves on once
    return "mallory" if is_mallorys else "alice"


@cache
def documented(name: str) -> tuple[frozenset[int], dict[int, tuple[str, ...]]]:
    """The statuses that an endpoint may answer, and the codes of each that is an error."""
    (row,) = [row for row in POSTS if row.name == name]
    codes = codes_by_status(failures_of(row))
    return frozenset(statuses(row)), {status: tuple(found) for status, found in codes.items()}


def assert_documented(row: Operation, body: bytes, reply: Reply | None) -> None:
    assert reply is not None
    told = (row.name, body[:2_000], reply)
    assert reply.status < 500, told
    known, codes = documented(row.name)
    assert reply.status in known, told
    headers = dict(reply.headers)
    answer = orjson.loads(reply.body)
    assert int(headers[b"content-length"]) == len(reply.body), told
    if reply.status >= 400:
        assert headers[b"content-type"] == b"application/problem+json", told
        assert (answer["status"], bool(answer["detail"])) == (reply.status, True), told
        assert answer["code"] in codes[reply.status], told
    else:
        assert headers[b"content-type"] == b"application/json", told


async def fuzz(opened: Opened, mutator: Mutator, inputs: int, token: str) -> Counter[tuple[str, int]]:
    """How often each endpoint answered which status."""
    packet_id = (await send(opened.front.engine, count=50, total_fen=5_000)).packet_id
    await opened.front.engine.claims.claim(packet_id, "bob")  # so alice is no stranger to him, whatever comes first
    await caught_up(opened.front.engine)
    bodies, seen = proper_bodies(packet_id), Counter[tuple[str, int]]()
    for number in range(inputs):
        row = POSTS[number % len(POSTS)]
        user, is_proper = acting(row, number), number // len(POSTS) % 50 == 0
        body = orjson.dumps(bodies[row.name]) if is_proper else mutator.mutated(bodies[row.name])
        headers = (
            (b"authorization", token.encode()),
            (b"x-user-id", user.encode()),
            (b"content-type", mutator.choice(TYPES)),
            (b"idempotency-key", mutator.choice((b"the-same", uuid4().hex.encode(), uuid4().hex.encode()))),
            (b"content-length", b"%d" % len(body)),
        )
        asked = Asked(
            method=row.method, path=path_of(row, packet_id, user), headers=headers, chunks=mutator.pieces(body)
        )
        reply = await ask_long(opened.app, asked)
        assert_documented(row, body, reply)
        assert reply is not None
        seen[row.name, reply.status] += 1
    return seen


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_changed_bodies_are_answered_and_move_no_money_they_should_not(
    settings: Settings, pytestconfig: pytest.Config
) -> None:
    settings = with_keys(settings)
    inputs, seed = int(pytestconfig.getoption("--fuzz-inputs")), int(pytestconfig.getoption("--fuzz-seed"))
    async with open_app(settings) as opened, persisting(settings):
        engine = opened.front.engine
        await fund(engine, "alice", MONEY_FEN)
        await engine.payment_passwords.put("alice", PASSWORD, None)
        campaign = await make(engine, (86_400_000, 60, 10, 2), owner="alice", entry=Entry(who=Who.ADMITTED))
        assert campaign.campaign_id == "1"
        await make_batch(engine, 10, owner="alice", codes=[])
        await engine.profiles.put("alice", AccountKind.MERCHANT, [], {}, changed_by="root")
        token = f"Bearer {issue(load_secret(settings), 'backend', ('act', 'admin'), 3_600)}"
        seen = await fuzz(opened, Mutator(seed), inputs, token)
        await caught_up(engine)
        findings = await audit(engine.pool, engine.store, engine.stream)
    table = ", ".join(f"{name} {status}: {count}" for (name, status), count in sorted(seen.items()))
    print(f"{inputs} bodies, seed {seed}: {table}")  # noqa: T201  # for `make fuzz`
    assert sum(seen.values()) == inputs
    assert [finding.line() for finding in findings if not finding.holds] == []
    each = inputs / len(POSTS)
    # It came through to the endpoints, and did not only fail to be read. Where it is rarest one in seventy does, so by
    # chance there may be few of 900.
    for row in POSTS:
        proper = sum(seen[row.name, status] for status in PROPER.get(row.name, (row.status,)))
        assert proper > each / 100, (row.name, seen)
        assert seen[row.name, 400] + seen[row.name, 422] > each / 4, (row.name, seen)
