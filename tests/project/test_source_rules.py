"""Rules of safety the source is held to: SQL has parameters only, and secrets are not compared byte by byte."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT

SOURCES = sorted(path for package in ("engine", "api", "loadtest") for path in (ROOT / package).rglob("*.py"))
PACKAGES = ("engine", "api", "lua", "loadtest", "benchmarks", "clients", "tests")
SQL_FILES = sorted((ROOT / "engine" / "sql").rglob("*.sql"))
_STATEMENT = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|TRUNCATE|LOCK TABLE|(CREATE|DROP|ALTER|COPY|SET) \w+)\b"
    r"|\b(WHERE|FROM|VALUES|ORDER BY|RETURNING|LIMIT)\b"
)
_ASKS = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}
_ASKING = re.compile(rf"{_STATEMENT.pattern}|{'|'.join(_ASKS)}")
_RUNS = {"run", "Popen", "check_output", "check_call", "call"}
_SECRET = re.compile(r"secret|(?<!lane_)token|signature|password|\bkey_value\b|digest|mac\b", re.IGNORECASE)
"""A lane's token is no secret: it says which data a server holds."""
_WITHOUT_PARAMETERS = ("embedded/postgres.py: CREATE DATABASE ", "auditing/snapshots.py: SET TRANSACTION SNAPSHOT ")
"""Where Postgres takes no parameters: a constant name, and the name that Postgres itself gave a snapshot before."""


_READS = re.compile(r"read_text|write_text|open\(|NamedTemporaryFile|\btext=|universal_newlines")


def trees(sources: Iterable[Path], of_which: re.Pattern[str]) -> Iterator[tuple[Path, ast.Module]]:
    """Those that have what is looked for in any form; the others need not be parsed."""
    for path in sources:
        text = path.read_text(encoding="utf-8")
        if of_which.search(text):
            yield path, ast.parse(text)


def built_text(node: ast.AST) -> str | None:
    """The constant parts of text that is put together at run time; None for what is not that."""
    match node:
        case ast.JoinedStr(values=values):
            return "".join(str(value.value) if isinstance(value, ast.Constant) else "?" for value in values)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Add() | ast.Mod()):
            return text
        case ast.BinOp(op=ast.Add(), right=ast.Constant(value=str(text))):
            return text
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format" | "join" | "replace")):
            return text
    return None


def built_sql(tree: ast.AST) -> list[tuple[int, str]]:
    """Where SQL seems to be put together, and of what."""
    found = [(node.lineno, text) for node in ast.walk(tree) if (text := built_text(node)) is not None]  # type: ignore[attr-defined]
    return [(line, text) for line, text in found if _STATEMENT.search(text)]


def unfixed_queries(tree: ast.AST) -> list[int]:
    """Lines on which a database is asked something that is made on the spot, and is not seen as built SQL."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    asked = [node for node in calls if node.args and node.func.attr in _ASKS]  # type: ignore[attr-defined]
    made = (ast.JoinedStr, ast.BinOp, ast.Call, ast.Await)
    return [node.lineno for node in asked if isinstance(node.args[0], made) and not built_sql(node.args[0])]


def compared_secrets(tree: ast.AST) -> list[int]:
    """Lines on which something named like a secret is compared with == or looked for in a sequence."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or not all(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        names = [name_of(side) for side in (node.left, *node.comparators)]
        if any(_SECRET.search(name) for name in names):
            found.append(node.lineno)
    return found


