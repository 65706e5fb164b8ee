"""What people do besides claiming: they transfer, retract, withdraw, and are frozen now and then."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from loadtest.chaos.asking import Client
from loadtest.chaos.history import Errand

PEOPLE = tuple(f"chaos-person-{number:02d}" for number in range(12))
PASSWORD = "246810"
BANK_ACCOUNTS = ("62220202001122", "62220202000000")
"""The sandbox refuses the second one."""
TRANSFER_DELAY_S = 2
"""``run`` sets this in the engine, because no run can wait two hours."""
_DEPOSIT_FEN = 1_000_000
_RUNNERS = 4
_RECENT = 20
_TRIES_MAX = 200
_AGAIN_S = 0.2
_PAUSE_S_MAX = 0.03
_FROZEN_S_MAX = 0.5


@dataclass(slots=True)
class Errands:
    """``seed`` decides what they do. ``freezable``: users that are frozen for moments. ``goes_on``: until when.

    ``pauses``: how many times longer than usual they pause.
    """

    client: Client
    seed: int
    freezable: tuple[str, ...]
    goes_on: Callable[[], bool]
    pauses: float = 1.0
    packets: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    transfers: deque[tuple[str, str, str]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _numbers: int = 0

    async def run(self) -> None:
        """Run all of them, each until its last answer."""
        for person in PEOPLE:
            if not await self._prepare(person):
                return
        async with asyncio.TaskGroup() as group:
            for number in range(_RUNNERS):
                group.create_task(self._runner(random.Random(f"{self.seed} errand {number}")))
            group.create_task(self._guard(random.Random(f"{self.seed} guard")))

    async def _prepare(self, person: str) -> bool:
        """Get money and a payment password. Returns whether there is still anything to do."""
        password = {"password": PASSWORD, "current_password": PASSWORD}
        for _ in range(_TRIES_MAX):
            deposited = await self.client.deposit(person, f"{person}-first", _DEPOSIT_FEN)
            first = {"password": PASSWORD}
            put = await self._do("password", person, "PUT", f"/v1/wallets/{person}/payment-password", body=first)
            if put.status == 422:  # it is already set: the earlier answer was lost
                put = await self._do("password", person, "PUT", f"/v1/wallets/{person}/payment-password", body=password)
            if deposited.status == 201 and put.status == 200:
                return True
            if not self.goes_on():
                return False
            await asyncio.sleep(_AGAIN_S)
        return False

    async def _runner(self, chance: random.Random) -> None:
        steps: list[tuple[int, Callable[[random.Random], Coroutine[Any, Any, Errand | None]]]] = [
            *((6, self._send), (3, self._view), (2, self._consent), (4, self._take_back)),
            *((8, self._transfer), (5, self._confirm), (3, self._cancel), (4, self._withdraw)),
        ]
        while self.goes_on():
            (step,) = chance.choices([step for _, step in steps], [weight for weight, _ in steps])
            done = await step(chance)
            is_away = done is not None and done.status in (0, 503)
            await asyncio.sleep(_AGAIN_S if is_away else self.pauses * chance.uniform(0, _PAUSE_S_MAX))

    async def _guard(self, chance: random.Random) -> None:
        """Freeze a user for a moment, and always lift the freeze."""
        while self.goes_on():
            user_id = chance.choice(self.freezable)
            await self._do("freeze", user_id, "PUT", f"/v1/accounts/{user_id}/freeze", body={"reason": "a feast"})
            await asyncio.sleep(chance.uniform(0, _FROZEN_S_MAX))
            for _ in range(_TRIES_MAX):
                path = f"/v1/accounts/{user_id}/freeze?reason=over"
                if (await self._do("lift", user_id, "DELETE", path)).status == 200:
                    break
                await asyncio.sleep(_AGAIN_S)

    async def _do(
        self, what: str, user_id: str, method: str, path: str, *, body: object = None, number: str = ""
    ) -> Errand:
        self._numbers += 1
        key = f"errand-{self._numbers}"
        return await self.client.errand(what, user_id, method, path, body=body, number=number, key=key)

    async def _send(self, chance: random.Random) -> Errand:
        person = chance.choice(PEOPLE)
        body = {"total_fen": chance.randint(2, 200), "count": 2, "split": "lucky"}
        sent = await self._do("send", person, "POST", "/v1/packets", body=body)
        if sent.status == 201:
            self.packets.append((sent.number, person))
        return sent

    async def _view(self, chance: random.Random) -> Errand | None:
        return await self._about_packet(chance, "view", "views")

    async def _consent(self, chance: random.Random) -> Errand | None:
        return await self._about_packet(chance, "consent", "retraction/consent")

    async def _about_packet(self, chance: random.Random, what: str, path: str) -> Errand | None:
        if not self.packets:
            return None
        packet_id, _ = chance.choice(self.packets)
        person = chance.choice(PEOPLE[:3])
        return await self._do(what, person, "POST", f"/v1/packets/{packet_id}/{path}", number=packet_id)

    async def _take_back(self, chance: random.Random) -> Errand | None:
        if not self.packets:
            return None
        packet_id, sender = chance.choice(self.packets)
        path = f"/v1/packets/{packet_id}/retraction"
        return await self._do("take back", sender, "POST", path, body={}, number=packet_id)

    async def _transfer(self, chance: random.Random) -> Errand:
        sender, to = chance.sample(PEOPLE, 2)
        body: dict[str, object] = {"to": to, "amount_fen": chance.randint(1, 500)}
        if chance.random() < 0.5:
            body["arrives_after_s"] = TRANSFER_DELAY_S
        sent = await self._do("transfer", sender, "POST", "/v1/transfers", body=body)
        if sent.status == 201:
            self.transfers.append((sent.number, sender, to))
        return sent

    async def _confirm(self, chance: random.Random) -> Errand | None:
        if not self.transfers:
            return None
        transfer_id, _, to = chance.choice(self.transfers)
        path = f"/v1/transfers/{transfer_id}/confirmation"
        return await self._do("confirm", to, "POST", path, number=transfer_id)

    async def _cancel(self, chance: random.Random) -> Errand | None:
        if not self.transfers:
            return None
        transfer_id, sender, _ = chance.choice(self.transfers)
        path = f"/v1/transfers/{transfer_id}/cancellation"
        return await self._do("cancel", sender, "POST", path, number=transfer_id)

    async def _withdraw(self, chance: random.Random) -> Errand:
        person = chance.choice(PEOPLE)
        body = {
            "amount_fen": chance.randint(1, 900),
            "bank_account": chance.choice(BANK_ACCOUNTS),
            "payment_password": PASSWORD,
        }
        return await self._do("withdraw", person, "POST", f"/v1/wallets/{person}/withdrawals", body=body)
