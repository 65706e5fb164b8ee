"""The claim route's short way, for a claim that is plain: a token seen before, a well-formed packet number, no body.

It makes every check the long way (``api.dispatch``) makes, on what it takes; a request that is in any respect not plain
is left to the long way, which answers it or says what is wrong with it. Both give the same answers, byte for byte.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from api.answers import Answer
from api.bodies import has_body
from api.dispatch import Front
from api.limits import CLAIMS, CLAIMS_WAITING, OVERLOADED
from api.packets import claim_body
from api.problems import RateLimitedError, answer_to
from engine.lanes import is_packet_number, lane_of
from engine.packets import Packets
from engine.records import ClaimResult
from engine.users import user_id_in

Deliver = Callable[[Answer], None]
"""Takes the answer to one request."""

LATER = b""
"""Stands for an answer that is not known yet."""
REFUSED = b"refused"
"""Stands for ``api.limits.OVERLOADED``."""
_PREFIX, _SUFFIX = b"/v1/packets/", b"/claims"
_PACKET = slice(len(_PREFIX), -len(_SUFFIX))
_ROUTE = "/v1/packets/{packet_id}/claims"
_TOKEN_AT = len(b"Bearer ")


class FastClaims:
    """Answers plain claims of one process."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._meter = front.meter.of("POST", _ROUTE)
        self._limits, self._has_user_limits = front.limits, front.limits.users is not None
        self.deciding: set[asyncio.Task[None]] = set()

    def take(  # noqa: PLR0911 - one an outcome; calls would cost
        self, method: bytes, target: bytes, pairs: list[tuple[bytes, bytes]], deliver: Deliver
    ) -> bytes | None:
        """Answer a plain claim: the body of a 200, or LATER: ``deliver`` gets the answer, once. None: the long way.

        REFUSED: there are too many, and this one was hardly looked at.

        ``target`` is as it stands in the request line, ``pairs`` are the headers, their names in lower case.
        """
        if method != b"POST" or not target.startswith(_PREFIX) or not target.endswith(_SUFFIX):
            return None
        packets = self._front.engine.packets
        if packets.full_lanes and self._is_refused(packets, target):
            return REFUSED
        user_id = self._user_of(pairs)
        if user_id is None:
            return None
        packet_id = target[_PACKET].decode("latin-1")
        if self._has_user_limits:
            if not is_packet_number(packet_id):
                return None
            if self._is_limited(user_id, deliver):
                return LATER
        result = packets.finished.answer(packet_id, user_id)
        if result is not None:
            self._meter.at_once += 1
            return claim_body(packet_id, user_id, result)
        if not is_packet_number(packet_id):
            return None
        if self._front.in_flight >= self._limits.claims_max:
            return self._refused(CLAIMS)
        _Asked(self, packets, (packet_id, user_id), deliver).ask()
        return LATER

    def _is_refused(self, packets: Packets, target: bytes) -> bool:
        """Whether the packet's lane is full and the claim needs it."""
        packet_id = target[_PACKET].decode("latin-1")
        if not is_packet_number(packet_id) or lane_of(packet_id) not in packets.full_lanes:
            return False
        if packets.finished.knows(packet_id):
            return False
        self._refused(CLAIMS_WAITING)
        return True

    def _refused(self, reason: str) -> bytes:
        self._limits.refused[reason] += 1
        self._meter.note(OVERLOADED.status, 0.0)
        return REFUSED

    def _is_limited(self, user_id: str, deliver: Deliver) -> bool:
        """Whether the user has claimed too often; ``deliver`` has then got the answer."""
        try:
            self._limits.check_user(user_id, is_claim=True)
        except RateLimitedError as error:
            answer = answer_to(error)
            self._meter.note(answer.status, 0.0)
            deliver(answer)
            return True
        return False

    def _user_of(self, pairs: list[tuple[bytes, bytes]]) -> str | None:
        """Whom the request speaks for, if its token was verified before and allows it and no body comes with it."""
        headers = dict(pairs)
        # A header that is given twice may be one of those that must not be.
        if len(headers) != len(pairs) or has_body(headers):
            return None
        authorization, named = headers.get(b"authorization", b""), headers.get(b"x-user-id")
        if authorization[:_TOKEN_AT] != b"Bearer ":
            return None
        claims = self._front.verifier.remembered(authorization[_TOKEN_AT:])
        if claims is None:
            return None
        if "act" in claims.scopes:
            return user_id_in(named) if named else None
        return claims.user_id if named is None and "claim" in claims.scopes else None

    def begun(self) -> None:
        """A claim is under way."""
        self._front.in_flight += 1

    def answered(self, status: int, seconds: float) -> None:
        """It is not any more."""
        front = self._front
        self._meter.note(status, seconds)
        front.in_flight -= 1
        if front.in_flight == 0:
            front.idle.set()


class _Asked:
    """One claim that waits for Redis."""

    __slots__ = ("_claims", "_deliver", "_packet_id", "_packets", "_started_s", "_user_id")

    def __init__(self, claims: FastClaims, packets: Packets, claim: tuple[str, str], deliver: Deliver) -> None:
        self._claims, self._packets, self._deliver = claims, packets, deliver
        self._packet_id, self._user_id = claim
        self._started_s = perf_counter()

    def ask(self) -> None:
        self._claims.begun()
        try:
            self._packets.ask(self._packet_id, self._user_id, self._take)
        except Exception as error:
            self._answer(error)

    def _take(self, result: ClaimResult | Exception) -> None:
        if isinstance(result, Exception) or self._packets.is_final(self._packet_id, result):
            self._answer(result)
            return
        task = asyncio.create_task(self._decide(result))
        self._claims.deciding.add(task)
        task.add_done_callback(self._claims.deciding.discard)

    async def _decide(self, result: ClaimResult) -> None:
        decided: ClaimResult | Exception
        try:
            decided = await self._packets.decided(self._packet_id, self._user_id, result)
        except Exception as error:
            decided = error
        self._answer(decided)

    def _answer(self, result: ClaimResult | Exception) -> None:
        if isinstance(result, Exception):
            answer = answer_to(result)
        else:
            answer = Answer(200, claim_body(self._packet_id, self._user_id, result))
        self._claims.answered(answer.status, perf_counter() - self._started_s)
        self._deliver(answer)
