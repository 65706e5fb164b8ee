"""Packets: sending, claiming, and the routes of both and of what `packet_views` reads."""

from collections.abc import Sequence

import orjson

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.failures import CLAIMING, SENDING
from api.payloads import (
    ClaimAnswer,
    ClaimBody,
    ClaimItem,
    ClaimsAnswer,
    ClaimsBody,
    PacketBody,
    PageQuery,
    PreviewAnswer,
    SentAnswer,
)
from api.problems import RateLimitedError, detail_of, retry_after_s
from api.resources import plain_claims
from api.resources.packet_views import ShownClaims, ShownPacket, get_claim, get_packet, get_proof, list_claims
from api.resources.plain_claims import PlainClaim
from engine import errors
from engine.errors import (
    FrozenError,
    HongbaoError,
    LimitReachedError,
    NotArrivedError,
    NotInvitedError,
    UnavailableError,
    UnknownPacketError,
)
from engine.ids import is_packet_number
from engine.packets.proof import Proof
from engine.packets.terms import terms_from
from engine.records import Ack, ClaimResult, CouponResult, Outcome, SplitKind, Terms

OUTCOME_WORDS = {
    Outcome.CLAIMED: "claimed",
    Outcome.ALREADY: "already_claimed",
    Outcome.EMPTY: "sold_out",
    Outcome.EXPIRED: "expired",
    Outcome.RETRACTED: "retracted",
}
BATCH_REFUSALS = (
    *(UnknownPacketError, NotInvitedError, NotArrivedError, FrozenError, LimitReachedError),
    *(UnavailableError, RateLimitedError),
)
"""Errors (with their subclasses) that refuse one claim of a batch, but not the whole batch."""
_OPENINGS = {outcome: f'{{"outcome":"{word}","amount_fen":' for outcome, word in OUTCOME_WORDS.items()}


async def send_packet(call: Call) -> Answer:
    """Pay for a packet and open it."""

    async def terms() -> Terms:
        return await _terms(call)

    sent = await call.engine.packets.send(
        call.caller.user,
        terms,
        address=call.address,
        idempotency_key=call.idempotency_key,
        request_hash=call.request_hash,
    )
    answer = {
        "packet_id": sent.packet_id,
        "state": sent.state,
        "total_fen": sent.total_fen,
        "count": sent.count,
        "expires_at_ms": sent.expires_at_ms,
        "commitment": sent.commitment,
    }
    return as_json(answer, 201, *([(b"idempotency-replayed", b"true")] if sent.replayed else []))


async def preview_packet(call: Call) -> Answer:
    """Return a sample split of the terms. Nothing is stored."""
    terms = await _terms(call)
    amounts = await call.engine.packets.preview(terms)
    answer = {
        "total_fen": terms.total_fen,
        "count": terms.count,
        "split": terms.split,
        "min_fen": terms.min_fen,
        "max_fen": terms.max_fen,
        "ttl_s": terms.ttl_s,
        "greeting": terms.greeting,
        "recipients": terms.recipients,
        "amounts_fen": amounts,
    }
    return as_json(answer)


async def claim(call: Call) -> Answer:
    """Claim a share for the user. Losing is a normal answer. A repeat returns the same amount."""
    packet_id, user_id = call.path["packet_id"], call.caller.user
    result = await call.engine.claims.claim(packet_id, user_id)
    return Answer(200, _other(packet_id, user_id, result).encode())


def claim_body(packet_id: str, user_id: str, result: ClaimResult) -> bytes:
    """One claim's answer as JSON. Both ids were checked, so nothing needs escaping."""
    return f'{_OPENINGS[result.outcome]}{result.amount_fen},"packet_id":"{packet_id}","user_id":"{user_id}"}}'.encode()


async def claim_many(call: Call) -> Answer:
    """Claim for many users at once, for a backend. Each claim has its own result, in order."""
    items: list[ClaimItem] | list[PlainClaim] = call.body.claims
    claims = [(item.packet_id, item.user_id) for item in items]
    refused: dict[int, HongbaoError] = {}
    if not isinstance(items[0], PlainClaim):
        refused |= {place: _NO_SUCH_PACKET for place, claim in enumerate(claims) if not is_packet_number(claim[0])}
    # A user's claims count the same in a batch and one by one, even if the packet's number is invalid.
    refused |= call.front.limits.claims_over_limit([user_id for _, user_id in claims])
    if not refused:
        return _results(claims, await call.engine.claims.claim_many(claims))
    asked = [claim for place, claim in enumerate(claims) if place not in refused]
    result = iter(await call.engine.claims.claim_many(asked))
    return _results(claims, [refused[place] if place in refused else next(result) for place in range(len(claims))])


_NO_SUCH_PACKET = UnknownPacketError("Not a packet number.")


