"""Disputes."""

from api import disputes
from api.auth import ANY_TOKEN, Access
from api.dispatch import Operation
from engine.disputes import Dispute

ROUTES = (
    Operation(
        method="POST",
        path="/v1/disputes",
        endpoint=disputes.file_dispute,
        summary="Dispute a payment of one's own, or a share of it; the same again, while it is open, gives it again.",
        access=Access(for_user=True),
        body=disputes.DisputeBody,
        large_body=True,
        answer=Dispute,
        status=201,
        problems=(403, 404, 409, 503),
    ),
    Operation(
        method="GET",
        path="/v1/disputes/{dispute_id}",
        endpoint=disputes.get_dispute,
        summary="A dispute, for its parties and admins.",
        access=ANY_TOKEN,
        answer=Dispute,
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/disputes/{dispute_id}/decision",
        endpoint=disputes.decide_dispute,
        summary="Uphold or reject a dispute; the same outcome again changes nothing.",
        access=Access(("admin",)),
        body=disputes.DecisionBody,
        answer=Dispute,
        problems=(404, 409, 503),
    ),
)
