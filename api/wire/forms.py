"""How one client writes its plain claims: what stays the same from one to the next need not be parsed again.

A request of the same bytes but for the packet and the user is the same request for another packet and another user,
whatever its other headers are. A form is taken from a request that keeps to a strict part of HTTP, of which there are
no two readings; what it is compared with has been read by a parser once, byte for byte, but for those two.
"""

import re
from typing import NamedTuple

from api.bodies import has_body
from engine.access.tokens import TokenClaims
from engine.ids import USER_ID_PATTERN, user_id_in

PREFIX, SUFFIX = b"/v1/packets/", b"/claims"
FORM_BYTES_MAX = 2_048
"""Longer ones are not kept: there may be one a connection."""
_START = b"POST " + PREFIX
_PACKET = slice(len(_START), len(_START) + 19)
_REST = _PACKET.stop
_BEARER = b"Bearer "
_NAME, _VALUE = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+", rb"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?"
_HEAD = re.compile(
    rb"%b10\d{17}(%b HTTP/1\.1\r\n)((?:%b: ?%b\r\n)+)\r\n" % (re.escape(_START), re.escape(SUFFIX), _NAME, _VALUE)
)
_LINE = re.compile(rb"(%b): ?(.*)\r\n" % _NAME)
_USER_LINE = re.compile(rb"\r\nx-user-id: ?(%b)\r\n" % USER_ID_PATTERN.encode(), re.IGNORECASE)
_NOT_PLAIN = frozenset((b"transfer-encoding", b"connection", b"proxy-connection", b"upgrade", b"expect"))
"""Headers by which a request may be something else."""


def speaker(headers: dict[bytes, bytes], claims: TokenClaims) -> str | None:
    """Whom a plain claim with these headers, whose token says this, is for; None if it is not plain."""
    named = headers.get(b"x-user-id")
    if "act" in claims.scopes:
        return user_id_in(named) if named else None
    return claims.user_id if named is None and "claim" in claims.scopes else None


def token_in(headers: dict[bytes, bytes]) -> bytes | None:
    """The bearer token of a plain claim with these headers; None if it is not plain."""
    authorization = headers.get(b"authorization", b"")
    return authorization[len(_BEARER) :] if authorization.startswith(_BEARER) else None


class Form(NamedTuple):
    """One client's way to write a plain claim, with its token.

    ``before``, ``after``: what comes between packet and user and after it; None: there is no user in it.
    """

    before: bytes
    after: bytes | None
    claims: TokenClaims

    def user_of(self, data: bytes) -> str | None:
        """Whom a claim written in this form is for; None if ``data`` is anything else. The packet is not looked at."""
        if not data.startswith(_START):
            return None
        after = self.after
        if after is None:
            return self.claims.user_id if data[_REST:] == self.before else None
        if not data.startswith(self.before, _REST) or not data.endswith(after):
            return None
        return user_id_in(data[_REST + len(self.before) : len(data) - len(after)])


def packet_in(data: bytes) -> str:
    """What stands in the packet's place, which may be no packet number."""
    return data[_PACKET].decode("latin-1")


def headers_in(data: bytes) -> dict[bytes, bytes] | None:
    """The headers of a request that is, whole and alone, a plain claim that a form may be taken from; else None."""
    head = _HEAD.fullmatch(data) if len(data) <= FORM_BYTES_MAX else None
    if head is None:
        return None
    lines = [(name.lower(), value) for name, value in _LINE.findall(head[2])]
    headers = dict(lines)
    if len(headers) < len(lines) or has_body(headers) or not _NOT_PLAIN.isdisjoint(headers):
        return None
    return headers


def form_of(data: bytes, headers: dict[bytes, bytes], claims: TokenClaims) -> Form | None:
    """The form of a request that ``headers_in`` has read and whose token says ``claims``; None if it is not plain."""
    if speaker(headers, claims) is None:
        return None
    user = _USER_LINE.search(data, _REST)
    if user is None:
        return Form(data[_REST:], None, claims)
    return Form(data[_REST : user.start(1)], data[user.end(1) :], claims)
