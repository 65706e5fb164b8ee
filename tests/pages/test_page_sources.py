"""What the pages are built from: texts in both languages, scripts that every web-view runs, and few bytes."""

import re

import orjson
import pytest

from api.pages.building import LANGUAGES, built
from engine.settings import Settings
from tests.support.repository import ROOT

SOURCES = ROOT / "api" / "pages" / "sources"


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://x/", "https://x/y", "https://x?", "https://u@x", "x", "//x"]
)
def test_a_public_address_is_a_scheme_and_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Settings(public_url=url)


def test_every_text_is_there_in_both_languages_and_is_used() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in SOURCES.iterdir() if path.suffix in (".js", ".html"))
    for part in ("shared", "packet", "campaign"):
        words = orjson.loads((SOURCES / f"words.{part}.json").read_bytes())
        for key, texts in words.items():
            assert len(texts) == len(LANGUAGES), key
            assert all(texts), key
            names = [sorted(re.findall(r"{(\w+)}", text)) for text in texts]
            assert names[0] == names[1], key
            face, _, rest = key.partition(".")
            is_of_face = rest in ("title", "text", "text_sign_in") and re.search(rf"\b{face}\b", scripts)
            is_built = re.search(rf'"{face}\." \+', scripts)
            assert f'"{key}"' in scripts or is_of_face or is_built or f"{key}:" in scripts or f'"{key}' in scripts, key


def test_a_page_is_small_and_needs_no_new_browser() -> None:
    for kind in ("packet", "campaign"):
        for language in LANGUAGES:
            page = built(kind, language, "https://shop.example.org/wechat/sign-in?app=hongbao")
            assert len(page.gzipped) <= 14_000
    newer = re.compile(
        r"\?\.|\?\?|\.replaceAll\(|\.at\(|\bimport\b|\bawait import|#\w+\s*=|\ballSettled\b|\bBigInt\b"
        r"|replaceChildren\(|innerHTML"
    )
    for path in sorted(SOURCES.glob("*.js")):
        text = "\n".join(
            line for line in path.read_text(encoding="utf-8").splitlines() if not line.strip().startswith("//")
        )
        assert newer.search(text) is None, path.name
        assert len(text.splitlines()) < 400
