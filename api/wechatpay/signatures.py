"""Signatures of WeChat Pay's second version: MD5 or HMAC-SHA256 over the sorted fields and the API key."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Literal

SignType = Literal["MD5", "HMAC-SHA256"]
SIGN_TYPES: tuple[SignType, ...] = ("MD5", "HMAC-SHA256")
UNSIGNED = ("sign",)


def string_to_sign(fields: Mapping[str, str]) -> str:
    """What is signed, without its last part, which is ``&key=`` and the API key. Empty fields do not count."""
    return "&".join(f"{name}={fields[name]}" for name in sorted(fields) if fields[name] and name not in UNSIGNED)


def sign(fields: Mapping[str, str], api_key: str, sign_type: SignType) -> str:
    """The signature, in capitals. MD5 is WeChat Pay's choice, and protects as well as it does there."""
    text = f"{string_to_sign(fields)}&key={api_key}".encode()
    if sign_type == "MD5":
        return hashlib.md5(text, usedforsecurity=False).hexdigest().upper()
    return hmac.digest(api_key.encode(), text, "sha256").hex().upper()


def is_signed(fields: Mapping[str, str], api_key: str, sign_type: SignType) -> bool:
    """Whether the field ``sign`` is the signature of the others. Compared in constant time."""
    expected = sign(fields, api_key, sign_type)
    return hmac.compare_digest(expected.encode(), fields.get("sign", "").encode())
