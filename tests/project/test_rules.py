"""docs/rules.md names settings, endpoints and tests: they are there, and the defaults are those it says."""

import re

import pytest

from api.routes import ROUTES
from engine.settings import Settings
from tests.support.repository import ROOT

LINES = [
    line
    for line in (ROOT / "docs" / "rules.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| rule", "| play", "| ---"))
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip()[:40])
def test_what_a_rule_names_is_there(line: str) -> None:
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert len(cells) == 4, line
    _, settings, endpoint, tests = cells
    for name, default in re.findall(r"`HONGBAO_(\w+)`(?: ([^ |`]+?)(?=, `|$| \())?", settings):
        field = Settings.model_fields[name.lower()]
        assert not default or str(field.get_default(call_default_factory=True)) == default, (name, default)
    for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`?]+)[^`]*`", endpoint):
        assert any((row.method, row.path) == (method, path) for row in ROUTES), (method, path)
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", tests)
    assert named, "no test walks it"
    for file, function in named:
        (path,) = (ROOT / "tests").rglob(file)
        text = path.read_text(encoding="utf-8")
        assert not function or re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), (file, function)


def test_every_limit_of_the_product_is_a_rule_somewhere() -> None:
    """The settings from the product's limits on; each stands in the table, or it is a rule nobody can look up."""
    text = (ROOT / "engine" / "settings.py").read_text(encoding="utf-8")
    product = text[text.index("# The product's limits.") : text.index("@field_validator")]
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    names = re.findall(r"^    (\w+): ", product, re.MULTILINE)
    assert len(names) > 30
    missing = [name for name in names if f"`HONGBAO_{name.upper()}`" not in page]
    assert missing == []
