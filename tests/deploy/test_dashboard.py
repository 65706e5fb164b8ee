"""Grafana's dashboards are what the code says, and show every metric that exists; Prometheus reads our rules."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.dashboards.__main__ import DASHBOARDS, FOLDER, main, text_of
from deploy.dashboards.panels import ANNOTATIONS, SCHEMA_VERSION, Dashboard
from tests.support.deploying import DEPLOY, read
from tests.support.metric_names import labels_by_sample
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

FILES = sorted(FOLDER.glob("*.json"))
RULES = ROOT / "docs" / "prometheus-rules.yml"
_METRIC = re.compile(r"\bhongbao_\w+")
_OF_GRAFANA = {"$__rate_interval": "1m"}
_UNITS = {"none", "reqps", "s", "percentunit"}


def dashboard_in(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for panel in dashboard_in(path)["panels"]:
            if panel["type"] != "row":
                yield f"{path.stem}: {panel['title']}", panel


def expressions() -> Iterator[tuple[str, str, str]]:
    """Of every panel and annotation: its name, the expression as Prometheus gets it, and the legend."""
    for name, panel in panels():
        for target in panel["targets"]:
            yield name, asked(target["expr"]), target["legendFormat"]
    for name, expression, text, _ in ANNOTATIONS:
        yield name, asked(expression), text


def asked(expression: str) -> str:
    for variable, value in _OF_GRAFANA.items():
        expression = expression.replace(variable, value)
    return expression


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=[each.name for each in DASHBOARDS])
def test_a_file_is_what_the_code_writes(dashboard: Dashboard) -> None:
    written = (FOLDER / f"{dashboard.name}.json").read_text(encoding="utf-8")
    assert written == text_of(dashboard), "run `python -m deploy.dashboards`"


def test_there_is_a_file_per_dashboard_and_each_has_its_own_uid() -> None:
    assert [path.stem for path in FILES] == sorted(each.name for each in DASHBOARDS)
    uids = [dashboard_in(path)["uid"] for path in FILES]
    assert uids == ["hongbao-ledger", "hongbao-money", "hongbao-processes", "hongbao-storm"]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_dashboard_is_classic_json_with_its_source_as_a_variable(path: Path) -> None:
    dashboard = dashboard_in(path)
    assert dashboard["schemaVersion"] == SCHEMA_VERSION == 42
    assert not {"apiVersion", "kind", "spec", "__inputs", "id"} & dashboard.keys()  # a newer form, or an export's
    assert dashboard["refresh"] == "5s"
    (variable,) = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = re.findall(r'"uid": "(\$[^"]*)"', path.read_text(encoding="utf-8"))
    assert set(sources) == {"${datasource}"}
    assert [each["name"] for each in dashboard["annotations"]["list"]] == ["Lanes rebuilt", "Processes started"]


@pytest.mark.parametrize(("name", "panel"), list(panels()), ids=[name for name, _ in panels()])
def test_a_panel_says_what_it_shows_in_which_unit_and_what_to_do(name: str, panel: dict[str, Any]) -> None:
    words, _, runbook = panel["description"].partition("\n\nRunbook: ")
    assert words.endswith("."), name
    assert (ROOT / runbook).is_file(), runbook
    assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    assert len(panel["targets"]) == 1 or all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(("name", "expression", "legend"), EXPRESSIONS)
def test_an_expression_is_promql_about_what_exists(name: str, expression: str, legend: str) -> None:
    promql_parser.parse(expression)
    known = labels_by_sample()
    named = set(_METRIC.findall(expression))
    assert named, name
    assert named - known.keys() == set()
    labels = set().union(*(known[metric] for metric in named))
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    selected = set(re.findall(r"[{,](\w+)[!=]~?\"", expression))
    assert (grouped | selected) - labels == set()
    assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped


def test_a_broken_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (lane (hongbao_backlog)")


def test_every_rule_parses() -> None:
    for group in yaml.safe_load(read(RULES))["groups"]:
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {metric for _, expression, _ in EXPRESSIONS for metric in _METRIC.findall(expression)}
    families = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in labels_by_sample()}
    assert families - {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in shown} == set()


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_panels_do_not_overlap_and_have_numbers_of_their_own(path: Path) -> None:
    found = dashboard_in(path)["panels"]
    numbers = [panel["id"] for panel in found]
    assert len(set(numbers)) == len(numbers)
    assert len({panel["title"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert cells & taken == set(), panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def promtool(*words: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("promtool") is None:
        skip_without_tool("promtool", "apt-get install prometheus")
    return subprocess.run(["promtool", *words], capture_output=True, encoding="utf-8", timeout=300, check=False)


def test_prometheus_reads_its_settings_and_our_rules(tmp_path: Path) -> None:
    text = read(DEPLOY / "compose" / "prometheus.yml")
    (rules,) = yaml.safe_load(text)["rule_files"]
    path = tmp_path / "prometheus.yml"
    path.write_text(text.replace(rules, str(RULES)), encoding="utf-8")
    for words in (("check", "config", str(path)), ("check", "rules", str(RULES))):
        checked = promtool(*words)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    """As rules, because promtool checks no expression alone."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression, _) in enumerate(EXPRESSIONS)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.long
def test_alerts_fire_when_they_must_and_not_before() -> None:
    checked = promtool("test", "rules", str(ROOT / "tests" / "deploy" / "prometheus_rules_test.yml"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.dashboards.__main__.FOLDER", tmp_path / "none")
    assert main() == 1
    told = capsys.readouterr().err
    assert told == f"The dashboards cannot be written to {tmp_path / 'none'}: No such file or directory.\n"
    monkeypatch.setattr("deploy.dashboards.__main__.FOLDER", tmp_path)
    assert main() == 0
    assert {path.stem for path in tmp_path.iterdir()} == {each.name for each in DASHBOARDS}
