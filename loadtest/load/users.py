"""The users of the festival's eve: members of group chats, hands in a packet rain, and senders."""

import random
import time
from collections import deque
from typing import Any

from locust import between, task
from locust.exception import StopUser

from loadtest.load import sending
from loadtest.load.guest import Check, Guest, nothing_to_check
from loadtest.load.identities import Headers
from loadtest.load.sending import Sending
from loadtest.load.verdicts import check_packet
from loadtest.told import ContradictionError

WAVE_S = 3.0
_WAVE_TAPS = 6
_LOOKED_AT_MAX = 32


class GroupMember(Guest):
    """Waits for a packet in the group, claims it, claims again, and looks at the claims."""

    kind = "member"
    weight = 6
    wait_time = between(0.2, 1.0)

    def on_start(self) -> None:
        """Join a group."""
        super().on_start()
        self.chat, self.seen = random.randrange(self.evening.groups), 0

    @task
    def grab(self) -> None:
        """Claim the group's next packet, if there is one."""
        found = self.evening.board.next_for(self.chat, self.seen)
        if found is None:
            return
        self.seen, packet_id = found
        for name in ("claim, group", "claim again, group"):
            self.claim(packet_id, name=name)
        self.ask(
            "GET",
            f"/v1/packets/{packet_id}/claims",
            name="look at the claims",
            check=lambda page: self.told.listed(packet_id, self.user_id, page),
        )


class RainHand(Guest):
    """Claims the newest rain: a new user in every wave, who claims again as fast as answers come."""

    kind = "hand"
    weight = 3

    def wait_time(self) -> float:
        """The time until the next wave, which begins for all processes at once, plus a person's reaction."""
        return WAVE_S - time.time() % WAVE_S + random.random() * 0.3

    @task
    def tap(self) -> None:
        """Play one wave."""
        packet_id = self.evening.board.rain
        if packet_id is None:
            return
        self.become(self.evening.new_user_id(self.kind))
        for _ in range(_WAVE_TAPS):
            self.claim(packet_id, name="claim, rain")


class Sender(Guest):
    """A merchant with a deposit. Sends packets, sometimes the same request twice, and looks at their states."""

    kind = "sender"
    weight = 1
    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Become a merchant with money, who may send a rain; or act as one of the named senders."""
        super().on_start()
        self.sent: deque[tuple[str, Sending]] = deque(maxlen=_LOOKED_AT_MAX)
        self.name, self.funded = self.user_id, True
        identities = self.evening.identities
        admin = identities.of_admin()
        if identities.funded_senders:
            self.become(random.choice(identities.funded_senders))
        elif admin is not None:
            self.funded = self._deposit(admin) and self._become_merchant(admin)

    def _deposit(self, admin: Headers) -> bool:
        headers = {**admin, "Idempotency-Key": f"load-{self.name}-deposit"}
        path, body = f"/v1/wallets/{self.user_id}/deposits", {"amount_fen": sending.DEPOSIT_FEN}
        return self.ask("POST", path, name="deposit", headers=headers, body=body, expected=201) is not None

    def _become_merchant(self, admin: Headers) -> bool:
        path = f"/v1/accounts/{self.user_id}/profile"
        return self.ask("PUT", path, name="become a merchant", headers=admin, body=sending.MERCHANT) is not None

    @task(8)
    def send(self) -> None:
        """Send a packet to one of the groups."""
        self._send(random.randrange(self.evening.groups))

    @task(1)
    def send_rain(self) -> None:
        """Send a packet for everyone."""
        self._send(None)

    @task(6)
    def look(self) -> None:
        """Compare a packet's state with its terms."""
        if not self.sent:
            return
        packet_id, sent = random.choice(self.sent)
        total_fen, count = sent.body["total_fen"], sent.body["count"]
        path = f"/v1/packets/{packet_id}"
        self.ask("GET", path, name="look at a packet", check=lambda view: check_packet(total_fen, count, view))

    def _send(self, group: int | None) -> None:
        if not self.funded:
            raise StopUser
        evening = self.evening
        packet = sending.packet(evening.run, self.name, next(evening.numbers), group, evening.rain_shares)
        first = self._post(packet, "send a packet", nothing_to_check)
        if first is None:
            return
        packet_id = str(first["packet_id"])
        self.sent.append((packet_id, packet))
        self.evening.tell("packet_sent", packet.announcement(packet_id).as_message())
        if random.random() < 0.1:

            def check_same(again: dict[str, Any]) -> None:
                if again["packet_id"] != packet_id:
                    raise ContradictionError(f"One key made two packets: {packet_id} and {again['packet_id']}.")

            self._post(packet, "send the same again", check_same)

    def _post(self, packet: Sending, name: str, check: Check) -> dict[str, Any] | None:
        headers = packet.headers(self.headers)
        return self.ask("POST", "/v1/packets", name=name, headers=headers, body=packet.body, expected=201, check=check)
