"""Packets and claims."""

from api import packets, plain_claims
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from api.failures import CLAIMING, SENDING
from api.payloads import (
    ClaimAnswer,
    ClaimBody,
    ClaimsAnswer,
    ClaimsBody,
    PacketBody,
    PageQuery,
    PreviewAnswer,
    SentAnswer,
)
from engine import errors
from engine.packets.proof import Proof
from engine.records import ClaimsPage, PacketView

ROUTES = (
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/claims",
        endpoint=packets.claim,
        summary="Claim a share. Losing is a normal answer; a repeat returns `already_claimed` with the same amount.",
        access=Access(("claim", "act"), for_user=True),
        body=ClaimBody,
        body_required=False,
        is_claim=True,
        answer=ClaimAnswer,
        problems=(errors.NotInvitedError, errors.FrozenError, errors.NotArrivedError, *CLAIMING),
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}/claims",
        endpoint=packets.list_claims,
        summary="The claims of a packet, in the order of their slots.",
        access=ANY_TOKEN,
        query=PageQuery,
        answer=ClaimsPage,
        problems=(errors.RecoveringError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/claims",
        endpoint=packets.claim_many,
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
        endpoint=packets.send_packet,
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
        endpoint=packets.preview_packet,
        summary="A sample split of a packet's terms. Nothing is stored.",
        access=Access(("send", "act")),
        body=PacketBody,
        large_body=True,
        answer=PreviewAnswer,
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}",
        endpoint=packets.get_packet,
        summary="A packet: its state, terms, counts, and the luckiest claimant once all shares are claimed.",
        access=ANY_TOKEN,
        answer=PacketView,
        problems=(errors.RecoveringError, errors.UnavailableError),
    ),
    Operation(
        method="GET",
        path="/v1/packets/{packet_id}/proof",
        endpoint=packets.get_proof,
        summary="A settled packet's seed, terms and shares; `hongbao verify` needs nothing else.",
        access=ANY_TOKEN,
        answer=Proof,
        problems=(errors.NotSettledError, errors.RecoveringError, errors.UnavailableError),
    ),
)
