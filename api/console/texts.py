"""The console's texts. They are written in English in the pages; ``locale/`` has a catalogue per language and page.

A page's own catalogue comes first, then ``base``, then English. So pages can be translated apart from each other.
"""

import gettext
import io
from collections.abc import Iterable
from importlib.resources import files

DEFAULT, LANGUAGES = "zh", {"zh": "中文", "en": "English"}
HTML_LANGUAGES = {"zh": "zh-CN", "en": "en"}
BASE = "base"
Translations = gettext.NullTranslations


def marked(text: str) -> str:
    """Marks a text that is translated where it is shown (``visit.gettext``). It returns it as it is."""
    return text


class Texts:
    """All catalogues, read once."""

    def __init__(self) -> None:
        self._catalogues: dict[tuple[str, str], Translations] = {}
        for language in LANGUAGES:
            base = _read(language, BASE)
            for page in {BASE, *_pages(language)}:
                own = base if page == BASE else _read(language, page)
                if own is not base:
                    own.add_fallback(base)
                self._catalogues[language, page] = own

    def of(self, language: str, page: str = BASE) -> Translations:
        """The texts of a page (the name of its module) in a language."""
        return self._catalogues.get((language, page)) or self._catalogues[language, BASE]

    def anywhere(self, language: str, text: str) -> str:
        """A text that any page has marked, such as the name of an action."""
        for (other, _), catalogue in self._catalogues.items():
            if other == language and (translated := catalogue.gettext(text)) != text:
                return translated
        return text


def language_of(chosen: Iterable[str | None], accepted: str) -> str:
    """The first language of some that we have, else the first of Accept-Language that we have, else Chinese."""
    for language in chosen:
        if language in LANGUAGES:
            return language
    for part in accepted.lower().split(",")[:10]:
        language = part.partition(";")[0].strip()[:2]
        if language in LANGUAGES:
            return language
    return DEFAULT


def _pages(language: str) -> list[str]:
    folder = files("api.console").joinpath(f"locale/{language}")
    return (
        [file.name.removesuffix(".mo") for file in folder.iterdir() if file.name.endswith(".mo")]
        if folder.is_dir()
        else []
    )


def _read(language: str, page: str) -> Translations:
    file = files("api.console").joinpath(f"locale/{language}/{page}.mo")
    return gettext.GNUTranslations(io.BytesIO(file.read_bytes())) if file.is_file() else gettext.NullTranslations()
