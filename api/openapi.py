"""The OpenAPI 3.1 document, made from the route table and the models."""

from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson
from pydantic import BaseModel, TypeAdapter

from api.auth import USER_HEADER
from api.dispatch import IDEMPOTENCY_KEY_MAX, Operation
from api.payloads import USER_ID_FORM, Problem
from engine.lanes import NUMBER_LENGTH

_TEMPLATE = "#/components/schemas/{model}"
_PACKET_NUMBER = f"^10[0-9]{{{NUMBER_LENGTH - 2}}}$"
_PATH_SCHEMAS = {
    "packet_id": {"type": "string", "pattern": _PACKET_NUMBER, "description": "A packet's number"},
    "transfer_id": {"type": "string", "pattern": _PACKET_NUMBER, "description": "A transfer's number"},
    "number": {"type": "string", "pattern": _PACKET_NUMBER, "description": "A packet's or a transfer's number"},
    "dispute_id": {"type": "string", "pattern": "^[1-9][0-9]{0,17}$", "description": "A dispute"},
    "withdrawal_id": {"type": "string", "pattern": "^[1-9][0-9]{0,17}$", "description": "A withdrawal"},
    "user_id": {"type": "string", "pattern": USER_ID_FORM, "description": "A user"},
    "label": {"type": "string", "pattern": USER_ID_FORM, "description": "A group"},
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait before asking again"}}
_RATE = {
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": "The limit that was met, its quota and window"},
    "RateLimit": {"schema": {"type": "string"}, "description": "What is left of it, and seconds until there is more"},
}


@cache
def document(routes: tuple[Operation, ...]) -> bytes:
    """The document as JSON. Nothing in it depends on a setting, so a process makes it once."""
    rows = list(routes)
    references, components = _schemas(rows)
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, references)
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
    """Every status ``row`` can answer with, its success first."""
    failures = set(row.problems) | {500}
    if row.access is not None:
        failures |= {400, 401, 429, 503}
        # X-User-Id from a token without act is forbidden; a malformed one is named.
        failures |= {403, 422}
    if row.body is not None:
        failures |= {400, 408, 413, 415, 422}
    return [row.status, *sorted(failures)]


def _schemas(rows: list[Operation]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """References to the schema of each model by the model, and the schemas by name."""
    models = dict.fromkeys([Problem, *(model for row in rows for model in (row.body, row.answer) if model is not None)])
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        (model, "validation" if _is_body(model) else "serialization", TypeAdapter(model)) for model in models
    ]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=_TEMPLATE)
    return {model: schema for (model, _mode), schema in found.items()}, definitions["$defs"]


def _is_body(model: object) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _operation(row: Operation, references: dict[Any, Any]) -> dict[str, Any]:
    answers = {str(status): _answer(row, status, references) for status in statuses(row)}
    operation: dict[str, Any] = {
        "operationId": row.name,
        "summary": row.summary,
        "parameters": _parameters(row),
        "responses": answers,
    }
    if row.access is not None:
        operation["security"] = [{"bearer": []}]
        operation["description"] = (
            f"Needs a token with the scope {' or '.join(row.access.scopes)}."
            if row.access.scopes
            else "Any valid token."
        )
    if row.body is not None:
        content = {"application/json": {"schema": references[row.body]}}
        operation["requestBody"] = {"required": row.body_required, "content": content}
    return operation


def _answer(row: Operation, status: int, references: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if status != row.status:
        described["content"] = {"application/problem+json": {"schema": references[Problem]}}
        if status in (423, 429, 503):
            described["headers"] = _RETRY_AFTER | _RATE if status == 429 else _RETRY_AFTER
    elif row.answer is None:
        described["content"] = {row.media_type: {"schema": {"type": "string"}}}
    else:
        described["content"] = {"application/json": {"schema": references[row.answer]}}
        if row.has_page:
            described["content"]["text/html"] = {"schema": {"type": "string"}}
    return described


def _parameters(row: Operation) -> list[dict[str, Any]]:
    names = [name for name in _PATH_SCHEMAS if f"{{{name}}}" in row.path]
    parameters = [_parameter(name, "path", _PATH_SCHEMAS[name], required=True) for name in names]
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
            "description": "Whom a token with the scope act speaks for",
        }
        parameters.append(_parameter(USER_HEADER, "header", user, required=False))
    if row.moves_money:
        key = {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX, "pattern": "^[!-~]+$"}
        parameters.append(_parameter("Idempotency-Key", "header", key, required=True))
    return parameters


def _parameter(name: str, place: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}
