"""The units of systemd: the real commands, with the time they need to stop and no right they do not need."""

import shutil
import subprocess
from pathlib import Path

import pytest

from api.console import server as console_server
from api.limits import Limits
from api.server import STOP_S_MAX
from engine.running import up
from engine.running.processes import Share
from engine.settings import Settings
from tests.support.deploying import DEPLOY, Pairs, commands, read, seconds, units
from tests.support.needs import skip_without_tool

UNITS = {path.name: sections for path, sections in units()}
SERVICES = {name: dict(sections["Service"]) for name, sections in UNITS.items() if name.endswith(".service")}
STAYING = ["hongbao-api@.service", "hongbao-console.service", "hongbao-persist@.service", "hongbao-sweep.service"]
PROGRAM = "/opt/hongbao/bin/hongbao"
DEFAULTS = Settings(auth_secret=None)
INSTANCES = {
    "hongbao-api@": ["8080"],
    "hongbao-check@": ["audit", "reconcile"],
    "hongbao-persist@": ["1-1", "2-3"],
}
HARDENED = {
    "User": "hongbao",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
}


def all_of(pairs: Pairs, name: str) -> list[str]:
    return [value for key, value in pairs if key == name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_that_exists_without_rights(name: str) -> None:
    service = SERVICES[name]
    program, command, *_ = service["ExecStart"].split()
    assert program == PROGRAM
    assert command in commands() or name == "hongbao-check@.service"
    assert {key: service[key] for key in HARDENED} == HARDENED
    assert all_of(UNITS[name]["Service"], "EnvironmentFile")[0] == "/etc/hongbao/hongbao.env"
    assert "HONGBAO_DATA_DIR=/etc/hongbao" in all_of(UNITS[name]["Service"], "Environment")


@pytest.mark.parametrize("name", STAYING)
def test_what_stays_starts_again_and_has_the_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    least_s = {
        "serve": DEFAULTS.drain_delay_s + STOP_S_MAX + 5,
        "persist": up._DRAIN_S,
        "sweep": 10,
        "console": console_server.STOP_S_MAX + 5,
    }[service["ExecStart"].split()[1]]
    assert seconds(service["TimeoutStopSec"]) >= least_s
    assert (service["Type"], service["Restart"], service["KillSignal"]) == ("exec", "always", "SIGTERM")
    assert int(service["LimitNOFILE"]) >= Limits.descriptors_for(DEFAULTS.connections_max)
    unit = dict(UNITS[name]["Unit"])
    assert (unit["PartOf"], unit["StartLimitIntervalSec"]) == ("hongbao.target", "0")
    assert "hongbao-migrate.service" in unit["After"]
    assert dict(UNITS[name]["Install"]) == {"WantedBy": "hongbao.target"}


def test_the_schema_changes_only_when_somebody_says_so() -> None:
    pulling = ("Requires", "Wants", "BindsTo", "Requisite", "OnSuccess", "Upholds")
    for name, sections in UNITS.items():
        for key, value in sections["Unit"]:
            assert key not in pulling or "hongbao-migrate" not in value, name
    assert SERVICES["hongbao-migrate.service"]["Type"] == "oneshot"
    assert "Install" not in UNITS["hongbao-migrate.service"]


def test_ports_do_not_meet() -> None:
    assert SERVICES["hongbao-api@.service"]["ExecStart"].endswith("serve --port %i")
    ports = [
        value.partition("=")[2]
        for name in STAYING
        for value in all_of(UNITS[name]["Service"], "Environment")
        if value.startswith("HONGBAO_METRICS_PORT=")
    ]
    assert len(set(ports)) == len(ports) == 2
    console_port = SERVICES["hongbao-console.service"]["ExecStart"].partition("--port ")[2]
    assert console_port not in {*ports, *INSTANCES["hongbao-api@"], str(console_server.DEFAULT_PORT), ""}
    settings = read(DEPLOY / "systemd" / "hongbao.env.example").splitlines()
    assert [
        line for line in settings if line.startswith(("HONGBAO_PORT", "HONGBAO_METRICS_PORT", "HONGBAO_CONSOLE_PORT"))
    ] == []


def test_an_instance_of_the_persister_is_a_share() -> None:
    """systemd writes %I of the instance 2-3 as 2/3."""
    assert SERVICES["hongbao-persist@.service"]["ExecStart"].endswith("persist --share %I")
    assert [Share.parse(name.replace("-", "/")) for name in INSTANCES["hongbao-persist@"]] == [Share(1, 1), Share(2, 3)]


def test_a_check_is_daily_and_leaves_its_result() -> None:
    service = SERVICES["hongbao-check@.service"]
    assert service["ExecStart"] == f"{PROGRAM} %i --textfile /var/lib/{service['StateDirectory']}/%i.prom"
    assert {"audit", "reconcile"} <= commands()
    assert "Asia/Shanghai" in dict(UNITS["hongbao-check@.timer"]["Timer"])["OnCalendar"]


def test_the_account_is_that_of_the_units() -> None:
    lines = [line for line in read(DEPLOY / "systemd" / "hongbao.sysusers.conf").splitlines() if line[0] != "#"]
    assert lines == ['u hongbao - "Hongbao"']


def test_systemd_reads_them(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        skip_without_tool("systemd-analyze", "apt-get install systemd")
    for path, _ in units():  # the program is not here, and an instance has a name
        text = read(path).replace(PROGRAM, "/bin/true")
        for instance in INSTANCES.get(path.stem, []):
            (tmp_path / f"{path.stem}{instance}{path.suffix}").write_text(text, encoding="utf-8")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    words = ["systemd-analyze", "--man=no", "verify", *(path.name for path in sorted(tmp_path.iterdir()))]
    verified = subprocess.run(words, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "hongbao" in line]) == (0, [])
