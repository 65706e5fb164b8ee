"""Taking packets back."""

from api import retraction
from api.auth import Access
from api.dispatch import Operation
from api.retraction import ConsentAnswer, RetractionAnswer, RetractionBody, ViewAnswer

_CLAIMER = Access(("claim", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/views",
        endpoint=retraction.view_packet,
        summary="Tell that the user has opened the packet's page.",
        access=_CLAIMER,
        answer=ViewAnswer,
        problems=(404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/retraction",
        endpoint=retraction.retract_packet,
        summary="Take back a packet that nobody has claimed, or seen without consenting.",
        access=Access(("send", "act"), for_user=True),
        body=RetractionBody,
        body_required=False,
        answer=RetractionAnswer,
        problems=(403, 404, 409, 503),
    ),
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/retraction/consent",
        endpoint=retraction.consent_to_retraction,
        summary="Consent to a packet's being taken back that the user has seen.",
        access=_CLAIMER,
        answer=ConsentAnswer,
        problems=(404, 409, 503),
    ),
)
