"""The platform's key: it signs answers and notices of the third version, so that merchants know whom they come from.

It is made once for an installation, when it is first needed, and encrypted as merchants' keys are.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.ledger.database import ledger_change, ledger_errors
from engine.queries import load
from engine.wechatpay import rsa_keys
from engine.wechatpay.keys import SealingKeys

SQL = load("wechatpay")
ALGORITHM = "WECHATPAY2-SHA256-RSA2048"
SEALING = "AEAD_AES_256_GCM"
_OWNER, _USE = "platform", "rsa"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformKey:
    """The key. Merchants name it by ``public_key_id`` (微信支付公钥) or by its certificate's ``serial_no``."""

    serial_no: str
    public_key_id: str
    public_key: str
    certificate: str
    effective_at: datetime
    expires_at: datetime
    private: RSAPrivateKey = field(repr=False)

    def headers(self, body: bytes, serial: str) -> dict[str, str]:
        """The headers that sign a body, in the name by which the merchant knows the key."""
        at_s, nonce = str(int(time.time())), secrets.token_hex(16)
        message = b"\n".join((at_s.encode(), nonce.encode(), body, b""))
        return {
            "wechatpay-timestamp": at_s,
            "wechatpay-nonce": nonce,
            "wechatpay-serial": serial,
            "wechatpay-signature": rsa_keys.sign(self.private, message),
            "wechatpay-signature-type": ALGORITHM,
        }


class Platform:
    """Keeps the key. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, keys: SealingKeys) -> None:
        self._pool, self._keys = pool, keys
        self._key: PlatformKey | None = None

    async def key(self) -> PlatformKey:
        """The key, which is made if there is none. Raises NoWechatpayKeyError."""
        if self._key is None:
            row = await self._row()
            if row is None:
                made = await asyncio.to_thread(rsa_keys.new_rsa_pair)
                sealed = self._keys.seal(_OWNER, _USE, made.private)
                async with ledger_change(self._pool) as connection:
                    await connection.execute(SQL["add_platform"], made.serial_no, made.certificate, *sealed)
                row = await self._row()  # perhaps another process's
            if row is None:
                raise AssertionError("a key that was made is there")
            self._key = self._opened(row)
        return self._key

    async def _row(self) -> asyncpg.Record | None:
        with ledger_errors(is_undone=True):
            return await self._pool.fetchrow(SQL["platform"])

    def _opened(self, row: asyncpg.Record) -> PlatformKey:
        private = rsa_keys.private_key(self._keys.unseal(_OWNER, _USE, row["key_id"], row["private"]))
        certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
        digits = int.from_bytes(hashlib.sha256(row["certificate"].encode()).digest()[:12], "big")
        return PlatformKey(
            serial_no=row["serial_no"],
            public_key_id=f"PUB_KEY_ID_{digits % 10**28:028d}",
            public_key=rsa_keys.public_pem(private.public_key()),
            certificate=row["certificate"],
            effective_at=certificate.not_valid_before_utc.astimezone(UTC),
            expires_at=certificate.not_valid_after_utc.astimezone(UTC),
            private=private,
        )


def sealed_for(api_v3_key: str, plain: bytes, associated_data: str) -> dict[str, str]:
    """What only the merchant can read: encrypted with its key of the third version."""
    nonce = secrets.token_hex(6)
    ciphertext = AESGCM(api_v3_key.encode()).encrypt(nonce.encode(), plain, associated_data.encode())
    return {
        "algorithm": SEALING,
        "nonce": nonce,
        "associated_data": associated_data,
        "ciphertext": base64.b64encode(ciphertext).decode(),
    }
