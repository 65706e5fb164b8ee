"""RSA keys of the third version: pairs, self-signed certificates, signatures (SHA-256, PKCS #1 v1.5)."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

_BITS = 2_048
_DAYS = 1_825


class RsaPair(NamedTuple):
    """A pair in PEM, with the certificate of the public key. ``serial_no``: of the certificate, in hexadecimal."""

    private: str
    public: str
    certificate: str
    serial_no: str


def new_rsa_pair() -> RsaPair:
    """A new pair. It takes a tenth of a second: use a thread."""
    key = generate_private_key(public_exponent=65_537, key_size=_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hongbao wechatpay")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .sign(key, SHA256())
    )
    return RsaPair(
        private=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        public=public_pem(key.public_key()),
        certificate=certificate.public_bytes(Encoding.PEM).decode(),
        serial_no=f"{certificate.serial_number:040X}",
    )


def public_pem(key: RSAPublicKey) -> str:
    """A public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_key(pem: str) -> RSAPrivateKey:
    """A private key of ours."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError("it is no RSA key")
    return key


def sign(key: RSAPrivateKey, message: bytes) -> str:
    """The signature, in base64."""
    return base64.b64encode(key.sign(message, PKCS1v15(), SHA256())).decode()


def is_signed(public: str, message: bytes, signature: str) -> bool:
    """Whether ``signature`` (base64) is the one of this key over the message."""
    key = load_pem_public_key(public.encode())
    if not isinstance(key, RSAPublicKey):
        return False
    try:
        key.verify(base64.b64decode(signature, validate=True), message, PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
