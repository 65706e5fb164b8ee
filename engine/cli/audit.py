"""`hongbao audit`: every invariant of the books."""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import OperatorError
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.access.keyring import Keyring
    from engine.auditing.audit import Audited, Finding

_AUDIT_S_MAX = 3_600.0
_JOBS_MAX = 16
_SILENT_S = 60.0
"""An audit that takes longer says how far it is."""

AnchorOption = Annotated[
    Path | None,
    typer.Option("--anchor", help="The output of an earlier `audit --json`: the chains must continue from there."),
]
TextfileOption = Annotated[
    Path | None, typer.Option("--textfile", help="Write the result there as metrics for Prometheus' node exporter.")
]


FullOption = Annotated[
    bool, typer.Option("--full", help="Walk all history, not only what came after the last clean audit.")
]
AnewOption = Annotated[
    bool,
    typer.Option(
        "--begin-anew", help="Walk all history and let the kept anchors count for nothing: after an investigation."
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        max=_JOBS_MAX,
        help="How much to read at once, on two connections each (default: the cores, at most 4).",
        show_default=False,
    ),
]


def audit(
    *,
    data_dir: DataDirOption = None,
    anchor: AnchorOption = None,
    full: FullOption = False,
    begin_anew: AnewOption = False,
    jobs: JobsOption = None,
    textfile: TextfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine every invariant of the books. Exits 1 if one does not hold. Starts the servers if none are running.

    It goes on from the last clean audit. With --full it walks all history.
    """
    from engine.auditing import anchors
    from engine.auditing.audit import Plan, audit_on
    from engine.auditing.runs import COMMAND_LINE, Runs
    from engine.connected import Connected
    from engine.ledger.money import now_ms
    from engine.running import reach

    logs.configure("audit")
    heads = None if anchor is None else anchors.read(anchor)
    jobs = jobs or min(4, os.cpu_count() or 1)

    async def examine(settings: Settings) -> "Audited":
        keyring, why = _keyring(settings)
        with _progress() as told:
            plan = Plan(
                anchor=heads,
                is_full=full,
                is_anew=begin_anew,
                jobs=jobs,
                retention_ms=settings.settled_retention_s * 1_000,
                told=told,
            )
            async with Connected.open(settings) as connected:
                started_at_ms = await now_ms(connected.pool)
                audited = await audit_on(connected.pool, connected.store, connected.stream, keyring, plan)
                if await (runs := Runs(connected.pool)).may_keep():
                    await runs.keep_audit(audited, started_at_ms=started_at_ms, by=COMMAND_LINE)
        return audited if why is None else dataclasses.replace(audited, not_kept=audited.not_kept and why)

    loaded = Settings.load(data_dir=data_dir)
    # This reads all the books, so no statement is too slow.
    connections = max(loaded.database_pool_max, 2 * jobs)
    loaded = loaded.model_copy(update={"database_timeout_s": _AUDIT_S_MAX, "database_pool_max": connections})
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        audited = run(examine(settings))
    findings = audited.findings
    if as_json:
        show(orjson.dumps([_record(finding) for finding in findings]).decode())
        if audited.is_doubtful:
            _note(audited.scope)
    else:
        show(audited.scope)
        _tell(findings)
    if audited.not_kept is not None:
        _note(f"No anchor is kept, so the next audit begins where this one began: {audited.not_kept.rstrip('.')}.")
    if textfile is not None:
        _leave(textfile, findings)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(1)


def _keyring(settings: Settings) -> "tuple[Keyring | None, str | None]":
    """The secrets that sign anchors, and why there are none. It creates none."""
    from engine.access import keyring

    try:
        return (keyring.load(settings), None) if keyring.is_given(settings) else (None, None)
    except OperatorError as error:
        return None, str(error)
    except OSError as error:
        return None, f"the secrets cannot be read: {error.strerror}"


@contextmanager
def _progress() -> "Iterator[Callable[[str, int, int], None]]":
    """Show how far the audit is: a bar on a terminal, otherwise a line per piece of work, once it takes long."""
    if not sys.stderr.isatty():
        started_s = time.monotonic()

        def line(name: str, done: int, total: int) -> None:
            if (took_s := time.monotonic() - started_s) > _SILENT_S:
                _note(f"{done} of {total} done after {took_s:.0f} s: {name}.")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def bar(name: str, done: int, total: int) -> None:
            progress.update(task, description=name, completed=done, total=total)

        yield bar


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _record(finding: "Finding") -> dict[str, Any]:
    record = {**dataclasses.asdict(finding), "holds": finding.holds}
    if not finding.heads:
        del record["heads"]
    return record


def _tell(findings: "list[Finding]") -> None:
    for finding in findings:
        show(finding.line())
        for problem in finding.problems:
            show(f"       {problem}")
        if finding.more:
            show(f"       ... and {finding.more} more")


def _leave(path: Path, findings: "list[Finding]") -> None:
    from engine.observability import metrics

    problems = {finding.invariant: len(finding.problems) + finding.more for finding in findings}
    try:
        metrics.write_audit(path, problems, time.time())
    except OSError as error:
        raise OperatorError(f"The metrics cannot be written to {path}: {error.strerror}.") from None
