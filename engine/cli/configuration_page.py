"""docs/configuration.md, generated from `engine.settings`.

    python -m engine.cli.configuration_page > docs/configuration.md

A topic is the comment line above its fields. A setting's description is the docstring below it. A setting without both
raises an error, so none is missing on the page.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from engine.observability.terminal import print_anything
from engine.settings import Settings

_TOPIC = re.compile(r"    # (.+)")
_HEAD = """\
# Configuration

For operators. Each setting is an environment variable, read once when a process starts. A value that cannot be used is
reported in one sentence that names the variable. All processes of an installation need the same settings.

A name ends in its unit: `_s` is seconds, `_ms` milliseconds, `_fen` hundredths of the currency, `_kib` 1,024 bytes.
`_max` and `_min` are bounds that the setting itself sets; the column "values" shows what the setting may be.
[bounds.md](bounds.md) explains what happens beyond each bound, [rules.md](rules.md) and [risk.md](risk.md) explain the
product's rules, and [access.md](access.md) explains tokens and secrets.

This page is generated from `engine/settings.py`; a test compares the two."""


def page(record: type[BaseSettings] = Settings) -> str:
    """The whole page. Raises ValueError naming a setting that has no topic or no docstring."""
    lines = [_HEAD]
    topic = ""
    for comment, name, text in _fields(record):
        if not comment or not text:
            raise ValueError(f"{name} needs a comment above its group and a docstring below it.")
        if comment != topic:
            topic = comment
            lines += _heading(topic)
        lines.append(_row(name, record.model_fields[name], text))
    return "\n".join(lines) + "\n"


def _fields(record: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """Each field's topic, name and docstring, in the order of the class. A missing one is empty."""
    lines = inspect.getsource(record).splitlines()
    (parsed,) = ast.parse("\n".join(lines)).body
    assert isinstance(parsed, ast.ClassDef)  # noqa: S101  # the source of a class is a class
    for field, below in pairwise([*parsed.body, ast.Pass()]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            above = [found[1] for line in lines[: field.lineno] if (found := _TOPIC.fullmatch(line))]
            is_docstring = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            text = ast.literal_eval(below.value) if isinstance(below, ast.Expr) and is_docstring else ""
            yield above[-1] if above else "", field.target.id, text


def _heading(topic: str) -> list[str]:
    """A topic's title, the rest of its comment, and the head of its table."""
    title, _, rest = topic.rstrip(".").partition(". ")
    said = [f"{rest}.", ""] if rest else []
    return ["", f"## {title}", "", *said, "| variable | default | values | what it does |", "| --- | --- | --- | --- |"]


def _row(name: str, field: FieldInfo, text: str) -> str:
    cells = (f"`HONGBAO_{name.upper()}`", _default(field), _values(field), text)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    """A default as it would be written in the environment."""
    if field.default_factory is not None:
        return "the user's data folder"
    match field.default:
        case None | "":
            return "–"
        case Enum() as choice:
            return f"`{choice.value}`"
        case bool() as is_on:
            return f"`{str(is_on).lower()}`"
        case float() as number:
            return f"`{number:g}`"
        case value:
            return f"`{value}`"


def _values(field: FieldInfo) -> str:
    """A setting's possible values: the choices, the bounds of a number, or the kind of text."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    kinds = get_args(field.annotation) or (field.annotation,)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return ", ".join(f"`{choice.value}`" for choice in kind)
        for known, called in ((bool, "`true`, `false`"), (Path, "a path"), (SecretStr, "a secret"), (str, "text")):
            if kind is known:
                return called
    return _range(field)


def _range(field: FieldInfo) -> str:
    bounds = {
        name: getattr(bound, name) for bound in field.metadata for name in ("ge", "gt", "le") if hasattr(bound, name)
    }
    most = bounds.get("le")
    if "gt" in bounds:
        return f"above {bounds['gt']}" + ("" if most is None else f", at most {most}")
    return f"at least {bounds['ge']}" if most is None else f"{bounds['ge']} to {most}"


if __name__ == "__main__":
    print_anything()
    print(page(), end="")  # noqa: T201
