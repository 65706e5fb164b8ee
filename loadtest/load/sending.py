"""What senders send: the bodies and keys of deposits and packets, and the first packets."""

import random
import re
from dataclasses import dataclass
from typing import Any

from loadtest.load.board import Announcement
from loadtest.load.identities import Headers, Identities
from loadtest.load.simple_client import RefusedError, SimpleClient

DEPOSIT_FEN = 100_000_000
MERCHANT = {"kind": "merchant"}
"""The profile of senders that are made for the run, because a person may not send a rain."""
GROUP_SHARES = 10
GROUP_SIZE = 40
"""Members per group: a packet of ten shares is gone long before all of them have claimed."""
RAIN_SHARES = 5_000
_MEMBERS_OF_USERS = 0.6
_SHARE_FEN_MIN, _SHARE_FEN_MAX = 20, 200


@dataclass(frozen=True, slots=True)
class Sending:
    """One request to POST /v1/packets. With ``key``, a repeat makes the same packet."""

    body: dict[str, Any]
    key: str
    group: int | None

    def headers(self, sender: Headers) -> Headers:
        """The sender's headers, with the key."""
        return {**sender, "Idempotency-Key": self.key}

    def announcement(self, packet_id: str) -> Announcement:
        """The announcement for other users."""
        return Announcement(packet_id, self.group)


def groups_of(users_max: int) -> int:
    """The number of groups for the members among ``users_max`` users."""
    return max(1, round(users_max * _MEMBERS_OF_USERS / GROUP_SIZE))


def packet(run: str, sender_id: str, number: int, group: int | None, rain_shares: int = RAIN_SHARES) -> Sending:
    """The ``number``-th packet of a sender, to a group of about ten shares, or to everyone as a rain."""
    count = rain_shares if group is None else random.randint(GROUP_SHARES - 2, GROUP_SHARES + 2)
    body: dict[str, Any] = {"count": count, "total_fen": count * random.randint(_SHARE_FEN_MIN, _SHARE_FEN_MAX)}
    body |= {"split": "lucky" if number % 3 else "equal", "greeting": "红包雨" if group is None else "恭喜发财"}
    return Sending(body, f"load-{run}-{sender_id}-{number}", group)


def seed(
    client: SimpleClient, identities: Identities, run: str, groups: int, rain_shares: int = RAIN_SHARES
) -> tuple[list[Announcement], int]:
    """Send a rain from each known sender and one packet to each group, so that the first users find some.

    Returns what was sent, and how many shares per rain all senders may send, at most ``rain_shares``. Senders that are
    made for the run are merchants. Others keep their profile. Raises OperatorError.
    """
    senders = identities.funded_senders or (_host(client, identities, run),)
    announcements = []
    for sender_id in senders:
        sent, rain_shares = _send_rain(client, identities.of(sender_id), run, sender_id, rain_shares)
        announcements.append(sent)
    for group in range(groups):
        sending = packet(run, f"{senders[0]}-seed", group + 1, group)
        announcements.append(_send(client, identities.of(senders[0]), senders[0], sending))
    return announcements, rain_shares


def _host(client: SimpleClient, identities: Identities, run: str) -> str:
    host_id, admin = f"eve-{run}-host", identities.of_admin()
    if admin is not None:
        client.post(f"/v1/wallets/{host_id}/deposits", admin, {"amount_fen": DEPOSIT_FEN}, f"load-{run}-host-deposit")
        client.put(f"/v1/accounts/{host_id}/profile", admin, MERCHANT)
    return host_id


def _send_rain(
    client: SimpleClient, headers: Headers, run: str, sender_id: str, shares: int
) -> tuple[Announcement, int]:
    """Send a rain of ``shares``, or of as many as the server allows. Returns it with its number of shares."""
    try:
        return _send(client, headers, sender_id, packet(run, f"{sender_id}-seed", 0, None, shares)), shares
    except RefusedError as refused:
        allowed = _shares_allowed(refused)
        if not 0 < allowed < shares:
            raise
    return _send(client, headers, sender_id, packet(run, f"{sender_id}-seed", 0, None, allowed)), allowed


def _send(client: SimpleClient, headers: Headers, sender_id: str, sending: Sending) -> Announcement:
    try:
        sent = client.post("/v1/packets", headers, sending.body, sending.key)
    except RefusedError as refused:
        raise RefusedError(f"{sender_id} cannot send: {refused}", refused.problem) from None
    return sending.announcement(sent["packet_id"])


def _shares_allowed(refused: RefusedError) -> int:
    """The bound for ``count`` in a refusal, or 0 if it was refused for another reason."""
    said = [error["message"] for error in refused.problem.get("errors", ()) if error.get("field") == "count"]
    found = [re.fullmatch(r"must be at most (\d+)", message) for message in said]
    return min((int(match[1]) for match in found if match), default=0)
