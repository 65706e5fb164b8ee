"""Merchants' API keys, and what encrypts them at rest (AES-256-GCM).

The encrypting keys come from HONGBAO_WECHATPAY_KEYS. Without it, `hongbao up --wechatpay-sandbox` keeps one in the data
directory, for its own merchant.
"""

import hmac
import os
import secrets
import string
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.access.keyring import SECRETS_MAX, secrets_in
from engine.errors import NoWechatpayKeyError, OperatorError
from engine.settings import Settings

API_KEY_LENGTH = 32
_NONCE_BYTES = 12
_VARIABLE = "HONGBAO_WECHATPAY_KEYS"
_LETTERS = string.ascii_letters + string.digits
_FILE_ID, _FILE_BYTES_MAX = "sandbox", 4_096


def new_api_key() -> str:
    """A new API key, as WeChat Pay's: 32 letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(API_KEY_LENGTH))


class SealingKeys:
    """All keys in force. The first encrypts."""

    def __init__(self, in_force: Mapping[str, bytes]) -> None:
        self._in_force = in_force

    def seal(self, mch_id: str, use: str, api_key: str) -> tuple[str, bytes]:
        """The id of the encrypting key, and an API key encrypted for this use alone. Raises NoWechatpayKeyError."""
        for key_id, key in self._in_force.items():
            nonce = secrets.token_bytes(_NONCE_BYTES)
            return key_id, nonce + _cipher(key).encrypt(nonce, api_key.encode(), _bound_to(mch_id, use))
        raise NoWechatpayKeyError(f"Merchants' API keys must be encrypted: an operator must set {_VARIABLE}.")

    def unseal(self, mch_id: str, use: str, key_id: str, sealed: bytes) -> str:
        """The API key. Raises NoWechatpayKeyError if what encrypted it is not in force, or is another."""
        key = self._in_force.get(key_id)
        if key is None:
            why = f"The key {key_id}, which encrypted the API keys of merchant {mch_id}, is not in {_VARIABLE}: add it."
            raise NoWechatpayKeyError(why)
        try:
            plain = _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(mch_id, use))
        except InvalidTag:
            why = f"The API keys of merchant {mch_id} were not encrypted with the present key {key_id} of {_VARIABLE}."
            raise NoWechatpayKeyError(why) from None
        return plain.decode()


def load(settings: Settings) -> SealingKeys:
    """The keys in force, perhaps none. Raises OperatorError if they are not of the form ``id:key,id:key``."""
    text = _text(settings)
    if text is None:
        return SealingKeys({})
    found = secrets_in(text, _VARIABLE)
    if len(found) > SECRETS_MAX:
        raise OperatorError(f"{_VARIABLE} has {len(found)} keys, the maximum is {SECRETS_MAX}: remove the oldest.")
    return SealingKeys({str(secret.key_id): secret.value for secret in found})


def make_for_sandbox(settings: Settings) -> None:
    """Make a key in the data directory (mode 0600), unless there is one, or the settings have some.

    Raises OperatorError.
    """
    path = _file(settings)
    if settings.wechatpay_keys is not None or path.exists():
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-") as file:  # made with mode 0600
            file.write(f"{_FILE_ID}:{secrets.token_hex(32)}".encode())
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
    except OSError as error:
        raise OperatorError(f"The key {path} cannot be made: {error.strerror or error}.") from None


def _text(settings: Settings) -> str | None:
    if settings.wechatpay_keys is not None:
        return settings.wechatpay_keys.get_secret_value()
    path = _file(settings)
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES_MAX).decode("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise OperatorError(f"The key {path} cannot be read.") from None


def _file(settings: Settings) -> Path:
    return settings.data_dir / "wechatpay-sandbox-key"


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, b"hongbao wechatpay 1 seal", "sha256"))


def _bound_to(mch_id: str, use: str) -> bytes:
    return f"{mch_id}\n{use}".encode()
