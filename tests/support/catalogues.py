"""The console's catalogues: found in its sources, kept as .po, compiled as .mo. ``python -m tests.support.catalogues``.

A page's texts are in the catalogue with the name of its module: those of ``pages/<page>.py``, ``templates/<page>.html``
and ``templates/<page>_*.html``. All others are in ``base``, which is only asked after the page's own.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from tests.support.repository import ROOT

CONSOLE = ROOT / "api" / "console"
LANGUAGE = "zh"
"""Texts are written in English, so only Chinese has catalogues."""
FOLDER = CONSOLE / "locale" / LANGUAGE
BASE = "base"
_KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "marked": None}
_TEMPLATE_OPTIONS = {"trimmed": "false", "newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}


def main() -> None:
    """Bring every .po to what the sources have (keeping translations), and compile it."""
    catalogues = found()
    for page, catalogue in sorted(catalogues.items()):
        kept = path_of(page, "po")
        if kept.exists():
            before = read(kept)
            for message in list(catalogue):
                old = before.get(message.id)
                if message.id and old is not None and old.string:
                    message.string = old.string
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(as_po(catalogue))
        path_of(page, "mo").write_bytes(as_mo(catalogue))
        missing = [message.id for message in catalogue if message.id and not translated(message)]
        sys.stdout.write(f"{page}: {len(catalogue)} texts, {len(missing)} not translated\n")
    for file in FOLDER.iterdir():
        if file.stem not in catalogues:
            file.unlink()


def found() -> dict[str, Catalog]:
    """The texts of the sources by page, not translated."""
    catalogues: dict[str, Catalog] = {}
    for file in sorted((*CONSOLE.rglob("*.py"), *(CONSOLE / "templates").glob("*.html"))):
        catalogue = catalogues.setdefault(page_of(file), _new())
        method = "python" if file.suffix == ".py" else "jinja2.ext:babel_extract"
        options = {} if file.suffix == ".py" else _TEMPLATE_OPTIONS
        for _, text, _, context in extract_from_file(method, file, _KEYWORDS, options=options):
            catalogue.add(text, locations=[], context=context)
    for page, catalogue in catalogues.items():
        for message in list(catalogue):
            if page != BASE and message.id and message.id in catalogues[BASE]:
                catalogue.delete(message.id)
    return {page: catalogue for page, catalogue in catalogues.items() if len(catalogue)}


def pages() -> list[str]:
    """The modules of pages, the longest name first."""
    names = [file.stem for file in (CONSOLE / "pages").glob("*.py") if file.stem != "__init__"]
    return sorted(names, key=lambda name: (-len(name), name))


def page_of(file: Path) -> str:
    """The catalogue of a file's texts."""
    if file.parent.name not in ("pages", "templates"):
        return BASE
    return next((page for page in pages() if file.stem == page or file.stem.startswith(f"{page}_")), BASE)


def path_of(page: str, kind: str) -> Path:
    """Where a catalogue is kept."""
    return FOLDER / f"{page}.{kind}"


def read(path: Path) -> Catalog:
    """A .po file."""
    catalogue = _new()
    with path.open("rb") as file:
        for message in read_po(file, locale=LANGUAGE):
            if message.id:
                catalogue[message.id] = message
    return catalogue


def as_po(catalogue: Catalog) -> bytes:
    """The catalogue as text. Without dates and places, so that it changes only if a text does."""
    body = io.BytesIO()
    write_po(body, catalogue, width=120, no_location=True, omit_header=True, sort_output=True)
    return body.getvalue()


def as_mo(catalogue: Catalog) -> bytes:
    """The catalogue as programs read it."""
    body = io.BytesIO()
    write_mo(body, catalogue)
    return body.getvalue()


def translated(message: object) -> bool:
    """Whether a message has all its forms in the other language."""
    string = getattr(message, "string", "")
    return bool(string) and (isinstance(string, str) or all(string))


def untranslated(catalogue: Catalog) -> Iterator[str]:
    """The texts that lack a translation or have a doubtful one."""
    for message in catalogue:
        if message.id and (message.fuzzy or not translated(message)):
            yield str(message.id)


class _Plain(Catalog):
    """A catalogue whose headers never change: no dates, no versions."""

    @property  # type: ignore[misc]  # it is only read here
    def mime_headers(self) -> list[tuple[str, str]]:
        return [("Content-Type", "text/plain; charset=utf-8"), ("Plural-Forms", "nplurals=1; plural=0;")]


def _new() -> Catalog:
    return _Plain(locale=LANGUAGE, fuzzy=False)


if __name__ == "__main__":
    main()
