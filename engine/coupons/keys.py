"""The keys of coupons' codes: they make codes, encrypt those that were uploaded, and find a coupon by its code.

They come from HONGBAO_COUPON_KEYS. A batch has one for good and names it, so that a new one can be put before it. Each
batch and use has a key of its own, derived by HMAC-SHA256. So no key encrypts more codes than a batch has.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.access.keyring import SECRETS_MAX, secrets_in
from engine.errors import NoCouponKeyError, OperatorError
from engine.settings import Settings

_NONCE_BYTES = 12
_HASH_BYTES = 16
_VARIABLE = "HONGBAO_COUPON_KEYS"


class CouponKeys:
    """All keys in force. New batches use the first."""

    def __init__(self, in_force: Mapping[str, bytes]) -> None:
        self._in_force = in_force

    @property
    def first(self) -> str:
        """The key id for a new batch. Raises NoCouponKeyError."""
        for key_id in self._in_force:
            return key_id
        raise NoCouponKeyError(f"Coupons need a key: an operator must set {_VARIABLE}.")

    def missing(self, key_ids: Iterable[str]) -> list[str]:
        """Those of some key ids that are not in force."""
        return [key_id for key_id in key_ids if key_id not in self._in_force]

    def of_batch(self, key_id: str, batch_id: int) -> "BatchKeys":
        """A batch's own keys. Raises NoCouponKeyError if its key is not in force."""
        key = self._in_force.get(key_id)
        if key is None:
            why = f"The key {key_id} of coupon batch {batch_id} is missing: an operator must add it to {_VARIABLE}."
            raise NoCouponKeyError(why)
        return BatchKeys(key, batch_id)


def load(settings: Settings) -> CouponKeys:
    """The keys in force, perhaps none. Raises OperatorError if they are not of the form ``id:key,id:key``."""
    if settings.coupon_keys is None:
        return CouponKeys({})
    found = secrets_in(settings.coupon_keys.get_secret_value(), _VARIABLE)
    if len(found) > SECRETS_MAX:
        raise OperatorError(f"{_VARIABLE} has {len(found)} keys, the maximum is {SECRETS_MAX}: remove the oldest.")
    return CouponKeys({str(secret.key_id): secret.value for secret in found})


class BatchKeys:
    """One batch's keys, one per use."""

    def __init__(self, key: bytes, batch_id: int) -> None:
        self._key, self._batch_id = key, batch_id

    def _derived(self, use: str) -> bytes:
        return hmac.digest(self._key, f"hongbao coupons 1 {use} {self._batch_id}".encode(), "sha256")

    @cached_property
    def coding(self) -> bytes:
        """The key that makes the batch's codes."""
        return self._derived("code")

    @cached_property
    def _hashing(self) -> bytes:
        return self._derived("hash")

    @cached_property
    def _sealing(self) -> AESGCM:
        return AESGCM(self._derived("seal"))

    def hash(self, text: bytes) -> bytes:
        """What finds a code, and tells two apart, and helps nobody who has no key to try codes."""
        return hmac.digest(self._hashing, text, "sha256")[:_HASH_BYTES]

    def seal(self, number: int, code: str) -> bytes:
        """A code encrypted (AES-256-GCM), for its number alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, code.encode(), b"%d" % number)

    def unseal(self, number: int, sealed: bytes) -> str:
        """The code. Raises NoCouponKeyError if it was sealed with another key or for another number."""
        try:
            return self._sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], b"%d" % number).decode()
        except InvalidTag:
            why = f"The code of coupon {self._batch_id}-{number} was not sealed with the key that its batch names."
            raise NoCouponKeyError(why) from None
