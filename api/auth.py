"""Authorization: bearer tokens, scopes, and backends that act for a user.

A token with ``act`` belongs to a backend: the header X-User-Id names the user it acts for. Without ``act``, a token
acts only for its own ``sub``. ``act`` sees what the named user sees or, without a user, what everyone sees. ``admin``
sees everything. docs/access.md has the whole table.
"""

from dataclasses import dataclass

from api.bodies import Headers
from api.problems import ForbiddenError
from engine.access.tokens import TokenClaims, Verifier
from engine.errors import FieldProblem, InvalidFieldsError, InvalidTokenError, UnknownPacketError
from engine.ids import USER_ID_RULE, is_user_id
from engine.packets.views import PacketView

USER_HEADER = "X-User-Id"
_NAME_THE_USER = FieldProblem(USER_HEADER, "is required: with the scope act it names the user to act for")


@dataclass(frozen=True, slots=True)
class Access:
    """An operation's requirements for its caller.

    ``scopes``: the token must have one of them. Empty: any valid token is enough. ``for_user``: the caller must act for
    a user, so a backend must send X-User-Id.
    """

    scopes: tuple[str, ...] = ()
    for_user: bool = False


ANY_TOKEN = Access()


@dataclass(frozen=True, slots=True)
class Caller:
    """``principal``: the token's own ``sub``. ``user_id``: the user it acts for (None if a backend names none)."""

    principal: str
    user_id: str | None
    scopes: frozenset[str]

    @property
    def user(self) -> str:
        """The user it acts for. Raises InvalidFieldsError naming the missing header."""
        if self.user_id is None:
            raise InvalidFieldsError([_NAME_THE_USER])
        return self.user_id

    def may_read(self, user_id: str) -> None:
        """Raise ForbiddenError unless this is ``user_id``, a backend that acts for them, or an admin."""
        if "admin" in self.scopes or self.user == user_id:
            return
        raise ForbiddenError("This belongs to another user; reading it needs the scope admin.")

    def must_be(self, user_id: str) -> None:
        """Raise ForbiddenError unless this is ``user_id`` or a backend that acts for them."""
        if self.user != user_id:
            raise ForbiddenError("This belongs to another user; only they can use it.")

    def may_see(self, view: PacketView) -> None:
        """Raise UnknownPacketError if the packet names recipients and this is neither one of them nor its sender.

        An admin sees all packets.
        """
        if not view.recipients or self.sees_all or self.user_id == view.sender or self.user_id in view.recipients:
            return
        raise UnknownPacketError("A packet for others.")

    @property
    def sees_all(self) -> bool:
        """Whether the caller also sees packets for named recipients."""
        return "admin" in self.scopes


def caller_of(access: Access, headers: Headers, verifier: Verifier, problems: list[FieldProblem]) -> Caller:
    """The caller of a request. Problems with X-User-Id are added to ``problems``.

    Raises InvalidTokenError, or ForbiddenError naming the missing scope.
    """
    claims = verifier.verify(_bearer(headers))
    if access.scopes and claims.scopes.isdisjoint(access.scopes):
        raise ForbiddenError(f"This needs a token with the scope {' or '.join(access.scopes)}.")
    user_id = _spoken_for(claims, headers.get(b"x-user-id"), problems)
    if user_id is None and access.for_user and not problems:
        problems.append(_NAME_THE_USER)
    return Caller(claims.user_id, user_id, claims.scopes)


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise InvalidTokenError("Send the header Authorization: Bearer and a token.")
    return token


def _spoken_for(claims: TokenClaims, header: bytes | None, problems: list[FieldProblem]) -> str | None:
    if header is None:
        return None if "act" in claims.scopes else claims.user_id
    if "act" not in claims.scopes:
        raise ForbiddenError(f"The header {USER_HEADER} needs a token with the scope act.")
    user_id = header.decode("latin-1")
    if not is_user_id(user_id):
        problems.append(FieldProblem(USER_HEADER, USER_ID_RULE))
        return None
    return user_id
