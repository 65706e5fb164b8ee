"""Alerts that the server delivers: whether one is the server's, and what it says. Needs the extra ``webhooks``."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hongbao_client.records import Answer

try:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError
except ImportError as error:
    raise ImportError("Webhooks need standardwebhooks: pip install 'hongbao-client[webhooks]'") from error


class ForgedError(Exception):
    """The message is not the server's, was changed, or is too old. Answer it with 400, and do nothing else."""


class AlertData(Answer):
    """What has happened, to whom and when. ``details`` differ by the kind of alert."""

    alert_id: str
    user_id: str | None = None
    at_ms: int
    details: dict[str, Any]


class AlertEvent(Answer):
    """An alert. ``type``: ``alert.<kind>``.

    ``message_id``: the same in every delivery. Drop one that was seen before.
    """

    message_id: str
    type: str
    timestamp: str
    data: AlertData


class Receiver:
    """Verifies deliveries. ``secrets``: those of HONGBAO_WEBHOOK_SECRET (``whsec_…``); any of them is enough."""

    def __init__(self, *secrets: str) -> None:
        if not secrets:
            raise ValueError("a receiver needs a secret")
        self._verifiers = [Webhook(secret) for secret in secrets]

    def read(self, headers: Mapping[str, str], body: bytes) -> AlertEvent:
        """The alert in a request with these headers (in any case) and this body, as it came. Raises ForgedError."""
        named = {name.lower(): value for name, value in headers.items()}
        for verifier in self._verifiers:
            try:
                found = verifier.verify(body, named)
            except (WebhookVerificationError, ValueError):
                continue
            try:
                return AlertEvent.model_validate({**found, "message_id": named["webhook-id"]})
            except (ValidationError, TypeError) as error:
                raise ForgedError("It is signed with a right secret, and is no alert.") from error
        raise ForgedError("Its signature or its time is not right for any of the secrets.")
