"""Vendored files are those of their authors, texts are translated, and a wheel has all of it."""

import gettext
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from tests.support import catalogues, vendored
from tests.support.repository import ROOT

PAGES = sorted(file.stem for file in catalogues.FOLDER.glob("*.po"))


@pytest.fixture(scope="module")
def found() -> dict[str, Catalog]:
    """What the sources have. To find it takes as long as a hundred tests."""
    return catalogues.found()


def test_every_vendored_file_is_listed_with_its_hash_and_its_licence() -> None:
    listed = {name: digest for library in vendored.libraries() for name, (_, digest) in library.files.items()}
    there = {file.name for file in vendored.FOLDER.iterdir()} - {"vendor.json"}
    assert there == set(listed)
    assert {name: vendored.hash_of((vendored.FOLDER / name).read_bytes()) for name in there} == listed
    for library in vendored.libraries():
        assert [name for name in library.files if name.endswith(".LICENSE")], library.name
        assert library.version in next(iter(library.files))
        assert library.licence in ("0BSD", "MIT")


def test_no_vendored_file_points_at_what_is_not_there() -> None:
    for file in vendored.FOLDER.glob("*.min.*"):
        assert b"sourceMappingURL" not in file.read_bytes(), file.name
        assert b"http://" not in file.read_bytes().replace(b"http://www.w3.org", b""), file.name


@pytest.mark.long
def test_catalogues_are_what_the_sources_have(found: dict[str, Catalog]) -> None:
    assert {file.stem for file in catalogues.FOLDER.iterdir()} == set(found) == set(PAGES), "run `make texts`"
    for page, catalogue in found.items():
        kept = catalogues.read(catalogues.path_of(page, "po"))
        assert {message.id for message in kept} == {message.id for message in catalogue}, f"{page}: run `make texts`"


@pytest.mark.parametrize("page", PAGES)
def test_every_text_is_translated_and_compiled(page: str) -> None:
    kept = catalogues.read(catalogues.path_of(page, "po"))
    assert list(catalogues.untranslated(kept)) == []
    assert catalogues.path_of(page, "mo").read_bytes() == catalogues.as_mo(kept), "run `make texts`"


@pytest.mark.parametrize("page", PAGES)
def test_a_translation_has_the_values_of_its_text(page: str) -> None:
    with catalogues.path_of(page, "mo").open("rb") as file:
        translations = gettext.GNUTranslations(file)
    for message in catalogues.read(catalogues.path_of(page, "po")):
        if isinstance(message.id, str) and message.id:
            translated = translations.gettext(message.id)
            assert sorted(_names(translated)) == sorted(_names(message.id)), message.id


@pytest.mark.parametrize("page", PAGES)
def test_chinese_has_chinese_punctuation(page: str) -> None:
    kept = catalogues.read(catalogues.path_of(page, "po"))
    strings = [message.string for message in kept]
    told = [" ".join([text] if isinstance(text, str) else text or []) for text in strings]
    assert [text for text in told if re.search(r"[\u4e00-\u9fff][,;:!?()]|[,;:!?()][\u4e00-\u9fff]", text)] == []


def test_a_text_that_is_not_translated_is_found() -> None:
    catalogue = catalogues.read(catalogues.path_of("base", "po"))
    next(message for message in catalogue if message.id == "Overview").string = ""
    assert list(catalogues.untranslated(catalogue)) == ["Overview"]


def _names(text: str) -> list[str]:
    return [part.partition(")")[0] for part in text.split("%(")[1:]]


@pytest.mark.long
def test_a_wheel_has_every_file_of_the_console(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--disable-pip-version-check"]
    built = subprocess.run(
        [*words, "--wheel-dir", str(tmp_path), str(ROOT)], check=False, capture_output=True, encoding="utf-8"
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    folder = catalogues.CONSOLE
    kept = {str(file.relative_to(ROOT)) for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    assert kept - inside == set()
    assert {name for name in kept if name.endswith((".html", ".mo", ".min.js", ".min.css", ".LICENSE"))}
