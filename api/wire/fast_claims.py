"""The claim route's short way, for a claim that is plain: a token seen before, a well-formed packet number, no body.

It makes every check the long way (``api.dispatch``) makes, on what it takes; a request that is in any respect not plain
is left to the long way, which answers it or says what is wrong with it. Both give the same answers, byte for byte.
"""

import asyncio
from time import perf_counter
from typing import Protocol

from api.answers import Answer
from api.bodies import has_body
from api.dispatch import Front
from api.limits import CLAIMS, CLAIMS_WAITING, OVERLOADED
from api.problems import RateLimitedError, answer_to
from api.resources.packets import claim_body
from api.wire.forms import PREFIX, SUFFIX, Form, form_of, headers_in, packet_in, speaker, token_in
from engine.claiming.claims import Claims
from engine.ids import is_packet_number, lane_of
from engine.records import ClaimResult, Outcome

LATER = b""
"""Stands for an answer that is not known yet."""
REFUSED = b"refused"
"""Stands for ``api.limits.OVERLOADED``."""
FORMS_SHARED_MAX = 256
"""So many forms are told apart; connections that write alike share one, which stays in the processor's cache."""
_PACKET = slice(len(PREFIX), -len(SUFFIX))
_ROUTE = "/v1/packets/{packet_id}/claims"


class Asker(Protocol):
    """The receiver of the answer to one request; it gets one, once."""

    def write_body(self, body: bytes) -> None:
        """The body of a 200."""
        ...

    def write_answer(self, answer: Answer) -> None:
        """Any answer."""
        ...


class FastClaims:
    """Answers plain claims of one process."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._meter = front.meter.of("POST", _ROUTE)
        self._limits, self._has_user_limits = front.limits, front.limits.users is not None
        self._forms: dict[Form, Form] = {}
        self.deciding: set[asyncio.Task[None]] = set()

    def take(self, method: bytes, target: bytes, pairs: list[tuple[bytes, bytes]], asker: Asker) -> bytes | None:
        """Answer a plain claim: the body of a 200, or LATER: ``asker`` gets the answer, once. None: the long way.

        REFUSED: there are too many, and this one was hardly looked at.

        ``target`` is as it stands in the request line, ``pairs`` are the headers, their names in lower case.
        """
        if method != b"POST" or not target.startswith(PREFIX) or not target.endswith(SUFFIX):
            return None
        packet_id = target[_PACKET].decode("latin-1")
        full_lanes = self._front.engine.claims.full_lanes
        if full_lanes and self._is_refused(packet_id):
            return REFUSED
        user_id = self._user_of(pairs)
        return None if user_id is None else self._claim(packet_id, user_id, asker)

    def take_known(self, form: Form, data: bytes, asker: Asker) -> bytes | None:
        """As ``take``, for a request that is whole and alone and not parsed. None also if it is not of this form."""
        user_id = form.user_of(data)
        if user_id is None or not form.claims.is_in_force():
            return None
        packet_id = packet_in(data)
        if self._front.engine.claims.full_lanes and self._is_refused(packet_id):
            return REFUSED
        return self._claim(packet_id, user_id, asker)

    def form_of(self, data: bytes) -> Form | None:
        """How a plain claim that is whole and alone is written, if others like it may be taken unparsed."""
        headers = headers_in(data)
        token = None if headers is None else token_in(headers)
        claims = None if token is None else self._front.verifier.remembered(token)
        form = None if headers is None or claims is None else form_of(data, headers, claims)
        if form is None:
            return None
        if len(self._forms) >= FORMS_SHARED_MAX:
            self._forms.clear()
        return self._forms.setdefault(form, form)

    def _claim(self, packet_id: str, user_id: str, asker: Asker) -> bytes | None:
        claims = self._front.engine.claims
        if self._has_user_limits:
            if not is_packet_number(packet_id):
                return None
            if self._is_limited(user_id, asker):
                return LATER
        result = claims.finished.answer(packet_id, user_id)
        if result is not None:
            self._meter.at_once += 1
            return claim_body(packet_id, user_id, result)
        if not is_packet_number(packet_id):
            return None
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
        """Whether the packet's lane is full and the claim needs it."""
        claims = self._front.engine.claims
        if not is_packet_number(packet_id) or lane_of(packet_id) not in claims.full_lanes:
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
        """Whether the user has claimed too often; ``asker`` has then got the answer."""
        try:
            self._limits.check_user(user_id, is_claim=True)
        except RateLimitedError as error:
            answer = answer_to(error)
            self._meter.note(answer.status, 0.0)
            asker.write_answer(answer)
            return True
        return False

    def _user_of(self, pairs: list[tuple[bytes, bytes]]) -> str | None:
        """Whom the request speaks for, if its token was verified before and allows it and no body comes with it."""
        headers = dict(pairs)
        # A header that is given twice may be one of those that must not be.
        if len(headers) != len(pairs) or has_body(headers):
            return None
        token = token_in(headers)
        claims = None if token is None else self._front.verifier.remembered(token)
        return None if claims is None else speaker(headers, claims)

    def answered(self, status: int, seconds: float) -> None:
        """A claim that was under way is not any more."""
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
        """What the script says."""
        # A share, at once: all the rest costs calls that a winner need not wait for.
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
        """What is to be said."""
        if isinstance(result, Exception):
            answer = answer_to(result)
        else:
            answer = Answer(200, claim_body(self._packet_id, self._user_id, result))
        self._fast_claims.answered(answer.status, perf_counter() - self._started_s)
        self._asker.write_answer(answer)
