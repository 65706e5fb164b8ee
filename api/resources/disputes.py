"""Disputes: filed by users, decided by admins."""

from typing import Annotated, Literal

from pydantic import Field

from api.answers import Answer, as_json
from api.auth import ANY_TOKEN, Access
from api.dispatch import Call, Operation
from api.payloads import PLAIN_TEXT, Payload, UserId
from engine import errors
from engine.disputes.filing import EVIDENCE_LENGTH_MAX, EVIDENCE_MAX, Complaint, Dispute, DisputeKind, DisputeState
from engine.errors import FieldProblem, InvalidFieldsError
from engine.ids import NUMBER_RULE, is_packet_number
from engine.records import FEN_MAX

_REASON_LENGTH_MAX = 500
_Evidence = Annotated[str, Field(min_length=1, max_length=EVIDENCE_LENGTH_MAX)]


class DisputeBody(Payload):
    """The subject of a dispute. A system fault has no counterparty. Every other kind has one."""

    kind: Annotated[Literal["fraud", "minor", "system_fault"], Field(description="minor: paid by a child")]
    number: Annotated[str, Field(max_length=64, description="The number of the packet or transfer")]
    at_ms: Annotated[int, Field(ge=0, le=FEN_MAX, description="When the user paid; must be right to the second")]
    counterparty: Annotated[UserId | None, Field(description="Whose share is disputed; none for a system fault")] = None
    evidence: Annotated[
        list[_Evidence], Field(min_length=1, max_length=EVIDENCE_MAX, description="Texts; line breaks are allowed")
    ]


class DecisionBody(Payload):
    """The decision of a dispute, and its reason."""

    outcome: Annotated[Literal["upheld", "rejected"], Field(description="upheld: the complainant is right")]
    reason: Annotated[
        str,
        Field(min_length=1, max_length=_REASON_LENGTH_MAX, description="Characters that people can read"),
        PLAIN_TEXT,
    ]


async def file_dispute(call: Call) -> Answer:
    """File a dispute for the user."""
    body: DisputeBody = call.body
    if not is_packet_number(body.number):
        raise InvalidFieldsError([FieldProblem("number", NUMBER_RULE)])
    complaint = Complaint(DisputeKind(body.kind), body.number, body.at_ms, body.counterparty, tuple(body.evidence))
    return as_json(await call.engine.disputes.file(call.caller.user, complaint), 201)


async def get_dispute(call: Call) -> Answer:
    """Return a dispute to its parties or an admin."""
    caller = call.caller
    return as_json(
        await call.engine.disputes.get(int(call.path["dispute_id"]), caller.user_id, sees_all=caller.sees_all)
    )


async def decide_dispute(call: Call) -> Answer:
    """Uphold or reject a dispute."""
    body: DecisionBody = call.body
    decided = await call.engine.dispute_decisions.decide(
        int(call.path["dispute_id"]),
        DisputeState(body.outcome),
        reason=body.reason,
        decided_by=call.caller.principal,
    )
    return as_json(decided)


ROUTES = (
    Operation(
        method="POST",
        path="/v1/disputes",
        endpoint=file_dispute,
        summary="Dispute the user's own payment, or one share of it; repeating an open dispute returns it.",
        access=Access(for_user=True),
        body=DisputeBody,
        large_body=True,
        answer=Dispute,
        status=201,
        problems=(
            errors.NotSenderError,
            errors.UnknownTransactionError,
            errors.BelowManualHandlingError,
            errors.TooManyDisputesError,
            errors.DisputeOpenError,
            errors.UnavailableError,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/disputes/{dispute_id}",
        endpoint=get_dispute,
        summary="A dispute, for its parties and admins.",
        access=ANY_TOKEN,
        answer=Dispute,
        problems=(errors.UnknownDisputeError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/disputes/{dispute_id}/decision",
        endpoint=decide_dispute,
        summary="Uphold or reject a dispute; repeating the outcome changes nothing.",
        access=Access(("admin",)),
        body=DecisionBody,
        answer=Dispute,
        problems=(errors.UnknownDisputeError, errors.DisputeDecidedError, errors.UnavailableError),
    ),
)
