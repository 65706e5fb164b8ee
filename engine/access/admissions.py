"""Admissions to campaigns: JWTs that a backend signs, or has signed, for a user. They need no state.

They are signed as bearer tokens are (``engine.access.tokens``), and their ``aud`` is AUDIENCE. So neither can be used
in the place of the other.
"""

from dataclasses import dataclass
from typing import Any

import jwt

from engine.access.keyring import ALGORITHM, Keyring
from engine.errors import NotInvitedError

AUDIENCE = "campaign"
_BYTES_MAX = 4_096
_WRONG = "The admission is not valid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a user is let in to: a campaign, or all campaigns that name a group (``label``).

    ``wave``: only this one. ``wins_max``: how many shares they may win in all. None: nothing is said of it.
    """

    user_id: str
    campaign_id: str | None = None
    label: str | None = None
    wave: int | None = None
    wins_max: int | None = None


class Admissions:
    """Signs and reads admissions. ``leeway_s``: how far this machine's clock and the signer's may differ."""

    def __init__(self, keys: Keyring, *, leeway_s: int = 0) -> None:
        self._keys, self._leeway_s = keys, leeway_s

    def sign(self, user_id: str, campaign_id: str, *, wins_max: int, expires_at_s: int) -> str:
        """An admission of a user to a campaign. The same again is the same text: a repeated request returns it."""
        secret = self._keys.named(None)
        claims = {
            "aud": AUDIENCE,
            "sub": user_id,
            "campaign": campaign_id,
            "wins": wins_max,
            "exp": expires_at_s,
        }
        headers = None if secret.key_id is None else {"kid": secret.key_id}
        return jwt.encode(claims, secret.value, algorithm=ALGORITHM, headers=headers)

    def read(self, text: str) -> Admission:
        """An admission that is in force. Raises NotInvitedError that says what is wrong with it."""
        if len(text) > _BYTES_MAX:
            raise NotInvitedError(f"{_WRONG}: it is longer than {_BYTES_MAX} bytes.")
        try:
            claims = self._claims(text)
        except jwt.ExpiredSignatureError:
            raise NotInvitedError(f"{_WRONG} any more: it has expired.") from None
        except jwt.ImmatureSignatureError:
            raise NotInvitedError(f"{_WRONG} yet.") from None
        # As for bearer tokens: what is below PyJWT fails in ways of its own.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise NotInvitedError(f"{_WRONG}: its form, its aud or its signature is wrong.") from None
        user_id, campaign_id, label = claims["sub"], claims.get("campaign"), claims.get("label")
        texts = [user_id, *(text for text in (campaign_id, label) if text is not None)]
        numbers = [number for number in (claims.get("wave"), claims.get("wins")) if number is not None]
        if not all(isinstance(text, str) for text in texts) or not all(map(_is_count, numbers)):
            raise NotInvitedError(f"{_WRONG}: campaign and label must be text, wave and wins whole numbers.")
        return Admission(
            user_id=user_id,
            campaign_id=campaign_id,
            label=label,
            wave=claims.get("wave"),
            wins_max=claims.get("wins"),
        )

    def _claims(self, text: str) -> dict[str, Any]:
        secret = self._keys.verifying(jwt.get_unverified_header(text).get("kid"))
        if secret is None:
            raise jwt.InvalidKeyError("its kid names no secret in force")
        claims: dict[str, Any] = jwt.decode(
            text,
            secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["exp", "sub", "aud"], "verify_iat": False},
            leeway=self._leeway_s,
        )
        if not isinstance(claims["exp"], int | float):  # PyJWT accepts text that looks like a number
            raise TypeError
        return claims


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 2**31 - 1
