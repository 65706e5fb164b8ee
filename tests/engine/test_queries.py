import re
from importlib.resources import files
from pathlib import Path

import pytest

import engine
from engine.queries import load

SQL = files("engine").joinpath("sql")
FILES = sorted(entry.name.removesuffix(".sql") for entry in SQL.iterdir() if entry.name.endswith(".sql"))
SOURCES = [path.read_text(encoding="utf-8") for path in sorted(Path(engine.__file__).parent.rglob("*.py"))]


def test_there_are_files() -> None:
    assert {"packets", "ledger", "lanes"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_block_has_a_name_of_its_own_and_a_statement(file: str) -> None:
    text = SQL.joinpath(f"{file}.sql").read_text(encoding="utf-8")
    names = re.findall(r"^-- (\w+) --$", text, flags=re.MULTILINE)
    queries = load(file)
    assert list(queries) == names, "two blocks with one name"
    for name, query in queries.items():
        assert re.search(r"^(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|TRUNCATE|\(SELECT|LOCK)\b", query, re.M), name
        assert not re.search(r"^-- \w+ --", query, re.M), name


@pytest.mark.parametrize("file", FILES)
def test_every_block_is_used_and_every_name_used_is_a_block(file: str) -> None:
    queries = load(file)
    users = [source for source in SOURCES if f'load("{file}")' in source]
    assert users, f"nobody loads {file}.sql"
    everywhere = "\n".join(SOURCES)
    unused = {name for name in queries if f'["{name}"]' not in everywhere}
    assert not unused


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load("nothing")
