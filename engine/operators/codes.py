"""The codes of an authenticator app (TOTP, RFC 6238): six digits that are valid for half a minute and used once."""

import hmac

import pyotp

STEP_S = 30
STEPS_AROUND = 1
"""How many steps an authenticator's clock may be ahead or behind."""
ISSUER = "hongbao"


def new_secret() -> str:
    """A new secret of 160 bits, in base32."""
    return pyotp.random_base32()


def address_of(secret: str, name: str) -> str:
    """The otpauth:// address that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=name, issuer_name=ISSUER)


def code_at(secret: str, at_ms: int) -> str:
    """The code at a time."""
    return pyotp.TOTP(secret, interval=STEP_S).at(at_ms // 1_000)


def step_of(secret: str, code: str, at_ms: int, used_step: int) -> int | None:
    """The step that a code belongs to. None if it is wrong, too old, or was used: steps up to ``used_step`` were."""
    digits = code.replace(" ", "")
    if len(digits) != 6 or not (digits.isascii() and digits.isdecimal()):
        return None
    now = at_ms // 1_000 // STEP_S
    for step in range(now - STEPS_AROUND, now + STEPS_AROUND + 1):
        if step > used_step and hmac.compare_digest(code_at(secret, step * STEP_S * 1_000), digits):
            return step
    return None
