"""Disputes."""

from api import disputes
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from engine import errors
from engine.disputes.filing import Dispute

ROUTES = (
    Operation(
        method="POST",
        path="/v1/disputes",
        endpoint=disputes.file_dispute,
        summary="Dispute the user's own payment, or one share of it; repeating an open dispute returns it.",
        access=Access(for_user=True),
        body=disputes.DisputeBody,
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
        endpoint=disputes.get_dispute,
        summary="A dispute, for its parties and admins.",
        access=ANY_TOKEN,
        answer=Dispute,
        problems=(errors.UnknownDisputeError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/disputes/{dispute_id}/decision",
        endpoint=disputes.decide_dispute,
        summary="Uphold or reject a dispute; repeating the outcome changes nothing.",
        access=Access(("admin",)),
        body=disputes.DecisionBody,
        answer=Dispute,
        problems=(errors.UnknownDisputeError, errors.DisputeDecidedError, errors.UnavailableError),
    ),
)
