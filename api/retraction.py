"""Taking packets back."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.dispatch import Call
from api.payloads import Payload


class RetractionBody(Payload):
    """Taking a packet back; a large one only with ``confirm``."""

    confirm: Annotated[bool, Field(description="Said a second time, for a large packet")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewAnswer:
    """``needs_consent``: from now on the packet is taken back only if this user consents."""

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
    """The packet is taken back; ``returned_fen`` goes to its sender's wallet."""

    packet_id: str
    state: Literal["retracted"]
    returned_fen: int


async def view_packet(call: Call) -> Answer:
    """Tell that a user has opened the packet's page."""
    packet_id, user_id = call.path["packet_id"], call.caller.user
    needs_consent = await call.engine.retractions.view(packet_id, user_id)
    return as_json({"packet_id": packet_id, "user_id": user_id, "needs_consent": needs_consent})


async def consent_to_retraction(call: Call) -> Answer:
    """Let the sender take back what this user has seen."""
    packet_id, user_id = call.path["packet_id"], call.caller.user
    await call.engine.retractions.consent(packet_id, user_id)
    return as_json({"packet_id": packet_id, "user_id": user_id, "consents": True})


async def retract_packet(call: Call) -> Answer:
    """Take a packet back."""
    packet_id, confirmed = call.path["packet_id"], call.body is not None and call.body.confirm
    returned_fen = await call.engine.retractions.retract(packet_id, call.caller.user, confirmed=confirmed)
    return as_json({"packet_id": packet_id, "state": "retracted", "returned_fen": returned_fen})
