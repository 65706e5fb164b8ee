"""The platform's key: it signs answers and notices of the third version, so that merchants know whom they come from.

The first is made when it is first needed, and encrypted as merchants' keys are. A next one is published beside it, and
signs from an agreed moment on. Then the former is retired.
"""

import asyncio
import base64
import hashlib
import math
import secrets
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic

import asyncpg
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import OperatorError
from engine.ledger.database import ledger_change, ledger_errors
from engine.queries import load
from engine.wechatpay import rsa_keys
from engine.wechatpay.keys import SealingKeys

SQL = load("wechatpay")
ALGORITHM = "WECHATPAY2-SHA256-RSA2048"
SEALING = "AEAD_AES_256_GCM"
_OWNER, _USE = "platform", "rsa"
FRESH_S = 5.0
"""How long a process goes by the keys that it knows."""
IN_FORCE_MAX = 2
_PUBLIC_KEY = "PUB_KEY_ID_"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformKey:
    """The key. Merchants name it by ``public_key_id`` (微信支付公钥) or by its certificate's ``serial_no``."""

    serial_no: str
    public_key_id: str
    public_key: str
    certificate: str
    effective_at: datetime
    expires_at: datetime
    signs_from_ms: int
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


@dataclass(frozen=True, slots=True)
class PlatformKeys:
    """The keys in force: one, or two while one follows the other. The first has signed for longest."""

    keys: tuple[PlatformKey, ...]

    def signing(self, at_ms: int) -> PlatformKey:
        """The newest of those that may sign already."""
        return max((key for key in self.keys if key.signs_from_ms <= at_ms), key=_begin, default=self.keys[0])

    def for_merchant(self, named: str, at_ms: int) -> tuple[PlatformKey, str]:
        """The key that signs for a merchant who named one, and its name there.

        Whoever knows a public key by its id gets the signature of this key while it is in force. A certificate can be
        fetched, so it is the newest that signs.
        """
        for key in self.keys:
            if key.public_key_id == named:
                return key, named
        key = self.signing(at_ms)
        return key, key.public_key_id if named.startswith(_PUBLIC_KEY) else key.serial_no


def _begin(key: PlatformKey) -> int:
    return key.signs_from_ms


class Platform:
    """Keeps the keys. Every method raises UnavailableError if Postgres does not answer."""

    def __init__(self, pool: asyncpg.Pool, keys: SealingKeys) -> None:
        self._pool, self._sealing = pool, keys
        self._known: PlatformKeys | None = None
        self._read_at_s = -math.inf

    async def key(self) -> PlatformKey:
        """The key that signs now. Raises NoWechatpayKeyError."""
        return (await self.keys()).signing(_now_ms())

    async def keys(self) -> PlatformKeys:
        """The keys in force, as known for up to FRESH_S. One is made if there is none. Raises NoWechatpayKeyError."""
        if self._known is None or monotonic() - self._read_at_s >= FRESH_S:
            read_at_s, known = monotonic(), await self._read()
            if known is None:
                await self._add(signs_from_ms=_now_ms(), is_first=True)
                known = await self._read()  # perhaps another process's
            if known is None:
                raise AssertionError("a key that was made is there")
            self._known, self._read_at_s = known, read_at_s
        return self._known

    async def make_next(self, signs_after_s: int) -> PlatformKey:
        """Make the next key. It is published at once, and signs after this time.

        Raises OperatorError if two are in force already, NoWechatpayKeyError.
        """
        await self.keys()
        serial_no = await self._add(signs_from_ms=_now_ms() + signs_after_s * 1000, is_first=False)
        self._read_at_s = -math.inf
        return next(key for key in (await self.keys()).keys if key.serial_no == serial_no)

    async def retire(self, serial_no: str) -> None:
        """Take a key out of force: nothing is signed by it any more, and it is not published.

        Raises OperatorError if no key in force has this number, or no other signs already.
        """
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["lock_platform"])
            others = [row for row in await connection.fetch(SQL["platform"]) if row["serial_no"] != serial_no]
            if await connection.fetchval(SQL["retire_platform"], serial_no, _now_ms()) is None:
                raise OperatorError(f"No key of the platform that is in force has the serial_no {serial_no}.")
            if not any(row["signs_from_ms"] <= _now_ms() for row in others):
                raise OperatorError("No other key of the platform signs yet, so this one cannot be retired.")
        self._read_at_s = -math.inf

    async def _add(self, *, signs_from_ms: int, is_first: bool) -> str | None:
        """Make a key, unless it is to be the first and there is one. Returns its serial_no."""
        made = await asyncio.to_thread(rsa_keys.new_rsa_pair)
        sealed = self._sealing.seal(_OWNER, _USE, made.private)
        async with ledger_change(self._pool) as connection:
            await connection.execute(SQL["lock_platform"])
            in_force = len(await connection.fetch(SQL["platform"]))
            if is_first and in_force:
                return None
            if in_force >= IN_FORCE_MAX:
                raise OperatorError("Two keys of the platform are in force: retire the former one first.")
            await connection.execute(SQL["add_platform"], made.serial_no, made.certificate, *sealed, signs_from_ms)
        return made.serial_no

    async def _read(self) -> PlatformKeys | None:
        with ledger_errors(is_undone=True):
            rows = await self._pool.fetch(SQL["platform"])
        known = {} if self._known is None else {key.serial_no: key for key in self._known.keys}
        found = (known.get(row["serial_no"]) or self._opened(row) for row in rows)
        keys = tuple(replace(key, signs_from_ms=row["signs_from_ms"]) for key, row in zip(found, rows, strict=True))
        return PlatformKeys(keys) if keys else None

    def _opened(self, row: asyncpg.Record) -> PlatformKey:
        private = rsa_keys.private_key(self._sealing.unseal(_OWNER, _USE, row["key_id"], row["private"]))
        certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
        digits = int.from_bytes(hashlib.sha256(row["certificate"].encode()).digest()[:12], "big")
        return PlatformKey(
            serial_no=row["serial_no"],
            public_key_id=f"{_PUBLIC_KEY}{digits % 10**28:028d}",
            public_key=rsa_keys.public_pem(private.public_key()),
            certificate=row["certificate"],
            effective_at=certificate.not_valid_before_utc.astimezone(UTC),
            expires_at=certificate.not_valid_after_utc.astimezone(UTC),
            signs_from_ms=row["signs_from_ms"],
            private=private,
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


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
