"""Settings, read once from the environment (prefix ``HONGBAO_``). Only this module and the CLI read it."""

import base64
import os
from pathlib import Path
from typing import Annotated, Literal, get_args

import platformdirs
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine import redis_servers, urls
from engine.calendar.festivals import festivals_in
from engine.errors import OperatorError
from engine.networks import networks_in
from engine.records import CLAIMS_PER_CALL_MAX, Ack

_DATABASE_SCHEMES = ("postgresql", "postgres")
_AT_MOST = {
    "ttl_s_default": "ttl_s_max",
    "timed_ttl_s": "ttl_s_max",
    "share_fen_min": "share_fen_max",
    "count_max": "merchant_count_max",
    "transfer_confirm_s_short": "transfer_confirm_s",
    "transfer_delay_s_short": "transfer_delay_s_long",
    "dispute_fraud_days_min": "dispute_fraud_days_max",
    "dispute_minor_days_min": "dispute_minor_days_max",
    "body_bytes_max": "batch_body_bytes_max",
    "wechatpay_packet_fen_min": "wechatpay_packet_fen_max",
    "wechatpay_transfer_fen_min": "wechatpay_transfer_fen_max",
}
"""Settings that must not be larger than others, because they would then contradict each other."""
_NEEDS = {
    "webhook_secret": "webhook_url",
    "address_header": "trusted_proxies",
    "console_oidc_client_id": "console_oidc_issuer",
    "console_oidc_client_secret": "console_oidc_issuer",
    "console_oidc_claim": "console_oidc_issuer",
    "console_oidc_second_factor": "console_oidc_issuer",
    "wechatpay_client_ca": "tls_certificate",
    "wechatpay_certificate_header": "wechatpay_certificate_proxies",
}
"""Settings that do nothing without others."""
_LISTS = ("festivals", "trusted_proxies", "wechatpay_certificate_proxies")
"""Settings that may be empty. Any other empty variable counts as not set."""
_PREFIX = "HONGBAO_"
WEBHOOK_SECRETS_MAX = 4
AddressHeader = Literal["x-forwarded-for", "x-real-ip", "forwarded"]
"""The headers that ``api.addresses`` can read."""
AMOUNT_FEN_MAX = 10**15
"""The largest amount that a setting may allow: a split's largest total (``engine.packets.split``)."""
LANES_MAX = 1_000
"""A packet number has three digits for its lane."""


def default_data_dir() -> Path:
    """The user's data folder for hongbao, where the embedded servers keep their files."""
    return Path(platformdirs.user_data_dir("hongbao", appauthor=False))


