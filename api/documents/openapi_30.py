"""The OpenAPI document in the form of version 3.0, for generators that do not read 3.1.

python -m api.documents.openapi_30 > openapi-3.0.json
"""

import sys
from typing import Any

import orjson

from api.documents.openapi import document
from api.routes import ROUTES

Json = dict[str, Any]


def document_30() -> Json:
    """The document. What 3.0 cannot say is said as it can: null as ``nullable``, a constant as the only word."""
    made: Json = _older(orjson.loads(document(ROUTES)))
    return made | {"openapi": "3.0.3"}


def _older(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, list):
        return [_older(each) for each in value]
    if not isinstance(value, dict):
        return value
    # An example is shown as it is, and the fields of a record may have any name.
    made = {name: each if name in ("example", "examples", "default") else _older(each) for name, each in value.items()}
    if isinstance(made.get("anyOf"), list):
        made = _without_null(made)
    if "const" in made and "type" in made:
        made["enum"] = [made.pop("const")]
    if isinstance(made.get("examples"), list):
        made["example"] = made.pop("examples")[0]
    return made


def _without_null(schema: Json) -> Json:
    """A choice without null, which may be null."""
    options = [each for each in schema["anyOf"] if each.get("type") != "null"]
    if len(options) == len(schema["anyOf"]):
        return schema
    rest = {name: each for name, each in schema.items() if name != "anyOf"}
    if len(options) > 1:
        return {"anyOf": options, "nullable": True, **rest}
    (only,) = options
    # Beside a reference 3.0 reads nothing.
    return {"allOf": [only], "nullable": True, **rest} if "$ref" in only else {**only, "nullable": True, **rest}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(document_30(), option=orjson.OPT_INDENT_2) + b"\n")
