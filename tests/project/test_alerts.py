"""The alerts are about metrics that exist, and lead to runbooks that exist and name commands that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from engine.cli import main
from tests.support.metric_names import labels_by_sample
from tests.support.repository import ROOT

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "docs" / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
_METRIC = re.compile(r"\bhongbao_\w+")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all samples that a scrape, or the node exporter, may show."""
    return set(labels_by_sample())


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_is_about_metrics_that_exist_and_leads_to_a_runbook(rule: dict[str, Any], known: set[str]) -> None:
    named = set(_METRIC.findall(rule["expr"]))
    assert named
    assert named - known == set()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook in RUNBOOKS
    assert rule["alert"] in runbook.read_text(encoding="utf-8"), f"{runbook.name} does not name {rule['alert']}"


def test_names_of_alerts_are_unique() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("path", RUNBOOKS, ids=[path.stem for path in RUNBOOKS])
def test_a_runbook_has_its_parts_and_names_only_what_exists(path: Path, known: set[str]) -> None:
    text = path.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What you see", "What it means", "Look", "Do", "It is over when"]
    alerts = {rule["alert"] for rule in RULES}
    assert set(re.findall(r"\bHongbao[A-Z]\w+", text)) <= alerts
    assert set(_METRIC.findall(text)) - known == set()
    assert set(re.findall(r"^    .*?\bhongbao ([a-z][a-z-]*)\b", text, re.MULTILINE)) <= commands()


def commands() -> set[str]:
    """The command's own commands, by its own word: how its help is drawn depends on the terminal."""
    command = typer.main.get_command(main.app)
    assert isinstance(command, typer.core.TyperGroup)
    return set(command.commands)


def test_every_runbook_is_named_by_an_alert_and_on_the_map() -> None:
    assert {rule["annotations"]["runbook_url"] for rule in RULES} == {f"docs/runbooks/{p.name}" for p in RUNBOOKS}
    page = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RUNBOOKS if f"](runbooks/{path.name})" not in page] == []
