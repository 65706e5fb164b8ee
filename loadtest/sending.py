"""What senders send: the bodies and keys of deposits and packets, and the packets that are there from the start."""

import random
from dataclasses import dataclass
from typing import Any

from loadtest.board import Announcement
from loadtest.identities import Headers, Identities
from loadtest.simple_client import SimpleClient

DEPOSIT_FEN = 100_000_000
GROUP_SHARES = 10
GROUP_SIZE = 40
"""Members of a group: a packet of ten shares is gone long before all of them have tapped."""
RAIN_SHARES = 5_000
_MEMBERS_OF_USERS = 0.6
_SHARE_FEN_MIN, _SHARE_FEN_MAX = 20, 200


@dataclass(frozen=True, slots=True)
class Sending:
    """One request to POST /v1/packets; ``key`` makes a repeat the same packet."""

    body: dict[str, Any]
    key: str
    group: int | None

    def headers(self, sender: Headers) -> Headers:
        """The sender's headers, with the key."""
        return {**sender, "Idempotency-Key": self.key}

    def announcement(self, packet_id: str) -> Announcement:
        """What the others are told."""
        return Announcement(packet_id, self.group)


def groups_of(users_max: int) -> int:
    """How many groups the members among ``users_max`` users make."""
    return max(1, round(users_max * _MEMBERS_OF_USERS / GROUP_SIZE))


def packet(run: str, sender_id: str, number: int, group: int | None) -> Sending:
    """The ``number``-th packet of a sender, to a group of about ten shares, or to everyone as a rain."""
    count = RAIN_SHARES if group is None else random.randint(GROUP_SHARES - 2, GROUP_SHARES + 2)
    body: dict[str, Any] = {"count": count, "total_fen": count * random.randint(_SHARE_FEN_MIN, _SHARE_FEN_MAX)}
    body |= {"split": "lucky" if number % 3 else "equal", "greeting": "红包雨" if group is None else "恭喜发财"}
    return Sending(body, f"load-{run}-{sender_id}-{number}", group)


def seed(client: SimpleClient, identities: Identities, run: str, groups: int) -> list[Announcement]:
    """Send a rain and one packet to each group, so that the first users find some. Raises OperatorError."""
    sender_id = identities.funded_senders[0] if identities.funded_senders else f"eve-{run}-host"
    admin = identities.of_admin()
    if admin is not None:
        key = f"load-{run}-{sender_id}-deposit"
        client.post(f"/v1/wallets/{sender_id}/deposits", admin, {"amount_fen": DEPOSIT_FEN}, key)
    announcements = []
    for number, group in enumerate([None, *range(groups)]):
        sending = packet(run, f"{sender_id}-seed", number, group)
        sent = client.post("/v1/packets", identities.of(sender_id), sending.body, sending.key)
        announcements.append(sending.announcement(sent["packet_id"]))
    return announcements
