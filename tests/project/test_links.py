"""Every relative link of a page leads to a file and a heading that are there; every page is on the map."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT

MAP = ROOT / "docs" / "README.md"
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^(?: {4}|\t).*$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*([^()\s]+)\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")
"""A link with a scheme leaves the repository; nothing here asks whether it answers."""


def prose(path: Path) -> str:
    """A page without what is shown as it is."""
    text = _FENCED.sub("", path.read_text(encoding="utf-8"))
    return _CODE.sub("`code`", _SHOWN.sub("", text))


def links(path: Path) -> list[str]:
    """The relative links of a page."""
    text = prose(path)
    return [link for link in (*_LINK.findall(text), *_REFERENCE.findall(text)) if not _ELSEWHERE.match(link)]


def anchors(path: Path) -> set[str]:
    """What a link can name on a page: its headings as GitHub writes them, a repeated one with a number."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*#*$", _FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def broken(path: Path) -> Iterator[str]:
    """Each link of a page that leads nowhere, with the reason."""
    for link in links(path):
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.is_relative_to(ROOT.resolve()):
            yield f"{link}: outside of the repository"
        elif not target.exists():
            yield f"{link}: no such file"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            yield f"{link}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert list(broken(path)) == []


def test_every_page_is_on_the_map() -> None:
    on_map = {(MAP.parent / link.partition("#")[0]).resolve() for link in links(MAP)}
    decisions = ROOT / "docs" / "decisions"
    on_index = {(decisions / link).resolve() for link in links(decisions / "README.md")}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {MAP.resolve()}
    assert sorted(str(path.relative_to(ROOT.resolve())) for path in pages - on_map - on_index) == []


def test_the_map_tells_of_each_page_once() -> None:
    assert [link for link, count in Counter(links(MAP)).items() if count > 1] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 9_000


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A `b` (c)\n\n# A b c\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#a-b-c) [b](there.md#a-b-c-1) [c](gone.md) [d](there.md#gone) [e](../up.md) [f](#gone)\n"
        "`[g](in-code.md)` [h](https://elsewhere.example/x)\n\n    [i](shown.md)\n\n[j]: also-gone.md\n",
        encoding="utf-8",
    )
    assert list(broken(page)) == [
        "gone.md: no such file",
        "there.md#gone: no such heading",
        "../up.md: outside of the repository",
        "#gone: no such heading",
        "also-gone.md: no such file",
    ]


def test_a_link_leads_to_what_is_committed() -> None:
    """A file that git ignores is here and not in a clone."""
    linked = {
        str((path.parent / place).resolve().relative_to(ROOT.resolve()))
        for path in PAGES
        for link in links(path)
        if (place := link.partition("#")[0])
    }
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=ROOT,
        input="\n".join(sorted(linked)),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if ignored.returncode == 128:
        pytest.skip("not a git checkout")
    assert ignored.stdout.splitlines() == []
