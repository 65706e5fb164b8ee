"""Retracting packets."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import Access
from api.dispatch import Call, Operation
from api.payloads import Payload
from engine import errors


class RetractionBody(Payload):
    """A retraction. For a large packet it must be confirmed."""

    confirm: Annotated[
        bool, Field(description="Required for a packet of more than HONGBAO_RETRACTION_CONFIRM_ABOVE_FEN fen")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewAnswer:
    """``needs_consent``: from now on the packet is retracted only if this user consents."""

    packet_id: str
    user_id: str
    needs_consent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentAnswer:
    """The user consents."""

    packet_id: str
    user_id: str
    consents: Literal[True]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetractionAnswer:
    """The packet is retracted. ``returned_fen`` is refunded to its sender."""

    packet_id: str
    state: Literal["retracted"]
    returned_fen: int


async def view_packet(call: Call) -> Answer:
    """Record that a user has viewed the packet."""
    packet_id, user_id = call.path["packet_id"], call.caller.user
    needs_consent = await call.engine.retractions.view(packet_id, user_id)
    return as_json({"packet_id": packet_id, "user_id": user_id, "needs_consent": needs_consent})


async def consent_to_retraction(call: Call) -> Answer:
    """Consent to the retraction of a packet that this user has viewed."""
    packet_id, user_id = call.path["packet_id"], call.caller.user
    await call.engine.retractions.consent(packet_id, user_id)
    return as_json({"packet_id": packet_id, "user_id": user_id, "consents": True})


async def retract_packet(call: Call) -> Answer:
    """Retract a packet."""
    packet_id, confirmed = call.path["packet_id"], call.body is not None and call.body.confirm
    returned_fen = await call.engine.retractions.retract(packet_id, call.caller.user, confirmed=confirmed)
    return as_json({"packet_id": packet_id, "state": "retracted", "returned_fen": returned_fen})


_CLAIMER = Access(("claim", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/views",
        endpoint=view_packet,
        summary="Record that the user has viewed the packet.",
        access=_CLAIMER,
        answer=ViewAnswer,
        problems=(errors.RecoveringError, errors.OpeningError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/retraction",
        endpoint=retract_packet,
        summary="Retract a packet that nobody has claimed and that no viewer objects to.",
        access=Access(("send", "act"), for_user=True),
        body=RetractionBody,
        body_required=False,
        answer=RetractionAnswer,
        problems=(
            errors.NotSenderError,
            errors.FrozenError,
            errors.ConfirmationRequiredError,
            errors.ConsentRequiredError,
            errors.NotRetractableError,
            errors.RecoveringError,
            errors.OpeningError,
            errors.UnconfirmedError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/retraction/consent",
        endpoint=consent_to_retraction,
        summary="Consent to the retraction of a packet that the user has viewed.",
        access=_CLAIMER,
        answer=ConsentAnswer,
        problems=(
            errors.NotViewedError,
            errors.NotRetractableError,
            errors.RecoveringError,
            errors.OpeningError,
            errors.UnavailableError,
        ),
    ),
)