class Settings(BaseSettings):
    """One frozen record. Every field can be set as ``HONGBAO_<NAME>``.

    docs/configuration.md is generated from this class (`engine.cli.configuration_page`). A comment line begins a topic.
    """

    model_config = SettingsConfigDict(env_prefix="HONGBAO_", frozen=True, extra="ignore", env_ignore_empty=True)

    # Servers. Unset, the embedded ones of `hongbao up` are used.
    redis_url: str | None = None
    """A URL, or [more servers than one](operations.md#several-redis-servers). With `appendonly yes`, `noeviction`."""
    database_url: str | None = None
    """`postgresql://`. `hongbao migrate` (or `up`) creates the schema."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Where the embedded servers keep their files, and where token secrets are kept unless the environment has them."""

    # Acknowledging claims.
    ack: Ack = Ack.MEMORY
    """What must have happened before a claim is acknowledged. A packet's sender may ask for more, never for less."""
    ack_replicas: Annotated[int, Field(ge=1, le=16)] = 1
    """How many replicas must have a claim in `replica` mode."""
    ack_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """A claim that is not confirmed within this time is answered 503 `unconfirmed`. It stands."""

    # HTTP and tokens.
    host: str = "127.0.0.1"
    """The address to listen on. Beyond this machine, use TLS."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """The port to listen on. 0: any free port."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """API processes that `hongbao up` runs. They share the port."""
    persisters: Annotated[int, Field(ge=1, le=64)] = 1
    """Persisters that `hongbao up` runs. They share the lanes: more than there are lanes do nothing."""
    metrics_port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    """The port where `hongbao persist` and `sweep`, as services, show `/metrics` and `/livez`. Unset: they do not."""
    auth_secret: SecretStr | None = None
    """The secret that signs tokens, at least 32 bytes. Set it, or `auth_secrets`, in production."""
    auth_secrets: SecretStr | None = None
    """Several secrets by key id, `new:secret,old:secret`: the first signs, all verify."""
    token_leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    """How far the clocks of issuer and server may differ."""
    token_ttl_s_max: Annotated[int, Field(ge=60)] = 2_592_000
    """The longest lifetime of a token. A longer one is refused (401)."""
    tls_certificate: Path | None = None
    """A PEM file with the certificate chain. With `tls_key`, the API speaks TLS itself."""
    tls_key: Path | None = None
    """A PEM file with the certificate's private key."""
    public_url: str | None = None
    """Where people reach the server, `https://` and a host: for QR codes and links. Unset, the request's Host."""
    sign_in_url: str | None = None
    """Where [the grab page](page.md) sends users without a token. The page's path is added as `return_to`."""
    body_bytes_max: Annotated[int, Field(ge=1_024)] = 65_536
    """The largest request body. A larger one is refused: 413 `too_large`."""
    batch_body_bytes_max: Annotated[int, Field(ge=1_024)] = 262_144
    """The same for a batch of claims, for sending a packet, its preview, and filing a dispute."""

    # The console for operators.
    console_host: str = "127.0.0.1"
    """The address where the console listens. Beyond this machine it needs TLS, or `console_origin`."""
    console_port: Annotated[int | None, Field(ge=0, le=65_535)] = None
    """Its port. Unset: 8081; under `hongbao up`, the one after the API's if that is set. 0: `up` starts none."""
    console_origin: str | None = None
    """How browsers reach the console if it is behind a proxy with TLS: `https://` and the host. Unset: directly."""
    console_metrics_urls: str = ""
    """Where the console reads the counters of processes on other machines: their `/metrics`, with spaces in between."""
    console_four_eyes: bool = True
    """Whether actions that move money need a second operator. Set it to false only where there is one operator."""
    console_uphold_alone_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 100_000
    """Upholding a dispute about more than this needs a second operator."""

    # Single sign-on for the console, by OpenID Connect: [console.md](console.md#single-sign-on).
    console_oidc_issuer: str | None = None
    """The provider: `https://`, exactly as its own document says it. It needs the extra `hongbao[oidc]`."""
    console_oidc_client_id: str | None = None
    """What the provider calls this console."""
    console_oidc_client_secret: SecretStr | None = None
    """The secret that the provider gave for it."""
    console_oidc_claim: Literal["preferred_username", "email"] = "preferred_username"
    """The claim that names the operator. An email must be verified."""
    console_oidc_second_factor: str = ""
    """Values of `amr` or `acr` that prove a second factor, with commas. Without one of them, our code is asked for."""

    # What one API process takes on at a time, and how it stops.
    connections_max: Annotated[int, Field(ge=1)] = 10_000
    """Open connections. The limit on open files may lower it."""
    requests_in_flight_max: Annotated[int, Field(ge=1)] = 1_000
    """Requests being answered at a time, without plain claims."""
    claims_in_flight_max: Annotated[int, Field(ge=1)] = 10_000
    """Plain claims being answered at a time."""
    claim_wait_ms_max: Annotated[int, Field(ge=1)] = 40
    """A claim is refused if the queue before it would take longer than this at the recent cost per claim."""
    keep_alive_s: Annotated[int, Field(ge=2, le=3_600)] = 75
    """How long a connection without a request is kept. It must be longer than a load balancer in front keeps it."""
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = 0.0
    """After a stop signal, a process answers requests for this long, while `/readyz` answers 503."""

    # Rate limits, per API process and `rate_window_s`. 0: no limit.
    rate_window_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    """The window in which rate limits count."""
    claims_per_user_max: Annotated[int, Field(ge=0)] = 0
    """Claims per user."""
    claims_per_address_max: Annotated[int, Field(ge=0)] = 0
    """Claims per client address."""
    requests_per_user_max: Annotated[int, Field(ge=0)] = 0
    """Other requests per user."""
    requests_per_address_max: Annotated[int, Field(ge=0)] = 0
    """Other requests per client address."""
    trusted_proxies: str = ""
    """Addresses and networks of your proxies, separated by commas. Without one, a client's address is its peer's."""
    address_header: AddressHeader = "x-forwarded-for"
    """The header in which these proxies name the client. Its right-most address that is not a trusted proxy is used."""

    # Lanes and claiming.
    lanes: Annotated[int, Field(ge=1, le=LANES_MAX)] = 1
    """Partitions for new packets. More than one helps if the ledger needs several writers. May grow."""
    claims_per_call_max: Annotated[int, Field(ge=1, le=CLAIMS_PER_CALL_MAX)] = 500
    """Claims that one script call decides, at most."""
    claim_queue_max: Annotated[int, Field(ge=CLAIMS_PER_CALL_MAX)] = 10_000
    """Claims waiting for Redis, per lane. Beyond it: 503 `overloaded`."""
    calls_in_flight_max: Annotated[int, Field(ge=1, le=16)] = 2
    """Script calls in progress at a time, per lane."""
    standbys: Annotated[int, Field(ge=0, le=16)] = 0
    """[How many standbys of Postgres](operations.md#a-standby-of-postgres) must have a change before Redis drops it."""
    backlog_max: Annotated[int, Field(ge=1)] = 1_000_000
    """Changes of a lane that the ledger may lack before claims are refused: 503 `busy`."""
    redis_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """How long a request waits for Redis. After it: 503 `unavailable`."""
    database_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """The same for Postgres."""

    # Opening, sweeping, persisting.
    settled_retention_s: Annotated[int, Field(ge=120)] = 600
    """How long Redis keeps a packet's keys after the packet has settled."""
    idempotency_retention_days: Annotated[int, Field(ge=7, le=36_500)] = 90
    """How long an Idempotency-Key is kept. A repeat that comes later is a new request: it moves the money again."""
    volume_entries: Annotated[int | None, Field(ge=1_000)] = None
    """Entries in a [volume](operations.md#volumes) of the ledger. Unset: as many as Postgres can keep in its memory."""
    reconcile_daily: bool = True
    """Whether `hongbao sweep` reconciles each day once it is closed, and keeps the run for the console."""
    recover_automatically: bool | None = None
    """Whether the persister rebuilds a lane that Redis lost. Unset: it does under `hongbao up` and nowhere else."""
    database_pool_max: Annotated[int, Field(ge=2)] = 4
    """Connections to Postgres per process."""

    # The product's limits.
    currency: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")] = "CNY"
    """The ledger's currency, which never changes: an ISO 4217 code, or your own (COUPON)."""
    share_fen_min: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 1
    """The smallest share. A sender may ask for a larger minimum."""
    share_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 20_000
    """The largest share on an ordinary day."""
    festivals: str = "02-14,05-20,qixi"
    """Days on which shares may be larger, separated by commas: `MM-DD`, or `qixi` (七夕, lunar). Empty: none."""
    festival_share_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 52_000
    """The largest share on those days."""
    count_max: Annotated[int, Field(ge=1, le=10_000_000)] = 100
    """Shares per packet of a person."""
    merchant_count_max: Annotated[int, Field(ge=1, le=10_000_000)] = 1_000_000
    """Shares per packet of a merchant."""
    preview_count_max: Annotated[int, Field(ge=1)] = 10_000
    """Shares per preview."""
    ttl_s_default: Annotated[int, Field(ge=1)] = 86_400
    """How long a packet is open if its sender does not say."""
    ttl_s_max: Annotated[int, Field(ge=1)] = 86_400
    """The longest that a sender may ask for."""
    timed_ttl_s: Annotated[int, Field(ge=1)] = 60
    """How long a timed packet (限时红包) is open."""
    greeting_length_max: Annotated[int, Field(ge=0)] = 200
    """Characters in a greeting, and in a transfer's note."""
    recipients_max: Annotated[int, Field(ge=1, le=5_000)] = 1_000
    """Users that a packet may name as its recipients."""
    deposit_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 10**15
    """The largest deposit."""

    # Retracting packets.
    retraction_s_max: Annotated[int, Field(ge=1)] = 300
    """How long after the sending the sender can retract a packet."""
    retraction_confirm_above_fen: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 20_000
    """Retracting a packet above this total needs `"confirm": true`."""
    retraction_viewers_max: Annotated[int, Field(ge=1, le=100)] = 20
    """Viewers per packet that are kept by name and can consent. With more viewers it cannot be retracted."""
    retractions_an_hour_max: Annotated[int, Field(ge=0)] = 3
    """Retractions per user and hour. One more, and the user cannot send for a while."""
    retraction_freeze_s: Annotated[int, Field(ge=1)] = 86_400
    """How long they cannot send."""

    # Transfers from one person to another.
    transfer_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 20_000_000
    """The largest transfer."""
    transfer_confirm_s_short: Annotated[int, Field(ge=1)] = 120
    """The shorter time in which a recipient must confirm, if the sender chooses it."""
    transfer_confirm_s: Annotated[int, Field(ge=1)] = 86_400
    """The time in which a recipient must confirm. After it, the money goes back to the sender."""
    transfer_delay_s_short: Annotated[int, Field(ge=1)] = 7_200
    """The shorter delay of arrival (延迟到账), and the least for a transfer to a stranger."""
    transfer_delay_s_long: Annotated[int, Field(ge=1)] = 86_400
    """The longer delay of arrival. Choosing it needs the payment password."""
    delay_changes_a_month_max: Annotated[int, Field(ge=0)] = 3
    """How often a user can change their delay in a calendar month."""

    # Fund-raising.
    gift_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 20_000_000
    """The largest gift to a fundraiser."""
    open_fundraisers_max: Annotated[int, Field(ge=0, le=10_000)] = 100
    """How many open fundraisers a user can have."""

    # Payment passwords and withdrawals.
    payment_password_tries_max: Annotated[int, Field(ge=1, le=100)] = 5
    """Wrong tries in a row that lock a payment password."""
    payment_password_lock_s: Annotated[int, Field(ge=1)] = 10_800
    """How long it is locked."""
    payment_password_hash_kib: Annotated[int, Field(ge=64, le=4_194_304)] = 65_536
    """Memory that one argon2id hash takes."""
    withdrawal_free_fen: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 100_000
    """The amount that a user can withdraw in a lifetime without a fee."""
    withdrawal_fee_per_mille: Annotated[int, Field(ge=0, le=1_000)] = 1
    """The fee on the rest, in thousandths, rounded up to a fen."""
    withdrawal_fee_fen_min: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 10
    """The smallest fee."""
    payout_interval_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the provider is asked about open payouts."""
    sandbox_payout_s: Annotated[float, Field(ge=0, le=864_000)] = 1.0
    """How long the sandbox provider takes for a payout."""

    # Disputes. Years and working days are China's.
    dispute_above_fen: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 50_000
    """Only amounts above this can be disputed (system faults: any amount)."""
    disputes_a_year_max: Annotated[int, Field(ge=0, le=1_000)] = 2
    """Disputes per person and calendar year (system faults not counted)."""
    dispute_fraud_days_min: Annotated[int, Field(ge=1, le=250)] = 3
    """Working days after which a fraud is decided, at the earliest."""
    dispute_fraud_days_max: Annotated[int, Field(ge=1, le=250)] = 7
    """Working days within which a fraud is decided. Later: an alert."""
    dispute_minor_days_min: Annotated[int, Field(ge=1, le=250)] = 5
    """The same for a minor dispute, at the earliest."""
    dispute_minor_days_max: Annotated[int, Field(ge=1, le=250)] = 15
    """The same for a minor dispute, at the latest."""
    dispute_system_fault_s: Annotated[int, Field(ge=0, le=864_000)] = 3_600
    """Time within which a system fault is decided. Later: an alert."""

    # Coupons.
    coupon_keys: SecretStr | None = None
    """Keys of codes by key id, `new:key,old:key`, each at least 32 bytes. The first is for new batches; keep all."""

    # Calls as WeChat Pay's, by [its clients](wechat-pay.md). Limits are WeChat Pay's; 0: no limit. Days are China's.
    wechatpay_keys: SecretStr | None = None
    """Keys that encrypt merchants' API keys, `new:key,old:key`, of at least 32 bytes. The first encrypts; keep all."""
    wechatpay_production: bool = False
    """Whether these calls need the merchant's client certificate, and merchants of the sandbox are refused."""
    wechatpay_client_ca: Path | None = None
    """A PEM file of authorities. With `tls_certificate`, the server asks clients for a certificate of one of them."""
    wechatpay_certificate_proxies: str = ""
    """Addresses and networks of proxies that have verified the client's certificate, separated by commas."""
    wechatpay_certificate_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] = "x-client-cert"
    """The header in which they name it: its SHA-256, the certificate in PEM (URL-encoded), or as RFC 9440 has it."""
    wechatpay_packet_fen_min: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 100
    """The smallest packet, and the smallest mean of a group packet's shares."""
    wechatpay_packet_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 20_000
    """The largest packet, and the largest share of a group packet."""
    wechatpay_transfer_fen_min: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 30
    """The smallest payment to a user's change (企业付款到零钱)."""
    wechatpay_transfer_fen_max: Annotated[int, Field(ge=1, le=AMOUNT_FEN_MAX)] = 2_000_000
    """The largest."""
    wechatpay_sends_a_minute_max: Annotated[int, Field(ge=0)] = 1_800
    """Packets, and payments, of a merchant per minute of the clock: `FREQ_LIMIT`."""
    wechatpay_user_sends_a_minute_max: Annotated[int, Field(ge=0, le=1_000)] = 1
    """Packets of a merchant to one user within 60 s, and payments: `FREQ_LIMIT`."""
    wechatpay_user_sends_a_day_max: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Packets of a merchant to one user per day, and payments: `SENDNUM_LIMIT`."""
    wechatpay_user_day_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 100_000
    """The sum of a merchant's packets to one user per day: `RCVDAMOUNT_LIMIT`."""
    wechatpay_user_day_transfer_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 2_000_000
    """The sum of a merchant's payments to one user per day: `MONEY_LIMIT`."""
    wechatpay_merchant_day_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 100_000_000
    """The sum of a merchant's packets per day (`SENDAMOUNT_LIMIT`), and of its payments (`MONEY_LIMIT`)."""
    wechatpay_ttl_s: Annotated[int, Field(ge=1, le=2_592_000)] = 259_200
    """How long such a packet can be claimed. `ttl_s_max` does not bind it."""
    wechatpay_bill_ttl_s: Annotated[int, Field(ge=1, le=2_592_000)] = 86_400
    """How long a user can confirm a transfer bill of the third version (商家转账). After it, it has failed."""
    wechatpay_notice_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long a merchant's server has to take the notice of a bill's end."""
    wechatpay_log_rows_max: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    """Calls per merchant that `hongbao wechatpay log` can show. 0: calls are not recorded."""

    # Risk. 0: no limit, no alert, no freeze. Days are China's. An account's or a label's own limit replaces these.
    person_day_sent_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """The most that a person may send per day."""
    person_day_received_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """The most that a person may receive per day. The claim that reaches it stands; later ones are refused."""
    merchant_transaction_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """The most that a merchant may send in one packet."""
    merchant_day_sent_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """The most that a merchant may send per day."""
    label_day_sent_fen_max: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """The most that may be sent per day to one label (a group)."""
    alert_large_fen: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 5_000_000
    """A movement of at least this much is an alert."""
    alert_sends_a_minute_max: Annotated[int, Field(ge=0, le=10_000)] = 60
    """More sendings than this within a minute are an alert."""
    alert_new_place: bool = True
    """Whether a movement from a network that is new for the user is an alert."""
    freeze_large_fen: Annotated[int, Field(ge=0, le=AMOUNT_FEN_MAX)] = 0
    """A movement of at least this much freezes the account afterwards."""

    # Delivering alerts, as Standard Webhooks.
    webhook_url: str | None = None
    """Where alerts are sent: `https://`, or `http://` to this machine. Unset, `GET /v1/alerts` is the only way."""
    webhook_secret: Annotated[SecretStr | None, Field(validate_default=True)] = None
    """Signs alerts; required with the URL. `whsec_` and 24 to 64 bytes in base64. With commas, several: each signs."""
    webhook_tries_max: Annotated[int, Field(ge=1, le=100)] = 10
    """Tries per alert. After the last one the alert is given up, and the log says so."""
    webhook_retry_s: Annotated[float, Field(gt=0, le=3_600)] = 5.0
    """The wait after the first failed try. Each further wait is four times the one before, at most 6 h."""
    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long the receiver has to answer."""

    @field_validator("redis_url")
    @classmethod
    def _are_redis_servers(cls, text: str | None) -> str | None:
        """Check the URLs before anything starts. The error does not repeat them: they may hold a password."""
        if text is not None:
            redis_servers.servers_in(text)
        return text

    @field_validator("database_url")
    @classmethod
    def _is_database(cls, url: str | None) -> str | None:
        """The same."""
        if url is not None:
            urls.check_server(url, _DATABASE_SCHEMES)
        return url

    @field_validator("webhook_url")
    @classmethod
    def _is_webhook(cls, url: str | None) -> str | None:
        if url is not None:
            urls.check_webhook(url)
        return url

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, url: str | None) -> str | None:
        if url is not None:
            urls.check_origin(url)
        return url

    @field_validator("sign_in_url")
    @classmethod
    def _is_page(cls, url: str | None) -> str | None:
        if url is not None:
            urls.check_page(url)
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, secret: SecretStr | None, field: ValidationInfo) -> SecretStr | None:
        if secret is None and field.data.get("webhook_url") is not None:
            raise ValueError("it must be set if HONGBAO_WEBHOOK_URL is set")
        if secret is not None:
            webhook_keys(secret.get_secret_value())
        return secret

    @field_validator("console_origin")
    @classmethod
    def _is_console_origin(cls, origin: str | None) -> str | None:
        if origin is not None:
            urls.check_tls_origin(origin)
        return origin

    @field_validator("console_oidc_issuer")
    @classmethod
    def _is_provider(cls, url: str | None) -> str | None:
        if url is not None:
            urls.check_provider(url)
            if "?" in url:
                raise ValueError("it must have no ?")
        return url

    @field_validator("console_metrics_urls")
    @classmethod
    def _are_urls(cls, text: str) -> str:
        for url in text.replace(",", " ").split():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url} must begin with http:// or https://")
        return text

    @field_validator("trusted_proxies", "wechatpay_certificate_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        networks_in(text)
        return text

    @field_validator("address_header", mode="before")
    @classmethod
    def _is_address_header(cls, name: object) -> object:
        lowered = name.strip().lower() if isinstance(name, str) else name
        if lowered not in get_args(AddressHeader):
            raise ValueError(f"it must be one of {', '.join(get_args(AddressHeader))}")
        return lowered

    @field_validator("festivals")
    @classmethod
    def _are_festivals(cls, text: str) -> str:
        festivals_in(text)
        return text

    @model_validator(mode="after")
    def _do_not_contradict(self) -> "Settings":
        if self.redis_url is not None and (why := redis_servers.why_unheld(self.redis_url, range(self.lanes))):
            raise ValueError(f"{why}, and HONGBAO_LANES is {self.lanes}")
        for name, other in _AT_MOST.items():
            value, most = getattr(self, name), getattr(self, other)
            if value > most:
                raise ValueError(f"HONGBAO_{name.upper()} ({value}) must be at most HONGBAO_{other.upper()} ({most})")
        for name in ("console_oidc_client_id", "console_oidc_client_secret"):
            if self.console_oidc_issuer is not None and getattr(self, name) is None:
                raise ValueError(f"HONGBAO_CONSOLE_OIDC_ISSUER needs HONGBAO_{name.upper()}")
        if self.wechatpay_production and self.wechatpay_client_ca is None and not self.wechatpay_certificate_proxies:
            ways = "HONGBAO_WECHATPAY_CLIENT_CA or HONGBAO_WECHATPAY_CERTIFICATE_PROXIES"
            raise ValueError(f"HONGBAO_WECHATPAY_PRODUCTION needs client certificates: set {ways}")
        return self

    @classmethod
    def load(cls, **overrides: object) -> "Settings":
        """Read the environment. ``overrides`` (from the command line) take precedence.

        Raises OperatorError naming the variable that cannot be used, or the two that contradict each other.
        """
        emptied = {name: "" for name in _LISTS if os.environ.get(f"{_PREFIX}{name.upper()}") == ""}
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**{**emptied, **given})  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            why = first["msg"].removeprefix("Value error, ")
            raise OperatorError(f"HONGBAO_{name.upper()} cannot be used: {why}." if name else f"{why}.") from None