def read_by_locale(tree: ast.AST) -> list[int]:
    """Lines on which text is read or written in whatever encoding the machine's locale names."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        match name_of(node.func), node.args:
            case "read_text", []:
                is_text = True
            case "write_text", [_]:
                is_text = True
            case "open" | "fdopen" | "NamedTemporaryFile", args:
                modes = [given["mode"]] if "mode" in given else [arg for arg in args if isinstance(arg, ast.Constant)]
                values = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
                is_text = any(isinstance(mode, str) and re.fullmatch(r"[rwax]t?\+?", mode) for mode in values)
            case name, _:
                is_text = name in _RUNS and not given.keys().isdisjoint({"text", "universal_newlines"})
        if is_text and "encoding" not in given:
            found.append(node.lineno)
    return found


def name_of(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=func):
            return name_of(func)
        case ast.Subscript(value=value):
            return name_of(value)
    return ""


@pytest.mark.parametrize(
    "code",
    [
        'f"SELECT {name}"',
        '"SELECT * FROM t WHERE a = %s" % name',
        '"DELETE FROM t WHERE a = " + name',
        'name + " WHERE a = 1"',
        '"UPDATE {} SET a = 1".format(name)',
        'f"... ORDER BY {name}"',
    ],
)
def test_built_sql_is_seen(code: str) -> None:
    assert built_sql(ast.parse(code))


def test_queries_and_comparisons_are_seen() -> None:
    assert unfixed_queries(ast.parse('c.fetch(f"{a}")\nc.execute(a + b)\nc.fetchval(SQL["a"], b)')) == [1, 2]
    assert compared_secrets(ast.parse("a.token == b\nx != secret\na == b\nlen(secret) < 3\nlane_token == b")) == [1, 2]


def test_text_in_the_locales_encoding_is_seen() -> None:
    code = 'p.read_text()\np.write_text(x)\np.open("w")\nopen(p, "r+")\nrun(a, text=True)\nopen(p, mode="a")\n'
    assert read_by_locale(ast.parse(code)) == [1, 2, 3, 4, 5, 6]
    right = 'p.read_text(encoding="utf-8")\np.open("rb")\nopen(p, "wb")\nrun(a, encoding="utf-8")\nlane.open([1])\n'
    assert read_by_locale(ast.parse(right)) == []


def test_text_is_read_and_written_alike_in_every_locale() -> None:
    """A path or a user may have a Chinese name, and LC_ALL=C knows none."""
    everything = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert len(everything) > 200
    found = {
        f"{path.relative_to(ROOT)}:{line}" for path, tree in trees(everything, _READS) for line in read_by_locale(tree)
    }
    assert found == set()


def test_no_sql_is_put_together_from_values() -> None:
    assert len(SOURCES) > 60
    asking = list(trees(SOURCES, _ASKING))
    found = {f"{path.parent.name}/{path.name}: {text}" for path, tree in asking for _, text in built_sql(tree)}
    assert {text for text in found if not text.startswith(_WITHOUT_PARAMETERS)} == set()
    assert {f"{path.name}:{line}" for path, tree in asking for line in unfixed_queries(tree)} == set()


def _without_tables_named_by_numbers(text: str) -> str:
    """The text without what makes a volume's table: its name ends with a number that the function has counted."""
    assert "number SMALLINT;" in text
    number = r"(?:number|\(number \+ 1\)|closing\.volume)(?: \* 100000000000000000)?"
    left, made = re.subn(rf"EXECUTE format\((?:\s*'(?:[^']|'')*')+(?:,\s*{number})+\s*\)", "", text)
    assert made >= 9
    # A word that Postgres before 18 does not know, and the schema in which functions find their tables.
    for fixed in (
        "EXECUTE 'ANALYZE ONLY transfers'",
        "EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', made, current_schema())",
    ):
        assert fixed in left
        left = left.replace(fixed, "")
    return left


def test_sql_files_build_no_sql_either() -> None:
    assert len(SQL_FILES) >= 6
    for path in SQL_FILES:
        text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
        if path.name == "0014_volumes.sql":
            text = _without_tables_named_by_numbers(text)
        assert not re.search(r"\bEXECUTE\b(?!\s+(FUNCTION|PROCEDURE)\b)", text, re.IGNORECASE), path.name
        assert not re.search(r"%[sILd]\b|{\w+}|\bdblink\b|\bquery_to_xml\b", text), path.name


def test_no_secret_is_compared_in_time_that_tells_of_it() -> None:
    """Signatures are PyJWT's business (hmac.compare_digest); nothing else of ours compares one."""
    assert {f"{path.name}:{line}" for path, tree in trees(SOURCES, _SECRET) for line in compared_secrets(tree)} == set()
