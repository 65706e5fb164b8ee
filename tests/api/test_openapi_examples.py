"""Each body and each answer of the OpenAPI document has an example, which is as its schema says."""

from collections.abc import Iterator

import jsonschema_rs
import orjson
import pytest

from api.documents.openapi import document
from api.routes import ROUTES
from tests.support.front import Json

DOCUMENT: Json = orjson.loads(document(ROUTES))
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROWS = {row.name: row for row in ROUTES}


def contents() -> Iterator[tuple[str, Json]]:
    """Whatever JSON is sent or answered with success, by its operation."""
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            parts = {"body": operation.get("requestBody", {})}
            parts |= {status: answer for status, answer in operation["responses"].items() if status < "3"}
            for name, part in parts.items():
                if "application/json" in part.get("content", {}):
                    yield f"{operation['operationId']} {name}", part["content"]["application/json"]


CONTENTS = dict(contents())


@pytest.mark.parametrize("name", CONTENTS)
def test_an_example_is_as_its_schema_says(name: str) -> None:
    content = CONTENTS[name]
    schema = {**content["schema"], "components": DOCUMENT["components"], "$schema": DIALECT}
    jsonschema_rs.validator_for(schema).validate(content["example"])


@pytest.mark.parametrize("name", [name for name in CONTENTS if name.endswith(" body")])
def test_an_example_of_a_body_is_one_that_the_server_reads(name: str) -> None:
    body = ROWS[name.removesuffix(" body")].body
    assert body is not None
    body.model_validate(CONTENTS[name]["example"])


def test_every_operation_says_how_it_is_repeated_and_where_it_belongs() -> None:
    for item in DOCUMENT["paths"].values():
        for operation in item.values():
            row = ROWS[operation["operationId"]]
            assert operation["x-repeat"] in ("always", "with-key", "when-undone")
            assert (operation["x-repeat"] == "with-key") == row.moves_money
            assert operation["tags"] == [row.endpoint.__module__.rpartition(".")[2]]