def ignored(settings: Settings, command: str = "") -> list[str]:
    """One sentence per variable that is set but does nothing, or not what it seems to do in this command."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    ours = {name.upper(): name for name in sorted(os.environ) if name.upper().startswith(_PREFIX) and os.environ[name]}
    sentences = [f"{name} is not a setting." for known_as, name in ours.items() if known_as not in known]
    for name, other in _NEEDS.items():
        if f"{_PREFIX}{name.upper()}" in ours and not getattr(settings, other):
            sentences.append(f"{_PREFIX}{name.upper()} does nothing without {_PREFIX}{other.upper()}.")
    if command == "serve" and settings.workers > 1:
        sentences.append(
            f"{_PREFIX}WORKERS does nothing here: `hongbao serve` is one API process. Start it "
            f"{settings.workers} times on the same port, or use `hongbao up`."
        )
    if command == "persist" and settings.persisters > 1:
        sentences.append(
            f"{_PREFIX}PERSISTERS does nothing here: `hongbao persist` is one process. Start it {settings.persisters} "
            f"times, with --share 1/{settings.persisters} and so on, or use `hongbao up`."
        )
    return sentences


def webhook_keys(secrets: str) -> list[bytes]:
    """The bytes of secrets in the form of Standard Webhooks. Raises ValueError that does not show them."""
    found = [_webhook_key(secret.strip()) for secret in secrets.split(",")]
    if len(found) > WEBHOOK_SECRETS_MAX:
        raise ValueError(f"there must be at most {WEBHOOK_SECRETS_MAX}: remove the oldest")
    return found


def _webhook_key(secret: str) -> bytes:
    prefix, _, text = secret.partition("_")
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if prefix != "whsec" or not 24 <= len(key) <= 64:
        raise ValueError("it must be whsec_ and 24 to 64 bytes in base64")
    return key
