"""Libraries whose private parts we use: their versions are bounded, and another one is said at the start."""

import tomllib

import pytest

from engine.errors import OperatorError
from engine.running import libraries
from tests.support.commands import hongbao, sentence
from tests.support.repository import ROOT


def test_the_versions_known_are_those_that_are_required() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for name, (first, beyond) in libraries.KNOWN.items():
        assert f"{name}>={first},<{beyond}" in required


@pytest.mark.parametrize(
    ("found", "is_known"),
    [("0.49.9", False), ("0.50.0", True), ("0.54.0", True), ("0.54.1rc1", True), ("0.55.0", False), ("1.0", False)],
)
def test_another_version_is_one_sentence(monkeypatch: pytest.MonkeyPatch, found: str, is_known: bool) -> None:
    known = {name: first for name, (first, _) in libraries.KNOWN.items()}
    monkeypatch.setattr(libraries, "version", lambda name: found if name == "uvicorn" else known[name])
    if is_known:
        libraries.check()
        return
    with pytest.raises(
        OperatorError, match=rf"^uvicorn {found} is installed, .*: run `pip install 'uvicorn>=0.50,<0.55'`\.$"
    ):
        libraries.check()


@pytest.mark.parametrize("command", ["up", "serve", "persist", "sweep"])
def test_a_process_says_so_before_anything_else(command: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The metadata of another version stands before the real one on the path."""
    folder = tmp_path_factory.mktemp("other")
    info = folder / "uvicorn-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uvicorn\nVersion: 9.9\n", encoding="utf-8")
    finished = hongbao(command, "--data-dir", str(folder / "data"), PYTHONPATH=str(folder))
    assert sentence(finished).startswith("uvicorn 9.9 is installed")
    assert not (folder / "data").exists()
