"""`deploy/` names only what exists: settings, commands, files, this version; and it holds no secret and no address."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from engine.settings import Settings
from tests.support.chart import CHART, RENDERED
from tests.support.deploying import COMPOSE, DEPLOY, FILES, OURS, commands, read
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "deploy.md"
VERSION = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
SECRETS = {"HONGBAO_AUTH_SECRET", "HONGBAO_AUTH_SECRETS", "HONGBAO_COUPON_KEYS", "HONGBAO_WEBHOOK_SECRET"}
_SETTING = re.compile(r"\bHONGBAO_[A-Z][A-Z_]*\b")
_URL = re.compile(r"\b[a-z][a-z0-9+]*://[^\s\"'`]+")
_LOCAL = re.compile(
    r"http://(127\.0\.0\.1|prometheus|api|persist|sweep)\b|http://\{\{|(postgresql|redis)://[^\s@]*@(postgres|valkey):"
)


@pytest.mark.parametrize("path", [*FILES, PAGE], ids=lambda path: str(path.relative_to(ROOT)))
def test_each_setting_exists(path: Path) -> None:
    known = {f"HONGBAO_{name.upper()}" for name in Settings.model_fields}
    assert set(_SETTING.findall(read(path))) - known == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_large_or_names_a_host_elsewhere(path: Path) -> None:
    assert path.stat().st_size < 100_000
    text = re.sub(r"\$\{[^}]*\}", "filled-in", read(path))
    assert [url for url in _URL.findall(text) if not _LOCAL.match(url)] == []


def test_no_secret_is_filled_in() -> None:
    for name in ("compose/env.example", "systemd/hongbao.env.example"):
        filled = {
            variable
            for line in read(DEPLOY / name).splitlines()
            if not line.startswith("#")
            for variable, _, value in [line.partition("=")]
            if value and ("PASSWORD" in variable or "URL" in variable or "SECRET" in variable)
        }
        assert filled == set(), name
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or variable in SECRETS or variable.endswith("_URL") or "AUTH" in variable:
                assert re.search(r"\$\{[A-Z_]+:(\?[^}]+|-)\}", value), f"{name}: {variable} has a value of its own"
    assert "kind: Secret" not in read(RENDERED)


def test_git_ignores_the_file_of_secrets() -> None:
    assert "deploy/compose/.env" in read(ROOT / ".gitignore").splitlines()


def test_versions_agree() -> None:
    chart = yaml.safe_load(read(CHART / "Chart.yaml"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert {service["image"] for service in OURS.values()} == {f"hongbao:{VERSION}"}
    assert f'org.opencontainers.image.version="{VERSION}"' in read(DEPLOY / "Dockerfile")
    assert set(re.findall(r"hongbao:(\d[\w.]*)", "\n".join(read(path) for path in [*FILES, PAGE]))) == {VERSION}


def test_each_command_of_the_page_exists() -> None:
    shown = re.findall(r"(?:^    |-- |`|bin/)hongbao ([a-z][a-z-]+)", read(PAGE), re.MULTILINE)
    assert len(shown) > 5
    assert set(shown) - commands() == set()


def test_each_file_of_the_page_exists_and_each_folder_is_on_it() -> None:
    page = read(PAGE)
    named = re.findall(r"\bdeploy/[\w./@-]+[\w@]", page)
    assert [name for name in named if not (ROOT / name).exists() and not name.endswith("/.env")] == []
    assert {
        path.relative_to(DEPLOY).parts[0] for path in FILES if f"deploy/{path.relative_to(DEPLOY).parts[0]}" not in page
    } == set()
