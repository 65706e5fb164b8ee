"""Settings, read once from the environment (prefix ``HONGBAO_``). Nothing else but the CLI reads the environment."""

import base64
import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.errors import OperatorError
from engine.festivals import festivals_in
from engine.records import Ack

_SCHEMES = {"redis_url": ("redis", "rediss", "unix"), "database_url": ("postgresql", "postgres")}
LANES_MAX = 1_000
"""A packet number has three digits for its lane."""


def default_data_dir() -> Path:
    """The user's data folder for hongbao, where the embedded servers keep their files."""
    return Path(platformdirs.user_data_dir("hongbao", appauthor=False))


class Settings(BaseSettings):
    """One frozen record; every field can be set as ``HONGBAO_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="HONGBAO_", frozen=True, extra="ignore", env_ignore_empty=True)

    # Servers. Unset: the embedded ones in data_dir are used.
    redis_url: str | None = None
    database_url: str | None = None
    data_dir: Path = Field(default_factory=default_data_dir)

    # When a claim is acknowledged (`engine.acks`); a packet's sender may ask for more.
    ack: Ack = Ack.MEMORY
    ack_replicas: Annotated[int, Field(ge=1, le=16)] = 1
    ack_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0

    # HTTP.
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    auth_secret: SecretStr | None = None
    auth_secrets: SecretStr | None = None
    token_leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    token_ttl_s_max: Annotated[int, Field(ge=60)] = 2_592_000
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    body_bytes_max: Annotated[int, Field(ge=1_024)] = 65_536
    batch_body_bytes_max: Annotated[int, Field(ge=1_024)] = 262_144

    # What one API process takes on at a time, and how it stops.
    connections_max: Annotated[int, Field(ge=1)] = 10_000
    requests_in_flight_max: Annotated[int, Field(ge=1)] = 1_000
    claims_in_flight_max: Annotated[int, Field(ge=1)] = 10_000
    claim_wait_ms_max: Annotated[int, Field(ge=1)] = 40
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = 0.0

    # Rate limits, a process: so many in a window of rate_window_s. 0: none.
    rate_window_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    claims_per_user_max: Annotated[int, Field(ge=0)] = 0
    claims_per_address_max: Annotated[int, Field(ge=0)] = 0
    requests_per_user_max: Annotated[int, Field(ge=0)] = 0
    requests_per_address_max: Annotated[int, Field(ge=0)] = 0
    trusted_proxies: str = ""
    address_header: str = "x-forwarded-for"

    # Lanes and claiming.
    lanes: Annotated[int, Field(ge=1, le=LANES_MAX)] = 1
    claims_per_call_max: Annotated[int, Field(ge=1, le=1_000)] = 500
    claim_queue_max: Annotated[int, Field(ge=1)] = 10_000
    calls_in_flight_max: Annotated[int, Field(ge=1, le=16)] = 2
    backlog_max: Annotated[int, Field(ge=1)] = 1_000_000
    redis_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    database_timeout_s: Annotated[float, Field(gt=0)] = 10.0

    # Opening, sweeping, persisting.
    shares_per_open_call_max: Annotated[int, Field(ge=1, le=7_000)] = 5_000
    open_inline_count_max: Annotated[int, Field(ge=0)] = 5_000
    sweep_interval_s: Annotated[float, Field(gt=0)] = 0.25
    sweep_batch_max: Annotated[int, Field(ge=1, le=1_000)] = 200
    publish_interval_s: Annotated[float, Field(gt=0)] = 1.0
    publish_age_s: Annotated[float, Field(ge=0)] = 2.0
    persist_batch_max: Annotated[int, Field(ge=1)] = 100_000
    settled_retention_s: Annotated[int, Field(ge=120)] = 600
    # Whether the persister rebuilds a lane that Redis lost. Unset: it does under `hongbao up`, and not by itself.
    recover_automatically: bool | None = None
    database_pool_max: Annotated[int, Field(ge=2)] = 4

    # The product's limits.
    currency: str = "CNY"
    share_fen_min: Annotated[int, Field(ge=1)] = 1
    share_fen_max: Annotated[int, Field(ge=1)] = 20_000
    festivals: str = "02-14,05-20,qixi"
    festival_share_fen_max: Annotated[int, Field(ge=1)] = 52_000
    count_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    merchant_count_max: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    preview_count_max: Annotated[int, Field(ge=1)] = 10_000
    ttl_s_default: Annotated[int, Field(ge=1)] = 86_400
    ttl_s_max: Annotated[int, Field(ge=1)] = 86_400
    timed_ttl_s: Annotated[int, Field(ge=1)] = 60
    greeting_length_max: Annotated[int, Field(ge=0)] = 200
    recipients_max: Annotated[int, Field(ge=1, le=5_000)] = 1_000
    deposit_fen_max: Annotated[int, Field(ge=1)] = 10**15

    # Taking back: so long after the sending, what must be confirmed, and how often before sending is frozen.
    retraction_s_max: Annotated[int, Field(ge=1)] = 300
    retraction_confirm_above_fen: Annotated[int, Field(ge=0)] = 20_000
    retraction_viewers_max: Annotated[int, Field(ge=1, le=100)] = 20
    retractions_an_hour_max: Annotated[int, Field(ge=0)] = 3
    retraction_freeze_s: Annotated[int, Field(ge=1)] = 86_400

    # Transfers from one person to another.
    transfer_fen_max: Annotated[int, Field(ge=1)] = 20_000_000
    transfer_confirm_s_short: Annotated[int, Field(ge=1)] = 120
    transfer_confirm_s: Annotated[int, Field(ge=1)] = 86_400
    transfer_delay_s_short: Annotated[int, Field(ge=1)] = 7_200
    transfer_delay_s_long: Annotated[int, Field(ge=1)] = 86_400
    delay_changes_a_month_max: Annotated[int, Field(ge=0)] = 3

    # Payment passwords and withdrawals. So much a user may withdraw in a lifetime without a fee.
    payment_password_tries_max: Annotated[int, Field(ge=1, le=100)] = 5
    payment_password_lock_s: Annotated[int, Field(ge=1)] = 10_800
    payment_password_hash_kib: Annotated[int, Field(ge=64, le=4_194_304)] = 65_536
    withdrawal_free_fen: Annotated[int, Field(ge=0, le=10**15)] = 100_000
    withdrawal_fee_per_mille: Annotated[int, Field(ge=0, le=1_000)] = 1
    withdrawal_fee_fen_min: Annotated[int, Field(ge=0, le=10**15)] = 10
    payout_interval_s: Annotated[float, Field(gt=0)] = 1.0
    sandbox_payout_s: Annotated[float, Field(ge=0, le=864_000)] = 1.0

    # Disputes: above how much, how many a person a year of China's, in how many of its working days they are decided.
    dispute_above_fen: Annotated[int, Field(ge=0, le=10**15)] = 50_000
    disputes_a_year_max: Annotated[int, Field(ge=0, le=1_000)] = 2
    dispute_fraud_days_min: Annotated[int, Field(ge=1, le=250)] = 3
    dispute_fraud_days_max: Annotated[int, Field(ge=1, le=250)] = 7
    dispute_minor_days_min: Annotated[int, Field(ge=1, le=250)] = 5
    dispute_minor_days_max: Annotated[int, Field(ge=1, le=250)] = 15
    dispute_system_fault_s: Annotated[int, Field(ge=0, le=864_000)] = 3_600

    # Risk. 0: no limit, no alert, no freeze. Days are China's; a user's or a label's own limits go before these.
    person_day_sent_fen_max: Annotated[int, Field(ge=0, le=10**15)] = 0
    person_day_received_fen_max: Annotated[int, Field(ge=0, le=10**15)] = 0
    merchant_transaction_fen_max: Annotated[int, Field(ge=0, le=10**15)] = 0
    merchant_day_sent_fen_max: Annotated[int, Field(ge=0, le=10**15)] = 0
    label_day_sent_fen_max: Annotated[int, Field(ge=0, le=10**15)] = 0
    alert_large_fen: Annotated[int, Field(ge=0, le=10**15)] = 5_000_000
    alert_sends_a_minute_max: Annotated[int, Field(ge=0, le=10_000)] = 60
    alert_new_place: bool = True
    freeze_large_fen: Annotated[int, Field(ge=0, le=10**15)] = 0

    # Where alerts are delivered, as Standard Webhooks. Between tries the wait is four times the last, at most 6 h.
    webhook_url: str | None = None
    webhook_secret: Annotated[SecretStr | None, Field(validate_default=True)] = None
    webhook_tries_max: Annotated[int, Field(ge=1, le=100)] = 10
    webhook_retry_s: Annotated[float, Field(gt=0, le=3_600)] = 5.0
    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0

    @field_validator("redis_url", "database_url")
    @classmethod
    def _is_url(cls, url: str | None, field: ValidationInfo) -> str | None:
        """Found here, a wrong URL is told before anything starts. The URL itself, which may hold a password, is not."""
        schemes = _SCHEMES[field.field_name or ""]
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in schemes:
                raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
            for host in parts.netloc.rpartition("@")[2].split(","):
                _check_port(host)
        return url

    @field_validator("webhook_url")
    @classmethod
    def _is_webhook(cls, url: str | None) -> str | None:
        if url is not None:
            check_webhook(url)
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, secret: SecretStr | None, field: ValidationInfo) -> SecretStr | None:
        if secret is None and field.data.get("webhook_url") is not None:
            raise ValueError("it must be set where HONGBAO_WEBHOOK_URL is")
        if secret is not None:
            webhook_key(secret.get_secret_value())
        return secret

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        networks_of(text)
        return text

    @field_validator("festivals")
    @classmethod
    def _are_festivals(cls, text: str) -> str:
        festivals_in(text)
        return text

    @classmethod
    def load(cls, **overrides: object) -> "Settings":
        """Read the environment; ``overrides`` (from the command line) win.

        Raises OperatorError naming the variable that cannot be used.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            why = first["msg"].removeprefix("Value error, ")
            raise OperatorError(f"HONGBAO_{name.upper()} cannot be used: {why}.") from None


def networks_of(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Addresses and networks with commas between them. Raises ValueError."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def check_webhook(url: str) -> None:
    """Raise ValueError unless alerts may be sent there: over TLS, or to this machine. It is told without the URL."""
    parts = urlsplit(url)
    _check_port(parts.netloc.rpartition("@")[2])
    if "@" in parts.netloc:
        raise ValueError("it must not hold a user or a password: what is sent is signed")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("it must begin with https:// and name a host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("it must begin with https://, unless it is an address of this machine (127.0.0.1)")


def webhook_key(secret: str) -> bytes:
    """The bytes of a secret in the form of Standard Webhooks. Raises ValueError, which does not tell it."""
    prefix, _, text = secret.partition("_")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if prefix != "whsec" or not 24 <= len(key) <= 64:
        raise ValueError("it must be whsec_ and 24 to 64 bytes in base64")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_port(host: str) -> None:
    """Raise ValueError for a port that is none, in words that do not repeat the URL."""
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ValueError("its port is not a number from 0 to 65535") from None
