"""compose.yaml starts the real commands in an order that works, with servers that are safe, and watches all of them."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.console import server as console_server
from api.limits import Limits
from api.server import STOP_S_MAX
from engine.running import up
from engine.settings import Settings
from tests.support.deploying import COMPOSE, DEPLOY, OURS, commands, read, seconds
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

SERVICES: dict[str, Any] = COMPOSE["services"]
FILE = DEPLOY / "compose" / "compose.yaml"
GIVEN = {
    "POSTGRES_PASSWORD": "one",
    "VALKEY_PASSWORD": "two",
    "GRAFANA_PASSWORD": "three",
    "HONGBAO_AUTH_SECRETS": "k1:0123456789abcdef0123456789abcdef",
    "HONGBAO_CONSOLE_ORIGIN": "https://console.hongbao.example",
}
DEFAULTS = Settings(auth_secret=None)


def of_process(command: str) -> dict[str, Any]:
    (found,) = [service for service in OURS.values() if service["command"] == [command]]
    return dict(found)


def test_all_processes_are_there_as_one_image() -> None:
    assert sorted(service["command"][0] for service in OURS.values()) == [
        "console",
        "migrate",
        "persist",
        "serve",
        "sweep",
    ]
    assert {service["command"][0] for service in OURS.values()} <= commands()
    assert len({str(service["build"]) for service in OURS.values()}) == 1
    build = of_process("serve")["build"]
    context = (FILE.parent / build["context"]).resolve()
    assert context == ROOT.resolve()
    assert (context / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_ours_have_both_servers_and_no_rights(name: str) -> None:
    service = OURS[name]
    assert {"HONGBAO_DATABASE_URL", "HONGBAO_REDIS_URL"} <= service["environment"].keys()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_starts_before_what_it_needs() -> None:
    for command in ("serve", "persist", "sweep", "console"):
        assert of_process(command)["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                is_ours = other in OURS and not SERVICES[other].get("healthcheck", {}).get("disable")
                assert is_ours or "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"
    assert of_process("migrate")["restart"] == "no"
    assert of_process("migrate")["healthcheck"] == {"disable": True}  # it ends, and shows no port


def test_what_the_image_probes_is_the_port_of_each_process() -> None:
    assert "HONGBAO_METRICS_PORT" not in of_process("serve")["environment"]
    assert "HONGBAO_PORT" not in of_process("serve")["environment"]
    assert [entry.split(":")[-1] for entry in of_process("serve")["ports"]] == [str(DEFAULTS.port)]
    for command in ("persist", "sweep"):
        assert of_process(command)["environment"]["HONGBAO_METRICS_PORT"] == "9108"


def test_the_console_can_start_and_is_probed_where_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    service = of_process("console")
    for name, value in (service["environment"] | GIVEN).items():
        if name.startswith("HONGBAO_CONSOLE_"):
            monkeypatch.setenv(name, value)
    settings = Settings.load()
    console_server.check_address(settings)  # it refuses to listen beyond this machine without TLS in front
    assert settings.console_port == console_server.DEFAULT_PORT
    assert service["ports"] == [f"127.0.0.1:{settings.console_port}:{settings.console_port}"]
    assert f"http://127.0.0.1:{settings.console_port}/livez" in service["healthcheck"]["test"][-1]
    assert "HONGBAO_CONSOLE_PORT" not in str([other for other in OURS.values() if other["command"] != ["console"]])


def test_the_console_reads_the_counters_of_every_process() -> None:
    urls = of_process("console")["environment"]["HONGBAO_CONSOLE_METRICS_URLS"].split()
    config = yaml.safe_load(read(FILE.parent / "prometheus.yml"))
    scraped = [job["dns_sd_configs"][0] for job in config["scrape_configs"] if job["job_name"] != "hongbao-console"]
    assert urls == [f"http://{job['names'][0]}:{job['port']}/metrics" for job in scraped]


def test_each_process_has_the_time_to_stop() -> None:
    grace_s = {command: seconds(of_process(command)["stop_grace_period"]) for command in ("serve", "persist", "sweep")}
    assert grace_s["serve"] >= DEFAULTS.drain_delay_s + STOP_S_MAX + 5
    assert grace_s["persist"] >= up._DRAIN_S
    assert grace_s["sweep"] >= 10
    assert seconds(of_process("console")["stop_grace_period"]) >= console_server.STOP_S_MAX + 5


def test_the_api_may_open_as_many_files_as_it_takes_connections() -> None:
    assert of_process("serve")["ulimits"]["nofile"] >= Limits.descriptors_for(DEFAULTS.connections_max)


def test_every_port_is_only_for_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert SERVICES["valkey"]["networks"] == SERVICES["postgres"]["networks"] == ["data"]


def test_valkey_keeps_every_claim() -> None:
    words = SERVICES["valkey"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert "VALKEY_PASSWORD" in options["--requirepass"]
    assert SERVICES["valkey"]["volumes"] == ["valkey:/data"]
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]  # where it is since Postgres 18
    assert SERVICES["postgres"]["image"] == "postgres:18"


def test_the_settings_are_no_secrets_and_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in read(FILE.parent / "settings.env").splitlines() if line and not line.startswith("#")]
    for line in lines:
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    assert len(lines) >= 2
    assert "SECRET" not in "".join(lines)
    Settings.load()


def test_every_mounted_file_is_there() -> None:
    mounted = [entry for service in SERVICES.values() for entry in service.get("volumes", []) if entry[0] == "."]
    assert len(mounted) == 5
    for entry in mounted:
        assert (FILE.parent / entry.split(":")[0]).exists(), entry
        assert entry.endswith(":ro")


def test_prometheus_scrapes_every_process_and_has_our_rules() -> None:
    config = yaml.safe_load(read(FILE.parent / "prometheus.yml"))
    scraped = {}
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (scraped[job["job_name"]],) = [(name, found["port"]) for name in found["names"]]
    assert set(scraped.values()) == {
        ("api", DEFAULTS.port),
        ("console", console_server.DEFAULT_PORT),
        ("persist", 9108),
        ("sweep", 9108),
    }
    targets = [entry.split(":")[:2] for entry in SERVICES["prometheus"]["volumes"] if entry.endswith(":ro")]
    (rules,) = config["rule_files"]
    assert ["../../docs/prometheus-rules.yml", rules] in targets


def test_grafana_is_provisioned_with_prometheus_and_the_dashboards() -> None:
    (source,) = yaml.safe_load(read(FILE.parent / "grafana" / "datasources.yml"))["datasources"]
    (prometheus,) = SERVICES["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{prometheus.split(':')[-1]}"
    (provider,) = yaml.safe_load(read(FILE.parent / "grafana" / "dashboards.yml"))["providers"]
    mounts = [entry.split(":")[:2] for entry in SERVICES["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"]] in mounts


def compose_words() -> list[str]:
    """The program, in either form; the test is skipped if there is none."""
    if shutil.which("docker-compose") is not None:
        return ["docker-compose"]
    asked = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode:
        skip_without_tool("docker-compose", "apt-get install docker-compose")
    return asked[:-1]


def configured(**variables: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name not in GIVEN}
    words = [*compose_words(), "--file", str(FILE), "config"]
    return subprocess.run(
        words, env=kept | variables, capture_output=True, encoding="utf-8", timeout=60, check=False, cwd=Path("/")
    )


def test_compose_reads_it() -> None:
    printed = configured(**GIVEN)
    assert printed.returncode == 0, printed.stderr
    read_services = yaml.safe_load(printed.stdout)["services"]
    assert read_services.keys() == SERVICES.keys()
    url = read_services["persist"]["environment"]["HONGBAO_DATABASE_URL"]
    assert url == "postgresql://hongbao:one@postgres:5432/hongbao"


@pytest.mark.parametrize("missing", GIVEN)
def test_compose_refuses_without_a_secret(missing: str) -> None:
    if (FILE.parent / ".env").exists():
        pytest.skip("there is a .env file")
    printed = configured(**{name: value for name, value in GIVEN.items() if name != missing})
    assert printed.returncode != 0
    assert "set it in .env" in printed.stderr
