"""Settings that contradict each other are refused, by name, before anything starts."""

import pytest

from api.payloads import BATCH_CLAIMS_MAX
from engine.errors import OperatorError
from engine.settings import _AT_MOST, _LISTS, _NEEDS, Settings, ignored


@pytest.mark.parametrize(("name", "other"), _AT_MOST.items())
def test_one_that_is_larger_than_its_bound_is_refused(name: str, other: str) -> None:
    value = max(2, Settings.model_fields[name].get_default())
    least = {"ttl_s_default": 1, "timed_ttl_s": 1}
    Settings.load(**least | {name: value, other: value})
    sentence = rf"^HONGBAO_{name.upper()} \({value}\) must be at most HONGBAO_{other.upper()} \({value - 1}\)\.$"
    with pytest.raises(OperatorError, match=sentence):
        Settings.load(**least | {name: value, other: value - 1})


def test_a_queue_has_room_for_the_largest_batch() -> None:
    with pytest.raises(
        OperatorError, match="HONGBAO_CLAIM_QUEUE_MAX cannot be used: Input should be greater than or equal"
    ):
        Settings.load(claim_queue_max=BATCH_CLAIMS_MAX - 1)


@pytest.mark.parametrize("name", _LISTS)
def test_a_list_can_be_emptied(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HONGBAO_{name.upper()}", "")
    assert getattr(Settings.load(), name) == ""
    monkeypatch.delenv(f"HONGBAO_{name.upper()}")
    assert getattr(Settings.load(), name) == Settings.model_fields[name].get_default()


def test_anything_else_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_CURRENCY", "")
    monkeypatch.setenv("HONGBAO_REDIS_URL", "")
    settings = Settings.load()
    assert (settings.currency, settings.redis_url) == ("CNY", None)
    assert ignored(settings) == []


@pytest.mark.parametrize("name", ["HONGBAO_LANE", "HONGBAO_", "hongbao_claims_per_user"])
def test_a_variable_that_is_no_setting_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("HONGBAO_LANES", "3")
    assert ignored(Settings.load()) == [f"{name} is not a setting."]


@pytest.mark.parametrize(("name", "other"), _NEEDS.items())
def test_a_setting_that_does_nothing_without_another_is_named(
    name: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"webhook_secret": "whsec_" + "c2VjcmV0" * 4, "webhook_url": "https://example.org/"}
    values |= {"address_header": "x-real-ip", "trusted_proxies": "127.0.0.1"}
    values |= {"wechatpay_certificate_header": "x-cert", "wechatpay_certificate_proxies": "127.0.0.1"}
    values |= {"wechatpay_client_ca": "ca.pem", "tls_certificate": "server.pem"}
    values |= {"console_oidc_issuer": "https://example.org", "console_oidc_client_id": "console"}
    values |= {"console_oidc_client_secret": "s", "console_oidc_claim": "email", "console_oidc_second_factor": "mfa"}
    monkeypatch.setenv(f"HONGBAO_{name.upper()}", values[name])
    assert ignored(Settings.load()) == [f"HONGBAO_{name.upper()} does nothing without HONGBAO_{other.upper()}."]
    monkeypatch.setenv(f"HONGBAO_{other.upper()}", values[other])
    if other == "tls_certificate":
        monkeypatch.setenv("HONGBAO_TLS_KEY", "server.key")
    if other == "console_oidc_issuer":
        for needed in ("console_oidc_client_id", "console_oidc_client_secret"):
            monkeypatch.setenv(f"HONGBAO_{needed.upper()}", values[needed])
    assert ignored(Settings.load()) == []


def test_a_number_of_workers_for_one_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_WORKERS", "4")
    (sentence,) = ignored(Settings.load(), "serve")
    assert "Start it 4 times on the same port" in sentence
    assert ignored(Settings.load(), "up") == ignored(Settings.load(), "persist") == []
    monkeypatch.setenv("HONGBAO_WORKERS", "1")
    assert ignored(Settings.load(), "serve") == []


def test_a_number_of_persisters_for_one_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONGBAO_PERSISTERS", "3")
    (sentence,) = ignored(Settings.load(), "persist")
    assert "Start it 3 times, with --share 1/3 and so on" in sentence
    assert ignored(Settings.load(), "up") == ignored(Settings.load(), "serve") == []


HIDDEN = [
    "pa#ss",
    "pa/ss",
    "pa?ss",
    "pa@ss",
    "12#ss",
    "12/ss",
    "p[ss",
    "pa%ss",
    "pa%zz",
    "pa ss",
    "a#b/c?d@e",
    "#",
    "@",
]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(
    "form", ["redis_url redis://:{}@127.0.0.1:1/0", "redis_url rediss://u:{}@h", "database_url postgresql://u:{}@h:1/x"]
)
def test_a_password_that_is_not_percent_encoded_is_said_to_be_without_being_shown(form: str, hidden: str) -> None:
    name, _, url = form.partition(" ")
    with pytest.raises(OperatorError) as refused:
        Settings.load(**{name: url.format(hidden)})
    said = f"HONGBAO_{name.upper()} cannot be used: its user and password must be percent-encoded: write # as %23"
    assert str(refused.value).startswith(said)
    assert "ss" not in str(refused.value).removeprefix(said).replace("password", "")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "redis://:pa%23ss%40%2F%3F%25@127.0.0.1:1/0"),
        ("redis_url", "redis://[::1]:6379/0?protocol=3"),
        ("redis_url", "unix:///run/a@b/redis.sock?db=0"),
        ("redis_url", "redis://u:p:w@h"),
        ("database_url", "postgresql://u:p%20w@[::1]:5432/x?application_name=a@b"),
        ("database_url", "postgresql://h/x?user=a@b"),
        ("database_url", "postgresql:///x?host=/run/a&user=b@c"),
        ("database_url", "postgresql://u:p@a:1,b:2/x"),
    ],
)
def test_what_is_percent_encoded_is_taken(name: str, url: str) -> None:
    assert getattr(Settings.load(**{name: url}), name) == url
