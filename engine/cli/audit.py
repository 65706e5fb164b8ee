"""`hongbao audit`: every invariant of the books."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import OperatorError
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.auditing.audit import Finding

_AUDIT_S_MAX = 3_600.0

AnchorOption = Annotated[
    Path | None,
    typer.Option("--anchor", help="The output of an earlier `audit --json`: the chains must continue from there."),
]
TextfileOption = Annotated[
    Path | None, typer.Option("--textfile", help="Write the result there as metrics for Prometheus' node exporter.")
]


def audit(
    data_dir: DataDirOption = None,
    anchor: AnchorOption = None,
    textfile: TextfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine every invariant of the books. Exits 1 if one does not hold. Starts the servers if none are running."""
    from engine.auditing import anchors
    from engine.auditing.audit import audit as run_audit
    from engine.connected import Connected
    from engine.running import reach

    logs.configure("audit")
    heads = None if anchor is None else anchors.read(anchor)

    async def examine(settings: Settings) -> "list[Finding]":
        async with Connected.open(settings) as connected:
            return await run_audit(connected.pool, connected.store, connected.stream, heads)

    # This reads all the books, so no statement is too slow.
    loaded = Settings.load(data_dir=data_dir, database_timeout_s=_AUDIT_S_MAX)
    reach.check_has_books(loaded)
    with reach.reachable(loaded) as settings:
        findings = run(examine(settings))
    if as_json:
        show(orjson.dumps([_record(finding) for finding in findings]).decode())
    else:
        _tell(findings)
    if textfile is not None:
        _leave(textfile, findings)
    if not all(finding.holds for finding in findings):
        raise typer.Exit(1)


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
