"""Packets as users see them: state and terms, who got what, a user's own share, the proof."""

from dataclasses import dataclass, fields, replace

from api.answers import Answer, as_json
from api.dispatch import Call
from engine.errors import HongbaoError, UnknownClaimError
from engine.packets.views import ClaimsPage, ListedClaim, PacketView
from engine.people.displays import masked
from engine.records import ClaimResult, CouponResult, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPacket(PacketView):
    """A packet, as a user sees it.

    ``sender_display_name``: None if the sender has chosen none. ``own_amount_fen``: the user's own share, None if they
    have none or no user is named.
    """

    sender_display_name: str | None
    own_amount_fen: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownClaim(ListedClaim):
    """One claim in a list. ``display_name``: None if the user has chosen none; then pages show ``masked_id``."""

    display_name: str | None
    masked_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownClaims:
    """Claims in slot order. ``next``: the next page's cursor, None on the last page."""

    claims: list[ShownClaim]
    next: str | None


async def get_packet(call: Call) -> Answer:
    """Return a packet's state, terms and counts."""
    engine, user_id = call.engine, call.caller.user_id
    view = await engine.views.packet(call.path["packet_id"])
    call.caller.may_see(view)
    # After the amounts: a user who has a share now may see earlier amounts.
    own_amount_fen = None if user_id is None else await engine.views.share_of(view, user_id)
    sees_amounts = call.caller.sees_all or view.shows_amounts_to(user_id, has_share=own_amount_fen is not None)
    names = await engine.displays.names_of([view.sender])
    shown = view if sees_amounts else view.without_amounts()
    return as_json(
        ShownPacket(
            **{field.name: getattr(shown, field.name) for field in fields(PacketView)},
            sender_display_name=names.get(view.sender),
            own_amount_fen=own_amount_fen,
        )
    )


async def list_claims(call: Call) -> Answer:
    """Return a packet's claims."""
    packet_id, view, user_id = call.path["packet_id"], None, call.caller.user_id
    if not call.caller.sees_all:
        view = await call.engine.views.packet(packet_id)
        call.caller.may_see(view)
    page = await call.engine.views.claims(packet_id, after=call.query.after, limit=call.query.limit)
    is_seen = view is None or await call.engine.views.sees_amounts(view, user_id)
    return as_json(await _shown(call, page if is_seen else page.without_amounts()))


async def _shown(call: Call, page: ClaimsPage) -> ShownClaims:
    names = await call.engine.displays.names_of([claim.user_id for claim in page.claims])
    claims = [
        ShownClaim(
            user_id=claim.user_id,
            display_name=names.get(claim.user_id),
            masked_id=masked(claim.user_id),
            amount_fen=claim.amount_fen,
            slot=claim.slot,
            claimed_at_ms=claim.claimed_at_ms,
        )
        for claim in page.claims
    ]
    return ShownClaims(claims=claims, next=page.next)


async def get_claim(call: Call) -> Answer:
    """Return a user's share of a packet, as the answer to a repeated claim would."""
    packet_id, user_id, caller = call.path["packet_id"], call.path["user_id"], call.caller
    if not (caller.sees_all or caller.user_id == user_id):
        raise UnknownClaimError(_NO_SHARE)
    view = await call.engine.views.packet(packet_id)
    caller.may_see(view)
    amount_fen = await call.engine.views.share_of(view, user_id)
    if amount_fen is None:
        raise UnknownClaimError(_NO_SHARE)
    result = await _with_coupon(call, packet_id, user_id, ClaimResult(Outcome.ALREADY, amount_fen))
    answer: dict[str, object] = {
        "outcome": "already_claimed",
        "amount_fen": result.amount_fen,
        "packet_id": packet_id,
        "user_id": user_id,
    }
    if isinstance(result, CouponResult):
        # Its code is the holder's alone.
        is_own = caller.user_id == user_id
        answer["coupon"] = result.coupon if is_own else replace(result.coupon, code=None)
    return as_json(answer)


_NO_SHARE = "No share of this packet that you can see belongs to this user."


async def _with_coupon(call: Call, packet_id: str, user_id: str, result: ClaimResult) -> ClaimResult:
    (found,) = await call.engine.claims.with_coupons([(packet_id, user_id)], [result])
    if isinstance(found, HongbaoError):
        raise found
    return found


async def get_proof(call: Call) -> Answer:
    """Return a settled packet's seed and shares, so that anyone can redo its split."""
    packet_id = call.path["packet_id"]
    if not call.caller.sees_all:
        call.caller.may_see(await call.engine.views.packet(packet_id))
    return as_json(await call.engine.views.proof(packet_id))
