"""The claim route's short way for plain claims: a token seen before, a well-formed packet number, no body.

It makes every check of the long way (``api.dispatch``). If a request is not plain in any respect, the long way answers
it or says what is wrong. Both ways return the same answers, byte for byte.
"""

import asyncio
from collections.abc import Iterable
from time import perf_counter
from typing import Protocol

from api.answers import Answer
from api.bodies import has_body
from api.dispatch import Front
from api.limits import CLAIMS, CLAIMS_WAITING, OVERLOADED
from api.problems import RateLimitedError, answer_to
from api.resources.packets import claim_body
from api.wire.layouts import PREFIX, SUFFIX, Layout, Layouts, speaker, token_in
from engine.claiming.claims import Claims
from engine.ids import is_packet_number, lane_of, may_be_special, user_id_in
from engine.records import ClaimResult, Outcome

LATER = b""
"""A placeholder: the answer is not known yet."""
REFUSED = b"refused"
"""A placeholder for ``api.limits.OVERLOADED``."""
_PACKET = slice(len(PREFIX), -len(SUFFIX))
_ROUTE = "/v1/packets/{packet_id}/claims"


class Asker(Protocol):
    """The receiver of a request's answer. It gets exactly one."""

    def write_body(self, body: bytes) -> None:
        """Take the body of a 200."""
        ...

    def write_answer(self, answer: Answer) -> None:
        """Take any answer."""
        ...


class FastClaims:
    """Answers one process's plain claims. Those of packets that may be of a campaign or of coupons go the long way."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._meter, self._remembered = front.meter.of("POST", _ROUTE), front.verifier.remembered
        self._limits, self._has_user_limits = front.limits, front.limits.users is not None
        self.layouts = Layouts()
        self.deciding: set[asyncio.Task[None]] = set()

    def take(self, method: bytes, target: bytes, pairs: list[tuple[bytes, bytes]], asker: Asker) -> bytes | None:
        """Answer a plain claim. Returns the body of a 200, or LATER: ``asker`` gets the answer, once.

        None: the claim must go the long way. REFUSED: there are too many claims, and it was hardly checked.

        ``target``: as in the request line. ``pairs``: the headers, with names in lower case.
        """
        if method != b"POST" or not target.startswith(PREFIX) or not target.endswith(SUFFIX):
            return None
        packet_id = target[_PACKET].decode("latin-1")
        if not is_packet_number(packet_id) or may_be_special(packet_id):
            return None
        full_lanes = self._front.engine.claims.full_lanes
        if full_lanes and self._is_refused(packet_id):
            return REFUSED
        user_id = self._user_of(pairs)
        return None if user_id is None else self._claim(packet_id, user_id, asker)

    def take_known(self, layouts: Iterable[Layout], data: bytes, asker: Asker) -> bytes | None:
        """As ``take``, for an unparsed request that came complete and alone. None also if no layout fits."""
        for layout in layouts:
            found = layout.fullmatch(data)
            if found is not None:
                break
        else:
            return None
        packet, token, named = found.group(1, layout.token_at, layout.user_at)
        claims = self._remembered(token)
        user_id = None if claims is None else speaker(None if named is None else named.decode(), claims)
        if user_id is None:
            return None
        packet_id = packet.decode()
        if may_be_special(packet_id):
            return None
        if self._front.engine.claims.full_lanes and self._is_refused(packet_id):
            return REFUSED
        return self._claim(packet_id, user_id, asker)

    def _claim(self, packet_id: str, user_id: str, asker: Asker) -> bytes:
        claims = self._front.engine.claims
        if self._has_user_limits and self._is_limited(user_id, asker):
            return LATER
        result = claims.finished.answer(packet_id, user_id)
        if result is not None:
            self._meter.at_once += 1
            return claim_body(packet_id, user_id, result)
        if self._front.in_flight >= self._limits.claims_max:
            return self._refused(CLAIMS)
        self._front.in_flight += 1
        asked = _Asked(self, claims, packet_id, user_id, asker)
        try:
            claims.ask(packet_id, user_id, asked.take)
        except Exception as error:
            asked.answer(error)
        return LATER

    def _is_refused(self, packet_id: str) -> bool:
        """Whether the packet's lane is full and the claim needs the lane."""
        claims = self._front.engine.claims
        if lane_of(packet_id) not in claims.full_lanes:
            return False
        if claims.finished.knows(packet_id):
            return False
        self._refused(CLAIMS_WAITING)
        return True

    def _refused(self, reason: str) -> bytes:
        self._limits.refused[reason] += 1
        self._meter.note(OVERLOADED.status, 0.0)
        return REFUSED

    def _is_limited(self, user_id: str, asker: Asker) -> bool:
        """Whether the user has claimed too often. If so, ``asker`` has got the answer."""
        try:
            self._limits.check_user(user_id, is_claim=True)
        except RateLimitedError as error:
            answer = answer_to(error)
            self._meter.note(answer.status, 0.0)
            asker.write_answer(answer)
            return True
        return False

    def _user_of(self, pairs: list[tuple[bytes, bytes]]) -> str | None:
        """The user of the request, if its token was verified before and allows it and there is no body."""
        headers = dict(pairs)
        # A header that is given twice may be one of those that must not be.
        if len(headers) != len(pairs) or has_body(headers):
            return None
        token = token_in(headers)
        claims = None if token is None else self._remembered(token)
        if claims is None:
            return None
        named = headers.get(b"x-user-id")
        if named is None:
            return speaker(None, claims)
        user_id = user_id_in(named)
        return None if user_id is None else speaker(user_id, claims)

    def answered(self, status: int, seconds: float) -> None:
        """Count a claim that was in progress as answered."""
        front = self._front
        self._meter.note(status, seconds)
        front.in_flight -= 1
        if front.in_flight == 0:
            front.idle.set()


class _Asked:
    """One claim that waits for Redis."""

    __slots__ = ("_asker", "_claims", "_fast_claims", "_packet_id", "_started_s", "_user_id")

    def __init__(self, fast_claims: FastClaims, claims: Claims, packet_id: str, user_id: str, asker: Asker) -> None:
        self._fast_claims, self._claims, self._asker = fast_claims, claims, asker
        self._packet_id, self._user_id = packet_id, user_id
        self._started_s = perf_counter()

    def take(self, result: ClaimResult | Exception) -> None:
        """Take the script's result."""
        # A share is answered at once: all other cases cost calls that a winner need not wait for.
        if result.__class__ is ClaimResult and result.outcome is Outcome.CLAIMED:
            self._fast_claims.answered(200, perf_counter() - self._started_s)
            self._asker.write_body(claim_body(self._packet_id, self._user_id, result))
        elif isinstance(result, Exception) or self._claims.is_final(self._packet_id, result):
            self.answer(result)
        else:
            task = asyncio.create_task(self._decide(result))
            self._fast_claims.deciding.add(task)
            task.add_done_callback(self._fast_claims.deciding.discard)

    async def _decide(self, result: ClaimResult) -> None:
        decided: ClaimResult | Exception
        try:
            decided = await self._claims.decided(self._packet_id, self._user_id, result)
        except Exception as error:
            decided = error
        self.answer(decided)

    def answer(self, result: ClaimResult | Exception) -> None:
        """Send the answer."""
        if isinstance(result, Exception):
            answer = answer_to(result)
        else:
            answer = Answer(200, claim_body(self._packet_id, self._user_id, result))
        self._fast_claims.answered(answer.status, perf_counter() - self._started_s)
        self._asker.write_answer(answer)