def _results(claims: Sequence[tuple[str, str]], results: Sequence[ClaimResult | HongbaoError]) -> Answer:
    parts = [
        f'{_OPENINGS[result.outcome]}{result.amount_fen},"packet_id":"{packet_id}","user_id":"{user_id}"}}'
        if result.__class__ is ClaimResult
        else _other(packet_id, user_id, result)
        for (packet_id, user_id), result in zip(claims, results, strict=True)
    ]
    return Answer(200, f'{{"results":[{",".join(parts)}]}}'.encode())


def _with_coupon(packet_id: str, user_id: str, result: CouponResult) -> str:
    answer = {
        "outcome": OUTCOME_WORDS[result.outcome],
        "amount_fen": result.amount_fen,
        "packet_id": packet_id,
        "user_id": user_id,
        "coupon": result.coupon,
    }
    return orjson.dumps(answer).decode()


def _other(packet_id: str, user_id: str, result: ClaimResult | HongbaoError) -> str:
    """One claim's result, whatever it is."""
    if isinstance(result, CouponResult):
        return _with_coupon(packet_id, user_id, result)
    if isinstance(result, HongbaoError):
        return _refused(packet_id, user_id, result)
    return claim_body(packet_id, user_id, result).decode()


def _refused(packet_id: str, user_id: str, error: HongbaoError) -> str:
    if not isinstance(error, BATCH_REFUSALS):
        raise error
    answer: dict[str, object] = {
        "packet_id": packet_id,
        "user_id": user_id,
        "code": error.code,
        "detail": detail_of(error),
    }
    wait_s = retry_after_s(error)
    if wait_s is not None:
        answer["retry_after_s"] = wait_s
    if isinstance(error, LimitReachedError):
        answer["until_ms"] = error.until_ms
    return orjson.dumps(answer).decode()


async def _terms(call: Call) -> Terms:
    """The body's terms within the product's limits. Raises InvalidFieldsError with every bad field."""
    body: PacketBody = call.body
    return terms_from(
        settings=call.front.settings,
        total_fen=body.total_fen,
        count=body.count,
        split=SplitKind.EQUAL if body.split == "exclusive" else SplitKind(body.split),
        is_exclusive=body.split == "exclusive",
        is_timed=body.timed,
        label=body.label,
        min_fen=body.min_fen,
        max_fen=body.max_fen,
        ttl_s=body.ttl_s,
        greeting=body.greeting,
        recipients=tuple(body.recipients),
        ack=None if body.ack is None else Ack(body.ack),
        asset=(await call.engine.assets.named(body.asset)).code,
    )


ROUTES = (
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/claims",
        endpoint=claim,
        summary="Claim a share. Losing is a normal answer; a repeat returns `already_claimed` with the same amount.",
        access=Access(("claim", "act"), for_user=True),
        body=ClaimBody,
        body_required=False,
        is_claim=True,
        answer=ClaimAnswer,
        problems=(errors.NotInvitedError, errors.NotArrivedError, *CLAIMING),
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}/claims",
        endpoint=list_claims,
        summary="The claims of a packet, in the order of their slots, with the display names of those who have one.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=ShownClaims,
        problems=(errors.RecoveringError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}/claims/{user_id}",
        endpoint=get_claim,
        summary="A user's share of a packet, at once after it was given, without claiming. The answer is that of a "
        "repeated claim.",
        access=ANY_TOKEN,
        answer=ClaimAnswer,
        problems=(
            errors.UnknownClaimError,
            errors.UnconfirmedError,
            errors.RecoveringError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="POST",
        path="/v1/claims",
        endpoint=claim_many,
        summary="Claim for many users at once. Results are in the order of the claims.",
        access=Access(("act",)),
        body=ClaimsBody,
        plain_body=plain_claims.read,
        large_body=True,
        answer=ClaimsAnswer,
    ),
    Operation(
        method="POST",
        path="/v1/packets",
        endpoint=send_packet,
        summary="Send a packet: it is paid from the sender's wallet and open to claims.",
        access=Access(("send", "act"), for_user=True),
        body=PacketBody,
        large_body=True,
        moves_money=True,
        answer=SentAnswer,
        status=201,
        problems=(*SENDING,),
    ),
    Operation(
        method="POST",
        path="/v1/packets/preview",
        endpoint=preview_packet,
        summary="A sample split of a packet's terms. Nothing is stored.",
        access=Access(("send", "act")),
        body=PacketBody,
        large_body=True,
        answer=PreviewAnswer,
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}",
        endpoint=get_packet,
        summary="A packet: its state, terms, counts, and the luckiest claimant once all shares are claimed.",
        access=ANY_TOKEN,
        answer=ShownPacket,
        problems=(errors.RecoveringError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}/proof",
        endpoint=get_proof,
        summary="A settled packet's seed, terms and shares; `hongbao verify` needs nothing else.",
        access=ANY_TOKEN,
        answer=Proof,
        problems=(errors.NotSettledError, errors.RecoveringError, errors.UnavailableError),
    ),
)
