"""The claim route's short way, for a claim that is plain: a token seen before, a well-formed packet number, no body.

It makes every check the long way (``api.dispatch``) makes, on what it takes; a request that is in any respect not plain
is left to the long way, which answers it or says what is wrong with it. Both give the same answers, byte for byte.
"""

from collections.abc import Awaitable
from time import perf_counter

from starlette.types import Scope, Send

from api.answers import JSON
from api.bodies import has_body
from api.dispatch import Front
from api.packets import claim_body
from api.problems import answer_to
from engine.lanes import is_packet_number
from engine.packets import GIVEN
from engine.users import is_user_id

_PREFIX, _SUFFIX = "/v1/packets/", "/claims"
_PACKET = slice(len(_PREFIX), -len(_SUFFIX))
_ROUTE = "/v1/packets/{packet_id}/claims"
_TOKEN_AT = len(b"Bearer ")


class FastClaims:
    """Answers plain claims of one process."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def take(self, scope: Scope, send: Send) -> Awaitable[None] | None:
        """The answering of a plain claim, or None for a request that must go the long way."""
        path: str = scope["path"]
        if scope["method"] != "POST" or not path.endswith(_SUFFIX) or not path.startswith(_PREFIX):
            return None
        packet_id = path[_PACKET]
        user_id = self._user_of(scope["headers"])
        if user_id is None or not is_packet_number(packet_id):
            return None
        return self._answer(packet_id, user_id, send)

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
        if "act" not in claims.scopes:
            return claims.user_id if named is None and "claim" in claims.scopes else None
        user_id = named and named.decode("latin-1")
        return user_id if user_id and is_user_id(user_id) else None

    async def _answer(self, packet_id: str, user_id: str, send: Send) -> None:
        started_s = perf_counter()
        front = self._front
        front.in_flight += 1
        try:
            try:
                packets = front.engine.packets
                result = packets.finished.answer(packet_id, user_id)
                if result is None:
                    result = await packets.ask(packet_id, user_id)
                    if result.outcome not in GIVEN:
                        result = await packets.decided(packet_id, user_id, result)
                status, body, headers = 200, claim_body(packet_id, user_id, result), JSON
            except Exception as error:
                status, body, headers = answer_to(error)
            front.meter.note("POST", _ROUTE, status, perf_counter() - started_s)
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": status, "headers": (*headers, length)})
            await send({"type": "http.response.body", "body": body})
        finally:
            front.in_flight -= 1
            if front.in_flight == 0:
                front.idle.set()
