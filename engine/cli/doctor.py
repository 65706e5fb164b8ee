"""`hongbao doctor`: what is configured, reachable and safe."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.doctor.lines import Line

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Check servers, settings, lanes and this machine, and advise what to do. Exits 1 if there is a problem."""
    from engine.doctor.doctor import examine, is_healthy
    from engine.running import reach

    logs.configure("doctor")
    loaded = Settings.load(data_dir=data_dir)
    settings = reach.running(loaded)
    lines = run(examine(settings, is_embedded=None in (loaded.redis_url, loaded.database_url)))
    if as_json:
        show(orjson.dumps([dataclasses.asdict(line) for line in lines]).decode())
    elif sys.stdout.isatty():
        _table(lines)
    else:
        for line in lines:
            show(f"{line.level.value:8}{line.name}: {line.found}{f' -> {line.advice}' if line.advice else ''}")
    if not is_healthy(lines):
        raise typer.Exit(1)


def _table(lines: "list[Line]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        found = Text(line.found)
        if line.advice:
            found.append(f"\n{line.advice}", style="italic")
        table.add_row(Text(line.level.value, style=_COLOURS[line.level.value]), Text(line.name), found)
    Console().print(table)
