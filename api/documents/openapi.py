"""Makes the OpenAPI 3.1 document from the route table and the models."""

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter

from api.auth import USER_HEADER
from api.dispatch import IDEMPOTENCY_KEY_MAX, Operation
from api.documents.examples import example_of
from api.failures import ALL, Errors, codes_by_status, failures_of
from api.paths import PATH_NAMES, PathName, names_in
from api.payloads import USER_ID_FORM, Problem
from api.problems import KINDS
from api.resources.packets import BATCH_REFUSALS
from engine.errors import DayNotClosedError, HongbaoError, UnavailableError

_TEMPLATE = "#/components/schemas/{model}"
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before asking again"}}
_RATE = {
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": "The limit reached, its quota and window"},
    "RateLimit": {
        "schema": {"type": "string"},
        "description": "What is left of it, and the seconds until there is more",
    },
}


@cache
def document(routes: tuple[Operation, ...]) -> bytes:
    """The document as JSON. It depends on no setting, so a process makes it once."""
    rows = list(routes)
    references, components = _schemas(rows)
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, references, components)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Hongbao",
                "version": version("hongbao"),
                "description": "Red packets. Money is in fen, times in milliseconds since the epoch.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            },
        }
    )


def statuses(row: Operation) -> list[int]:
    """Every status that ``row`` can answer with, the success first."""
    return [row.status, *codes_by_status(failures_of(row))]


def _schemas(rows: list[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Each model's reference to its schema, and the schemas by name."""
    models = dict.fromkeys([Problem, *(model for row in rows for model in (row.body, row.answer) if model is not None)])
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        (model, "validation" if _is_body(model) else "serialization", TypeAdapter(model)) for model in models
    ]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=_TEMPLATE)
    components: dict[str, Any] = definitions["$defs"]
    _name_codes(components["Problem"], ALL)
    if "ClaimRefusal" in components:
        _name_codes(components["ClaimRefusal"], _refusals())
    return {model: schema for (model, _mode), schema in found.items()}, components


def _refusals() -> Errors:
    """The errors that can refuse one claim of a batch."""
    return tuple(error for error in KINDS if error in BATCH_REFUSALS or issubclass(error, UnavailableError))


def _name_codes(schema: dict[str, Any], found: Iterable[type[HongbaoError]]) -> None:
    """List the codes of some errors in the field ``code``."""
    schema["properties"]["code"]["enum"] = sorted(error.code for error in found)


def _is_body(model: object) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def repeat_of(row: Operation) -> str:
    """What a client may do after an answer was lost.

    ``always``: send the same request again. ``with-key``: the same, with the same Idempotency-Key. ``when-undone``:
    only what surely was not carried out may be sent again.
    """
    if row.moves_money:
        return "with-key"
    return "always" if row.may_be_repeated else "when-undone"


def _operation(row: Operation, references: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    answers = {str(row.status): _success(row, references, components)}
    for status, codes in codes_by_status(failures_of(row)).items():
        answers[str(status)] = _failure(status, codes, references[Problem])
    operation: dict[str, Any] = {
        "operationId": row.name,
        "tags": [row.endpoint.__module__.rpartition(".")[2]],
        "summary": row.summary,
        "parameters": _parameters(row),
        "responses": answers,
        "x-repeat": repeat_of(row),
    }
    if row.access is not None:
        operation["security"] = [{"bearer": []}]
        operation["description"] = (
            f"Needs a token with the scope {' or '.join(row.access.scopes)}."
            if row.access.scopes
            else "Any valid token."
        )
    if row.body is not None:
        schema = references[row.body]
        example = example_of(schema, components, is_body=True)
        content = {"application/json": {"schema": schema, "example": example}}
        operation["requestBody"] = {"required": row.body_required, "content": content}
    return operation


def _success(row: Operation, references: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(row.status).phrase}
    if row.answer is None:
        described["content"] = {row.media_type: {"schema": {"type": "string"}}}
    else:
        schema = references[row.answer]
        example = example_of(schema, components)
        described["content"] = {"application/json": {"schema": schema, "example": example}}
        if row.has_page:
            described["content"]["text/html"] = {"schema": {"type": "string"}}
    return described


def _failure(status: int, codes: list[str], problem: dict[str, Any]) -> dict[str, Any]:
    # The codes are no schema of their own: generators would make a class for each operation and status.
    described: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
        "content": {"application/problem+json": {"schema": problem}},
        "x-codes": codes,
    }
    if status in (423, 429, 503) or DayNotClosedError.code in codes:
        described["headers"] = _RETRY_AFTER | _RATE if status == 429 else _RETRY_AFTER
    return described


def _parameters(row: Operation) -> list[dict[str, Any]]:
    in_path = {name: _path_schema(PATH_NAMES[name]) for name in names_in(row.path)}
    parameters = [_parameter(name, "path", schema, required=True) for name, schema in in_path.items()]
    if row.query is not None:
        schema = row.query.model_json_schema()
        required = schema.get("required", [])
        parameters += [
            _parameter(name, "query", field, required=name in required) for name, field in schema["properties"].items()
        ]
    if row.access is not None:
        user = {
            "type": "string",
            "pattern": USER_ID_FORM,
            "description": "The user that a token with the scope act acts for",
        }
        parameters.append(_parameter(USER_HEADER, "header", user, required=False))
    if row.moves_money:
        key = {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX, "pattern": "^[!-~]+$"}
        parameters.append(_parameter("Idempotency-Key", "header", key, required=True))
    return parameters


def _path_schema(kind: PathName) -> dict[str, Any]:
    return {"type": "string", "pattern": kind.form, "description": kind.description}


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}
