"""Retracting packets."""

from api import retraction
from api.auth import Access
from api.dispatch import Operation
from api.retraction import ConsentAnswer, RetractionAnswer, RetractionBody, ViewAnswer
from engine import errors

_CLAIMER = Access(("claim", "act"), for_user=True)

ROUTES = (
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/views",
        endpoint=retraction.view_packet,
        summary="Record that the user has viewed the packet.",
        access=_CLAIMER,
        answer=ViewAnswer,
        problems=(errors.RecoveringError, errors.OpeningError, errors.UnavailableError),
    ),
    Operation(
        method="POST",
        path="/v1/packets/{packet_id}/retraction",
        endpoint=retraction.retract_packet,
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
        endpoint=retraction.consent_to_retraction,
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
