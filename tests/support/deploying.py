"""What `deploy/` says, read the same way by all of its tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

from engine.cli import main
from tests.support.repository import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(
    path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env" and path.parent.name != "__pycache__"
)
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
OURS = {name: service for name, service in COMPOSE["services"].items() if service["image"].startswith("hongbao:")}
"""The services of compose.yaml that are our own processes."""

Pairs = list[tuple[str, str]]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands() -> set[str]:
    """The commands of `hongbao`."""
    command = typer.main.get_command(main.app)
    assert isinstance(command, typer.core.TyperGroup)
    return set(command.commands)


def seconds(text: str) -> float:
    """A duration as compose and systemd write it."""
    number, unit = re.fullmatch(r"(\d+)(s|min|m|)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "": 1, "m": 60, "min": 60}[unit]


def units() -> Iterator[tuple[Path, dict[str, Pairs]]]:
    """Each unit of systemd with the settings of its sections, in order: a key may come several times."""
    for path in sorted((DEPLOY / "systemd").iterdir()):
        if path.suffix in (".service", ".target", ".timer"):
            yield path, _sections(read(path))


def _sections(text: str) -> dict[str, Pairs]:
    found: dict[str, Pairs] = {}
    pairs: Pairs = []
    for line in text.splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", line):
            pairs = found.setdefault(head[1], [])
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            pairs.append((name, value))
    return found
