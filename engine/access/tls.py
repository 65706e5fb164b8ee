"""TLS contexts: the API's, and its supervisor's for checking the API."""

import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import OperatorError
from engine.settings import Settings

_PROTOCOLS = ["http/1.1"]


def is_on(settings: Settings) -> bool:
    """Whether the API itself uses TLS."""
    return settings.tls_certificate is not None


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The API's context (TLS 1.2 or newer), or None without TLS.

    Raises OperatorError if certificate and key cannot be read or do not match, or if everyone may read the key.
    """
    certificate, key = _files(settings)
    if certificate is None or key is None:
        return None
    _check_readable("HONGBAO_TLS_CERTIFICATE", certificate)
    _check_readable("HONGBAO_TLS_KEY", key)
    if stat.S_IMODE(key.stat().st_mode) & stat.S_IRWXO:
        raise OperatorError(f"Others can read HONGBAO_TLS_KEY {key}: chmod 600 it.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    try:
        # Without this password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise OperatorError(_why(certificate, key, error)) from None
    _ask_for_certificates(context, settings.wechatpay_client_ca)
    begins, ends = validity(certificate)
    now = datetime.now(UTC)
    if ends <= now:
        raise OperatorError(f"HONGBAO_TLS_CERTIFICATE {certificate} expired on {ends:%Y-%m-%d %H:%M} UTC: renew it.")
    if begins > now:
        raise OperatorError(
            f"HONGBAO_TLS_CERTIFICATE {certificate} is valid from {begins:%Y-%m-%d %H:%M} UTC: wait, or set this clock."
        )
    return context


def _ask_for_certificates(context: ssl.SSLContext, authorities: Path | None) -> None:
    """Ask each client for a certificate of these authorities. A client without one is served as well."""
    if authorities is None:
        return
    _check_readable("HONGBAO_WECHATPAY_CLIENT_CA", authorities)
    context.verify_mode = ssl.CERT_OPTIONAL
    try:
        context.load_verify_locations(cafile=authorities)
    except (ssl.SSLError, ValueError):
        raise OperatorError(
            f"HONGBAO_WECHATPAY_CLIENT_CA {authorities} cannot be used: it must have authorities' certificates in PEM."
        ) from None


def renew(context: ssl.SSLContext, settings: Settings) -> None:
    """Use the files' present contents for new connections. If this raises OperatorError, nothing has changed."""
    server_context(settings)
    certificate, key = _files(settings)
    context.load_cert_chain(certificate or "", key, password=lambda: "")


def validity(certificate: Path) -> tuple[datetime, datetime]:
    """The start and end of a certificate's validity. The first certificate of the file counts."""
    from cryptography import x509  # noqa: PLC0415  # only TLS needs it

    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return found.not_valid_before_utc, found.not_valid_after_utc


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """A context for this very server under any name: it trusts the server's own certificate and no other."""
    if not is_on(settings):
        return None
    context = ssl.create_default_context(cafile=settings.tls_certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any signer is accepted
    return context


def _files(settings: Settings) -> tuple[Path | None, Path | None]:
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        lacking = "HONGBAO_TLS_CERTIFICATE" if certificate is None else "HONGBAO_TLS_KEY"
        raise OperatorError(f"TLS needs a certificate and its key: set {lacking} as well.")
    return certificate, key


def _check_readable(name: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{name} {path} cannot be read: {error.strerror}.") from None


def _why(certificate: Path, key: Path, error: Exception) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"HONGBAO_TLS_KEY {key} is not the key of HONGBAO_TLS_CERTIFICATE {certificate}."
    return (
        f"HONGBAO_TLS_CERTIFICATE {certificate} and HONGBAO_TLS_KEY {key} cannot be used: the one must be a "
        "certificate in PEM, with its chain, the other its key in PEM, without a password."
    )
