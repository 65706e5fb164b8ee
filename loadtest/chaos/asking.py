"""One client for all guests: sends requests over real HTTP, and records each with its answer in the history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from engine.access import tokens
from engine.errors import FrozenError, LimitReachedError, NotInvitedError, UnavailableError, UnknownPacketError
from loadtest.chaos.history import Claim, Deposit, Errand, History, Listed, Look, Send, Tap

ANSWER_S_MAX = 8.0
"""A client without an answer gives up after this time."""
_TOKEN_TTL_S = 86_400
_LOST = (aiohttp.ClientError, TimeoutError, OSError)
_LISTED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: no answer came, and ``code`` names the reason. ``body`` is empty unless it was an object."""

    asked_s: float
    answered_s: float
    status: int
    code: str
    body: Mapping[str, Any]

    def told(self) -> dict[str, Any]:
        """The fields of every record."""
        return {"asked_s": self.asked_s, "answered_s": self.answered_s, "status": self.status, "code": self.code}


class Client:
    """The API at ``base_url``, for any user. No method raises because of an answer, or because none came."""

    def __init__(self, base_url: str, secret: bytes, history: History, *, connections: int) -> None:
        self._base_url, self._secret, self._history = base_url, secret, history
        self._connections = connections
        self._headers: dict[str, dict[str, str]] = {}
        self._backend = self._bearer("backend", "act")
        self._admin = self._bearer("admin", "admin")

    async def __aenter__(self) -> Self:
        """Open the client."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections), timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._session.close()

    @property
    def is_full(self) -> bool:
        """Whether the history has no room for more."""
        return self._history.is_full

    async def claim(self, packet_id: str, user_id: str) -> Claim:
        """Claim a share."""
        answer = await self._ask("POST", f"/v1/packets/{packet_id}/claims", self._of(user_id))
        claim = Claim(packet_id=packet_id, user_id=user_id, **_outcome(answer.body), **answer.told())
        self._history.add(claim)
        return claim

    async def claim_many(self, claims: list[tuple[str, str]]) -> list[Claim]:
        """Claim for many (packet, user) at once, as a backend does."""
        body = {"claims": [{"packet_id": packet_id, "user_id": user_id} for packet_id, user_id in claims]}
        answer = await self._ask("POST", "/v1/claims", self._backend, body)
        results = answer.body.get("results", []) if answer.status == 200 else [{}] * len(claims)
        made = []
        for (packet_id, user_id), result in zip(claims, results, strict=True):
            told = answer.told() | _refusal(result)
            made.append(Claim(packet_id=packet_id, user_id=user_id, **_outcome(result), **told))
            self._history.add(made[-1])
        return made

    async def grab(self, campaign_id: str, user_id: str) -> Tap:
        """Tap once in a campaign."""
        answer = await self._ask("POST", f"/v1/campaigns/{campaign_id}/grabs", self._of(user_id))
        return self._tapped(campaign_id, user_id, answer.body, answer.told())

    async def grab_many(self, campaign_id: str, users: Sequence[str]) -> list[Tap]:
        """Tap for many users at once, as a backend does."""
        body = {"grabs": [{"campaign_id": campaign_id, "user_id": user_id} for user_id in users]}
        answer = await self._ask("POST", "/v1/grabs", self._backend, body)
        results = answer.body.get("results", []) if answer.status == 200 else [{}] * len(users)
        return [
            self._tapped(campaign_id, user_id, result, answer.told() | _refusal(result))
            for user_id, result in zip(users, results, strict=True)
        ]

    def _tapped(self, campaign_id: str, user_id: str, body: Mapping[str, Any], told: Mapping[str, Any]) -> Tap:
        shares = tuple((share["packet_id"], share["amount_fen"]) for share in body.get("shares", ()))
        tap = Tap(campaign_id=campaign_id, user_id=user_id, outcome=body.get("outcome", ""), shares=shares, **told)
        self._history.add(tap)
        return tap

    async def make_campaign(self, owner: str, key: str, terms: Mapping[str, Any]) -> Errand:
        """Make a campaign. The same key makes the same one."""
        answer = await self._ask("POST", "/v1/campaigns", {**self._of(owner), "Idempotency-Key": key}, terms)
        number = str(answer.body.get("campaign_id", ""))
        made = Errand(what="rain", user_id=owner, number=number, **answer.told())
        self._history.add(made)
        return made

    async def send(self, sender: str, key: str, terms: Mapping[str, Any]) -> Send:
        """Send a packet. The same key makes the same packet."""
        answer = await self._ask("POST", "/v1/packets", {**self._of(sender), "Idempotency-Key": key}, terms)
        send = Send(
            sender=sender,
            key=key,
            total_fen=terms["total_fen"],
            count=terms["count"],
            recipients=tuple(terms.get("recipients", ())),
            packet_id=str(answer.body.get("packet_id", "")),
            **answer.told(),
        )
        self._history.add(send)
        return send

    async def deposit(self, user_id: str, key: str, amount_fen: int) -> Deposit:
        """Put money into a wallet, once per key."""
        headers = {**self._admin, "Idempotency-Key": key}
        answer = await self._ask("POST", f"/v1/wallets/{user_id}/deposits", headers, {"amount_fen": amount_fen})
        deposit = Deposit(user_id=user_id, key=key, amount_fen=amount_fen, **answer.told())
        self._history.add(deposit)
        return deposit

    async def errand(
        self, what: str, user_id: str, method: str, path: str, *, key: str, body: object = None, number: str = ""
    ) -> Errand:
        """Do anything else: as the user, or on a user's account as an admin."""
        headers = self._admin if path.startswith("/v1/accounts/") else {**self._of(user_id), "Idempotency-Key": key}
        answer = await self._ask(method, path, headers, body)
        named = [answer.body[name] for name in ("withdrawal_id", "packet_id", "transfer_id") if name in answer.body]
        errand = Errand(
            what=what,
            user_id=user_id,
            number=number or str(next(iter(named), "")),
            is_in_force=answer.body.get("in_force") is True,
            **answer.told(),
        )
        self._history.add(errand)
        return errand

    async def look(self, packet_id: str) -> Look:
        """Look at a packet."""
        answer = await self._ask("GET", f"/v1/packets/{packet_id}", self._admin)
        names = ("state", "claimed_count", "claimed_fen", "remaining_count", "remaining_fen")
        shown = {name: answer.body[name] for name in names} if answer.status == 200 else {}
        look = Look(packet_id=packet_id, **shown, **answer.told())
        self._history.add(look)
        return look

    async def list_claims(self, packet_id: str) -> Listed:
        """List the claims of a packet with up to 1,000 shares."""
        answer = await self._ask("GET", f"/v1/packets/{packet_id}/claims?limit={_LISTED_MAX}", self._admin)
        rows = answer.body["claims"] if answer.status == 200 else []
        claims = tuple((row["user_id"], row["amount_fen"]) for row in rows)
        listed = Listed(packet_id=packet_id, claims=claims, **answer.told())
        self._history.add(listed)
        return listed

    async def is_ready(self) -> bool:
        """Whether a process reports that it is ready. A new connection is used, so any process may answer."""
        answer = await self._ask("GET", "/readyz", {"Connection": "close"})
        return answer.status == 200

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: object = None) -> Answer:
        asked_s = self._history.now_s()
        try:
            async with self._session.request(method, self._base_url + path, headers=headers, json=body) as response:
                raw, status = await response.read(), response.status
        except _LOST as error:
            return Answer(asked_s, self._history.now_s(), 0, type(error).__name__, {})
        answered_s = self._history.now_s()
        try:
            told = orjson.loads(raw)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            return Answer(asked_s, answered_s, status or 0, "unreadable", {})
        code = "" if status < 400 else str(told.get("code", "without a code"))
        return Answer(asked_s, answered_s, status, code, told)

    def _of(self, user_id: str) -> dict[str, str]:
        headers = self._headers.get(user_id)
        if headers is None:
            headers = self._headers[user_id] = self._bearer(user_id, "send", "claim")
        return headers

    def _bearer(self, user_id: str, *scopes: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens.issue(self._secret, user_id, scopes, _TOKEN_TTL_S)}"}


_UNAVAILABLE: tuple[type[UnavailableError], ...] = (UnavailableError, *UnavailableError.__subclasses__())
_STATUS_OF = {
    NotInvitedError.code: 403,
    FrozenError.code: 403,
    LimitReachedError.code: 409,
    UnknownPacketError.code: 404,
} | {error.code: 503 for error in _UNAVAILABLE}
"""The status that a refusal in a batch would have by itself."""


def _refusal(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of a refusal in a batch: the status that it would have by itself."""
    if "code" not in result:
        return {}
    return {"status": _STATUS_OF.get(result["code"], 500), "code": result["code"]}


def _outcome(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"outcome": body["outcome"], "amount_fen": body["amount_fen"]} if "outcome" in body else {}
