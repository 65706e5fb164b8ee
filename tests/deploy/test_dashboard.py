"""Grafana shows metrics that exist, by labels that they have; Prometheus reads our rules and its settings."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deploying import DEPLOY, read
from tests.support.metric_names import labels_by_sample
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

DASHBOARD: dict[str, Any] = json.loads(read(DEPLOY / "compose" / "grafana" / "hongbao.json"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = ROOT / "docs" / "prometheus-rules.yml"
_METRIC = re.compile(r"\bhongbao_\w+")


def expressions() -> Iterator[tuple[str, str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


@pytest.mark.parametrize(("title", "expression", "legend"), list(expressions()))
def test_a_panel_shows_what_exists(title: str, expression: str, legend: str) -> None:
    known = labels_by_sample()
    named = set(_METRIC.findall(expression))
    assert named, title
    assert named - known.keys() == set()
    labels = set().union(*(known[name] for name in named))
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    selected = set(re.findall(r"[{,](\w+)[!=]~?\"", expression))
    assert (grouped | selected) - labels == set()
    assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for _, expression, _ in expressions() for name in _METRIC.findall(expression)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in labels_by_sample()}
    assert families - {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} == set()


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert cells & taken == set(), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def promtool(*words: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("promtool") is None:
        skip_without_tool("promtool", "apt-get install prometheus")
    return subprocess.run(["promtool", *words], capture_output=True, encoding="utf-8", timeout=60, check=False)


def test_prometheus_reads_its_settings_and_our_rules(tmp_path: Path) -> None:
    text = read(DEPLOY / "compose" / "prometheus.yml")
    (rules,) = yaml.safe_load(text)["rule_files"]
    path = tmp_path / "prometheus.yml"
    path.write_text(text.replace(rules, str(RULES)), encoding="utf-8")
    checked = promtool("check", "config", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    """As rules, because promtool checks no expression alone."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, (_, expression, _) in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr
