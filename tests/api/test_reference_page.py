"""docs/api.md: every operation with its scopes and errors, every code of the code base, and as it is generated."""

import re
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

import engine
from api.dispatch import Operation
from api.documents.error_guide import GUIDES
from api.documents.reference_page import SHARED, page
from api.failures import ALL, codes_by_status, failures_of
from api.problems import answer_to, kind_of
from api.routes import RESOURCES, ROUTES
from engine.errors import HongbaoError
from tests.api.test_api_problems import all_errors
from tests.support.documented import DOCUMENT
from tests.support.repository import ROOT

PAGE = ROOT / "docs" / "api.md"
CODE_ROW = re.compile(r"^\| `(\w+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
CODE = re.compile(r'^    code = "(\w+)"$', re.MULTILINE)


def section(method: str, path: str) -> str:
    """What the page says of one operation."""
    _, _, after = PAGE.read_text(encoding="utf-8").partition(f"\n### `{method} {path}`\n")
    return re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]


def test_the_page_is_what_the_routes_say() -> None:
    renew = "python -m api.documents.reference_page > docs/api.md"
    assert PAGE.read_text(encoding="utf-8") == page(), f"renew it: {renew}"


def test_every_operation_of_the_document_is_on_it_once() -> None:
    documented = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item]
    found = re.findall(r"^### `([A-Z]+) (\S+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(documented)
    assert sorted(row.name for row in chain(*RESOURCES.values())) == sorted(row.name for row in ROUTES)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.name)
def test_an_operation_has_its_scopes_its_fields_and_its_own_errors(row: Operation) -> None:
    text = section(row.method, row.path)
    (scope,) = re.findall(r"^- \*\*Scope\*\*: (.+)$", text, re.MULTILINE)
    assert re.findall(r"`(\w+)`", scope) == list(row.access.scopes if row.access else ())
    assert ("no token" in scope, "names a user" in scope) == (
        row.access is None,
        row.access is not None and row.access.for_user,
    )
    assert ("`Idempotency-Key`" in text) == row.moves_money
    if row.body is not None and "as that of" not in text:
        assert [name for name in row.body.model_fields if f"\n| `{name}` |" not in text] == []
    own = {error.code for error in set(failures_of(row)) - set(SHARED)}
    errors = "".join(re.findall(r"^- \*\*Errors\*\*: (.+)$", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", errors)) == own


def test_every_code_is_in_the_table_with_its_status_and_title_and_what_to_do() -> None:
    rows = {code: tuple(cells) for code, *cells in CODE_ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert rows.keys() == {error.code for error in ALL}
    assert set(GUIDES) == set(ALL)
    for error in ALL:
        status, title, meaning, remedy = rows[error.code]
        assert (status, title) == (str(kind_of(error).status), kind_of(error).title)
        assert meaning.endswith((".", ")."))
        assert remedy.endswith((".", ")."))


def test_every_code_of_the_code_base_is_in_the_table_or_never_reaches_a_client() -> None:
    root = Path(engine.__file__).parents[1]
    found = set()
    for path in chain((root / "engine").rglob("*.py"), (root / "api").rglob("*.py")):
        if codes := CODE.findall(path.read_text(encoding="utf-8")):
            import_module(".".join(path.relative_to(root).with_suffix("").parts))
            found |= set(codes)
    inner = found - {error.code for error in ALL}
    assert {"lane_broken", "operator", "payout_mismatch"} <= inner
    errors = [error for error in all_errors(HongbaoError) if error.code in inner]
    assert {error.code for error in errors} == inner
    for error in errors:
        answer = answer_to(error.__new__(error))
        assert (answer.status, b'"code":"internal"' in answer.body) == (500, True)


def test_what_all_operations_share_is_said_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("| which requests | errors |") : text.index("## Packets and claims")]
    for status, codes in codes_by_status(SHARED).items():
        for code in codes:
            assert re.search(rf"{status} [^;|]*`{code}`", table), code
