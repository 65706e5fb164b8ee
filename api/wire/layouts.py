"""Layouts of plain claims: which headers come, in which order. A claim of a known layout is not parsed.

A program writes all its claims alike. Only the packet, the token, the user and a gateway's additions differ: a trace,
a request id, the client's address. So a layout is one regular expression with the headers' names. It accepts any
printable value, except for the few headers that decide what a request is.

A layout is made from a parsed request in a strict part of HTTP that can be read in only one way. A request that fits
the layout is in that part, too. All connections of a process share the layouts: of users' phones, each has a connection
of its own, which often carries a single claim.
"""

import math
import re
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from api.bodies import has_body
from engine.access.tokens import TokenClaims
from engine.ids import NUMBER_LENGTH, NUMBER_PATTERN, USER_ID_PATTERN

PREFIX, SUFFIX = b"/v1/packets/", b"/claims"
PLAIN_BYTES_MAX = 4_096
"""The parser reads longer requests."""
LAYOUTS_MAX, ALIKE_MAX = 64, 8
"""How many layouts there are at a time, and how many of them may begin alike. A claim is compared with all those."""
FORGET_S = 60.0
"""If there are too many, all are forgotten, at most this often: making one takes as long as some thirty claims."""
_BEGIN, _END = b"POST " + PREFIX, b"\r\n\r\n"
_BEARER = b"Bearer "
# Nothing is given back once it has matched, so a layout that does not fit is done with at the first other name.
_NAME, _VALUE = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]++", rb"(?! )[\x20-\x7e]++(?<! )"
_TARGET = rb"%b(%b)%b HTTP/1\.1\r\n" % (re.escape(_BEGIN), NUMBER_PATTERN.encode(), re.escape(SUFFIX))
_FIRST_LINE = len(_BEGIN) + NUMBER_LENGTH + len(SUFFIX) + len(b" HTTP/1.1\r\n")
START = slice(_FIRST_LINE, _FIRST_LINE + 8)
"""The place of the first header's name, or of most of it: a plain claim's first line always has the same length."""
_HEAD = re.compile(rb"%b(?P<lines>(?:%b: ?%b\r\n)+)\r\n" % (_TARGET, _NAME, _VALUE))
_LINE = re.compile(rb"(%b)(: ?)(.*)\r\n" % _NAME)
_HOLES = {
    # Any bytes, because this is faster. Only a token that was verified before counts, and the parser had read it.
    b"authorization": rb"%b(?P<token>[^\r]++)" % re.escape(_BEARER),
    b"x-user-id": rb"(?P<user>%b)" % USER_ID_PATTERN.encode(),
}
_DECIDING = frozenset((b"content-length", b"connection"))
"""Headers whose values must equal those in the parsed request."""
_NOT_PLAIN = frozenset((b"transfer-encoding", b"proxy-connection", b"upgrade", b"expect"))
"""Headers that may turn a request into something else."""


class Layout(NamedTuple):
    """One order of headers. ``fullmatch`` finds a complete request's packet, token and user (which may be None).

    They are the groups 1, ``token_at`` and ``user_at``. A method that returns them would cost as much as the match.
    """

    fullmatch: "Callable[[bytes], re.Match[bytes] | None]"
    token_at: int
    user_at: int


class Layouts:
    """One process's layouts, found by how their requests begin.

    ``alike``: as ``of`` finds them, by ``data[START]``, for who asks so often that a call is too much.
    """

    def __init__(self) -> None:
        self.alike: dict[bytes, list[Layout]] = {}
        self._names: set[bytes] = set()
        self._forgotten_s = -math.inf

    def of(self, data: bytes) -> Sequence[Layout]:
        """Those that may fit a request."""
        return self.alike.get(data[START], ())

    def learn(self, data: bytes) -> None:
        """Make the layout of a parsed plain claim that came complete and alone."""
        names = names_in(data)
        if names is None or names in self._names:
            return
        if len(self._names) >= LAYOUTS_MAX or len(self.of(data)) >= ALIKE_MAX:
            if monotonic() - self._forgotten_s < FORGET_S:
                return
            self._forgotten_s = monotonic()
            self.alike.clear()
            self._names.clear()
        self._names.add(names)
        self.alike[data[START]] = [*self.of(data), layout_of(names)]


def speaker(named: str | None, claims: TokenClaims) -> str | None:
    """The user of a plain claim, by its X-User-Id and its token's claims. None if it is not plain."""
    if "act" in claims.scopes:
        return named
    return claims.user_id if named is None and "claim" in claims.scopes else None


def token_in(headers: dict[bytes, bytes]) -> bytes | None:
    """The bearer token of a plain claim with these headers. None if it is not plain."""
    authorization = headers.get(b"authorization", b"")
    return authorization[len(_BEARER) :] if authorization.startswith(_BEARER) else None


def is_whole(data: bytes) -> bool:
    """Whether ``data`` could be exactly one complete plain claim."""
    return data.startswith(_BEGIN) and data.endswith(_END) and len(data) <= PLAIN_BYTES_MAX


def names_in(data: bytes) -> bytes | None:
    """The key of the layout of ``data`` if it is exactly one complete plain claim, otherwise None."""
    head = _HEAD.fullmatch(data)
    if head is None:
        return None
    lines = [(name.lower(), value) for name, _, value in _LINE.findall(head["lines"])]
    headers = dict(lines)
    if len(headers) < len(lines) or has_body(headers) or not _NOT_PLAIN.isdisjoint(headers):
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive" or token_in(headers) is None:
        return None
    return b"".join(_pattern_of(*line) for line in _LINE.findall(head["lines"]))


def layout_of(names: bytes) -> Layout:
    """The layout with a key from ``names_in``."""
    no_user = b"" if b"(?P<user>" in names else rb"(?P<user>(?!))?"
    pattern = re.compile(rb"%b%b%b\r\n" % (_TARGET, names, no_user))
    return Layout(pattern.fullmatch, pattern.groupindex["token"], pattern.groupindex["user"])


def _pattern_of(name: bytes, colon: bytes, value: bytes) -> bytes:
    known = name.lower()
    value_pattern = re.escape(value) if known in _DECIDING else _HOLES.get(known, _VALUE)
    return rb"%b%b%b\r\n" % (re.escape(name), colon, value_pattern)
