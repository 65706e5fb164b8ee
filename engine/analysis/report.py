"""Writes a study into a folder: a PNG and a CSV for each finding, and a page with all of them.

The page needs nothing but itself: its pictures are in it, it runs no script, and its policy allows it to load nothing.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jinja2
import structlog

from engine.analysis.finding import Finding, Language
from engine.analysis.font_lists import kept_somewhere
from engine.analysis.scope import Scope
from engine.analysis.studies import Study
from engine.errors import OperatorError
from engine.spreadsheets import kept

PAGE = "index.html"
_LOG = structlog.get_logger()
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finding with its picture. None: there was nothing to draw, or it could not be drawn."""

    finding: Finding
    png: bytes | None

    @property
    def failed(self) -> bool:
        """Whether there was something to draw, and it could not be drawn."""
        return self.png is None and not self.finding.is_empty


def check_can_draw(language: Language) -> None:
    """Raise OperatorError, which says what to install, if pictures cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise OperatorError("Pictures need matplotlib: install it with pip install 'hongbao[analysis]'.")
    with kept_somewhere():
        from engine.analysis import pictures  # noqa: PLC0415  # matplotlib is slow to import, and not always there

    pictures.check(language)


def check_folder(folder: Path) -> None:
    """Make the folder. Raises OperatorError if it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".hongbao-analysis"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OperatorError(f"The pictures cannot be written to {folder}: {error.strerror}.") from None


def draw(finding: Finding, language: Language) -> Drawn:
    """Draw a finding. Raises OperatorError as ``check_can_draw`` does."""
    if finding.is_empty:
        return Drawn(finding, None)
    with kept_somewhere():
        from engine.analysis import pictures  # noqa: PLC0415  # as above

    return Drawn(finding, pictures.draw(finding, language))


def csv_of(finding: Finding) -> bytes:
    """The finding's table for spreadsheets: UTF-8 with a byte order mark, and texts stay as they are."""
    out = io.StringIO(newline="")
    file = csv.writer(out)
    columns, rows = finding.table
    file.writerow(columns)
    file.writerows([kept(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def write(folder: Path, study: Study, language: Language) -> tuple[Path, list[str]]:
    """Draw everything and write it. Returns the page, and the names of the pictures that could not be drawn.

    Raises OperatorError if nothing can be drawn or written.
    """
    drawn = [_drawn_alone(finding, language) for finding in study.findings]
    try:
        for each in drawn:
            _put(folder / f"{each.finding.name}.png", each.png)
            _put(folder / f"{each.finding.name}.csv", None if each.finding.is_empty else csv_of(each.finding))
        page = folder / PAGE
        page.write_text(page_of(study.scope, drawn, language), encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"The pictures cannot be written to {folder}: {error.strerror}.") from None
    return page, [each.finding.name for each in drawn if each.failed]


def _drawn_alone(finding: Finding, language: Language) -> Drawn:
    """As ``draw``, but what fails in one picture is logged, so that the others are drawn."""
    try:
        return draw(finding, language)
    except OperatorError:
        raise
    except Exception:
        _LOG.exception("a picture could not be drawn", name=finding.name)
        return Drawn(finding, None)


def _put(file: Path, content: bytes | None) -> None:
    """Write the file. If there is nothing to write, remove it: that of other days would be taken for these days'."""
    if content is None:
        file.unlink(missing_ok=True)
    else:
        file.write_bytes(content)


def page_of(scope: Scope, drawn: list[Drawn], language: Language) -> str:
    """The page's HTML."""
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    figures: list[Mapping[str, object]] = [
        {
            "name": each.finding.name,
            "title": each.finding.said[language].title,
            "sentences": each.finding.said[language].sentences,
            "picture": None if each.png is None else base64.b64encode(each.png).decode(),
            "failed": each.failed,
        }
        for each in drawn
    ]
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    return _template().render(language=language.value, scope=scope, figures=figures, style=style, policy=policy)


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template("report.html")
