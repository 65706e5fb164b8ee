"""`hongbao analyse`: pictures of some days of the ledger."""

import dataclasses
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.analysis.finding import Language
from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import HongbaoError, InvalidFieldsError, OperatorError
from engine.observability import logs
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.analysis.studies import Study

_STATEMENT_S_MAX = 3_600.0
_ANSWER_S = 10.0
_NAMES_MAX = 20

FromOption = Annotated[str, typer.Option("--from", help="The first day in China, as 2026-11-21.")]
ToOption = Annotated[str | None, typer.Option("--to", help="The last day. Default: the first. At most 400 days.")]
OutOption = Annotated[Path, typer.Option("--out", help="The folder for pictures, tables and the page.")]
LanguageOption = Annotated[Language, typer.Option("--language", help="Of titles, sentences and labels.")]
AssetOption = Annotated[
    str | None, typer.Option("--asset", help="Of what, as POINTS. Default: the ledger's currency.", show_default=False)
]
OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", help="Only this picture; may be repeated.", show_default=False)
]
StatementOption = Annotated[
    float | None,
    typer.Option(
        "--statement-s", min=0.001, max=_STATEMENT_S_MAX, help="Seconds for each question at most. Default: 60."
    ),
]


def analyse(
    *,
    first: FromOption,
    last: ToOption = None,
    out: OutOption,
    language: LanguageOption = Language.EN,
    asset: AssetOption = None,
    only: OnlyOption = None,
    statement_s: StatementOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw pictures of some days, each with its table and what it says. Changes nothing.

    It only asks Postgres for sums. Exits 2 if it could not draw all of them. Starts the servers if none are running.
    """
    logs.configure("analyse")
    try:
        page, undrawn, study = _drawn(
            _day("--from", first),
            _day("--to", last or first),
            out,
            language,
            asset=asset,
            names=tuple(only or ())[:_NAMES_MAX],
            statement_s=statement_s,
            data_dir=data_dir,
        )
    except HongbaoError as error:
        print(f"hongbao: {_sentence(error)}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2) from None
    if as_json:
        findings = [{"name": each.name, **dataclasses.asdict(each.said[language])} for each in study.findings]
        show(orjson.dumps({"page": str(page), "findings": findings}).decode())
    else:
        for each in study.findings:
            show(f"{each.name}: {each.said[language].title}")
            for sentence in each.said[language].sentences:
                show(f"    {sentence}")
        show(f"The page is {page}")
    if undrawn:
        print(  # noqa: T201
            f"hongbao: These pictures could not be drawn: {', '.join(undrawn)}. Their tables are written.",
            file=sys.stderr,
        )
        raise typer.Exit(2)


def _sentence(error: HongbaoError) -> str:
    """What is wrong, in the command's words: with its options."""
    from engine.analysis.scope import StudyError

    if isinstance(error, StudyError):
        return f"{str(error).removesuffix('.')}, or {error.option}."
    if isinstance(error, InvalidFieldsError):
        return "; ".join(f"--{problem.field} {problem.message}" for problem in error.problems) + "."
    return str(error)


def _day(option: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if text != day.isoformat() or day == date.min:
        raise OperatorError(f"{option} must be a valid date (YYYY-MM-DD).")
    return day


def _drawn(
    first: date,
    last: date,
    out: Path,
    language: Language,
    *,
    asset: str | None,
    names: tuple[str, ...],
    statement_s: float | None,
    data_dir: Path | None,
) -> "tuple[Path, list[str], Study]":
    """The page, the pictures that could not be drawn, and what it shows.

    What can be refused is refused before the ledger is asked.
    """
    from engine.analysis import report
    from engine.analysis.scope import STATEMENT_S, check_days
    from engine.analysis.studies import check_names
    from engine.running import reach

    check_days(first, last)
    check_names(names)
    report.check_can_draw(language)
    loaded = Settings.load(data_dir=data_dir)
    reach.check_has_books(loaded)
    report.check_folder(out)
    reachable = reach.reachable(loaded) if loaded.database_url is None else nullcontext(loaded)
    with reachable as settings:
        study = run(_studied(settings, first, last, asset=asset, names=names, statement_s=statement_s or STATEMENT_S))
    page, undrawn = report.write(out, study, language)
    return page.resolve(), undrawn, study


async def _studied(
    settings: Settings, first: date, last: date, *, asset: str | None, names: tuple[str, ...], statement_s: float
) -> "Study":
    from engine.analysis.studies import study
    from engine.ledger import schema
    from engine.ledger.database import database_pool

    pool = await database_pool(settings.database_url or "", connections_max=1, timeout_s=statement_s + _ANSWER_S)
    try:
        await schema.check_in(pool)
        return await study(pool, first, last, asset=asset, names=names, statement_s=statement_s, told=_progress())
    finally:
        await pool.close()


def _progress() -> Callable[[int, int], None]:
    """Say on a terminal how far it is; elsewhere say nothing."""
    if not sys.stderr.isatty():
        return lambda _done, _of: None
    return lambda done, of: print(  # noqa: T201
        f"\rasking the ledger: {done} of {of}{chr(10) if done == of else ''}", end="", file=sys.stderr, flush=True
    )
