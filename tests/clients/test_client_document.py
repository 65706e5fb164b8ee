"""The Python client and the OpenAPI document say the same: operations, fields, codes, examples."""

import inspect
import re
import types
import typing
from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson
import pydantic
import pytest
from hongbao_client import AsyncClient, Client, errors, models
from hongbao_client.operations import Call, Repeat
from hongbao_client.records import Answer, Body, Words

from api.documents.openapi import document
from api.routes import ROUTES
from clients.generator.__main__ import PACKAGE, files
from clients.generator.names import METHODS, NOUNS
from clients.generator.schemas import operations
from tests.support.front import Json
from tests.support.repository import ROOT

DOCUMENT: Json = orjson.loads(document(ROUTES))
SCHEMAS: Json = DOCUMENT["components"]["schemas"]
OPERATIONS: dict[str, tuple[str, str, Json]] = {
    operation["operationId"]: (path, method, operation) for path, method, operation in operations(DOCUMENT)
}
ROWS = {row.name: row for row in ROUTES}
RECORDS = {
    name: found
    for name, found in vars(models).items()
    if isinstance(found, type) and issubclass(found, Answer | Body) and found not in (Answer, Body)
}


class Recorder:
    """Keeps the calls that methods make, and answers nothing."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    def ask(self, call: Call[Any]) -> Any:  # noqa: ANN401  # nothing
        self.calls.append(call)


def method_of(operation_id: str, client: type = Client) -> Any:  # noqa: ANN401  # any method
    noun, _, name = METHODS[operation_id].partition(".")
    found = inspect.signature(client.__mro__[1].__init__)  # type: ignore[misc]
    assert "ask" in found.parameters
    return getattr(getattr(made(client), noun), name)


def made(client: type) -> Any:  # noqa: ANN401  # a client without connections
    recorder = Recorder()
    nouns = client.__mro__[1](recorder.ask)
    nouns.recorder = recorder
    return nouns


def test_every_operation_has_a_method_and_no_operation_is_gone() -> None:
    """Clients that others have generated go by these ids: one that changes breaks them."""
    assert sorted(METHODS) == sorted(OPERATIONS), "see clients/generator/names.py, then run make client"
    assert len(set(METHODS.values())) == len(METHODS)
    assert {name.partition(".")[0] for name in METHODS.values()} == set(NOUNS)


@pytest.mark.long
def test_the_generated_files_are_those_of_this_document() -> None:
    stale = [name for name, text in files().items() if (PACKAGE / name).read_text(encoding="utf-8") != text]
    assert stale == [], "run make client"
    assert {f"nouns/{path.name}" for path in (PACKAGE / "nouns").glob("*.py")} <= set(files())


@pytest.mark.parametrize("operation_id", METHODS)
def test_both_clients_have_the_method_with_the_same_parameters(operation_id: str) -> None:
    method, awaited = method_of(operation_id), method_of(operation_id, AsyncClient)
    assert inspect.signature(method) == inspect.signature(awaited)
    assert inspect.iscoroutinefunction(awaited)
    assert not inspect.iscoroutinefunction(method)
    path, _, operation = OPERATIONS[operation_id]
    parameters = set(inspect.signature(method).parameters)
    named = set(re.findall(r"{(\w+)}", path))
    named |= {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        named |= set(SCHEMAS[content["schema"]["$ref"].rpartition("/")[2]].get("properties", {}))
    if operation["x-repeat"] == "with-key":
        named.add("idempotency_key")
    left_out = {"format"} if operation_id == "get_receipt" else set()
    assert {name.rstrip("_") for name in parameters} == named - left_out


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_has_the_fields_of_its_schema(name: str) -> None:
    record, schema = RECORDS[name], SCHEMAS[name]
    assert list(record.model_fields) == list(schema.get("properties", {}))
    for field, info in record.model_fields.items():
        described = schema["properties"][field]
        if info.is_required():
            assert field in schema["required"]
        assert kinds_of(info.annotation) == kinds_in(described), field


def test_every_record_of_an_answer_is_there() -> None:
    answered = {name for _, _, each in OPERATIONS.values() for name in references(each["responses"])}
    assert answered <= RECORDS.keys()
    words = {
        name: found for name, found in vars(models).items() if isinstance(found, type) and issubclass(found, Words)
    }
    for name, schema in SCHEMAS.items():
        if "enum" in schema:
            assert [str(word) for word in words[name]] == schema["enum"]


def kinds_of(annotation: Any) -> set[str]:  # noqa: ANN401  # a type or what stands for some
    """What JSON a field may hold."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return {kind for each in typing.get_args(annotation) for kind in kinds_of(each)}
    if typing.get_origin(annotation) is typing.Literal:
        return {"string"}
    plain = {str: "string", int: "integer", bool: "boolean", types.NoneType: "null", date: "string"}
    if annotation in plain:
        return {plain[annotation]}
    if isinstance(annotation, type) and issubclass(annotation, Words):
        return {"string"}
    return (
        {"object"}
        if isinstance(annotation, type) and issubclass(annotation, Answer | Body)
        else {container(annotation)}
    )


def container(annotation: Any) -> str:  # noqa: ANN401
    return "object" if typing.get_origin(annotation) is dict else "array"


def kinds_in(schema: Json) -> set[str]:
    if "$ref" in schema:
        return kinds_in(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return {kind for each in schema["anyOf"] for kind in kinds_in(each)}
    return {schema["type"]}


def references(value: object) -> Iterator[str]:
    for node in _nodes(value):
        if "$ref" in node:
            yield node["$ref"].rpartition("/")[2]


def _nodes(value: object) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each)


def test_the_codes_are_those_of_the_document() -> None:
    grouped = [code for codes in errors.CLASSES.values() for code in codes]
    assert sorted(grouped) == sorted(SCHEMAS["Problem"]["properties"]["code"]["enum"])
    assert set(grouped) >= errors.REPEATED | errors.REPEATED_IF_SAFE
    assert set(errors.CLASSES) == set(errors.AnsweredError.__subclasses__())


@pytest.mark.parametrize("operation_id", METHODS)
def test_the_example_of_an_answer_can_be_read(operation_id: str) -> None:
    _, _, operation = OPERATIONS[operation_id]
    content = next(answer["content"] for status, answer in operation["responses"].items() if status < "3")
    if "application/json" not in content:
        return
    example = content["application/json"]["example"]
    answer = called(operation_id).operation.read(orjson.dumps(example))
    if isinstance(answer, Answer):
        assert answer.model_dump(mode="json", exclude_unset=True) == example
    else:
        assert answer == example == {}


@pytest.mark.parametrize("operation_id", METHODS)
def test_a_call_is_a_request_that_the_server_knows(operation_id: str) -> None:
    """The example of the body, given as the method's fields, becomes a body that the server's own model accepts."""
    path, method, _ = OPERATIONS[operation_id]
    call, row = called(operation_id), ROWS[operation_id]
    assert (call.operation.method, call.operation.path) == (method, path)
    assert re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), call.target)
    assert (call.key is not None) == row.moves_money == (call.operation.repeat is Repeat.WITH_KEY)
    assert (call.operation.repeat is Repeat.WHEN_UNDONE) == (not row.may_be_repeated)
    if row.body is not None:
        sent = orjson.loads(call.content or b"{}")
        row.body.model_validate(sent)
        content = OPERATIONS[operation_id][2]["requestBody"]["content"]["application/json"]
        assert sent == content["example"]
    else:
        assert call.content is None


def called(operation_id: str) -> Call[Any]:
    """The method's call with the example of its body, and something in each other place."""
    client = made(Client)
    noun, _, name = METHODS[operation_id].partition(".")
    method = getattr(getattr(client, noun), name)
    _, _, operation = OPERATIONS[operation_id]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    fields = {} if content is None else given(content["schema"], content["example"])
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name not in fields and parameter.default is inspect.Parameter.empty:
            fields[parameter.name] = 1 if parameter.annotation is int else "1"
    method(**fields)
    (call,) = client.recorder.calls
    return call  # type: ignore[no-any-return]


def given(schema: Json, example: Json) -> Json:
    """A body's fields as a caller gives them: what is inside of them as records."""
    properties = SCHEMAS[schema["$ref"].rpartition("/")[2]].get("properties", {})
    return {name: as_record(properties[name], value) for name, value in example.items()}


def as_record(schema: Json, value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, list):
        return [as_record(schema["items"], each) for each in value]
    name = schema.get("$ref", "").rpartition("/")[2]
    return RECORDS[name].model_validate(value) if name in RECORDS else value


def test_a_field_that_nobody_knows_is_refused_before_it_is_sent() -> None:
    with pytest.raises(pydantic.ValidationError, match="totl_fen"):
        models.PrizeBody(totl_fen=1, count=1, split="lucky")  # type: ignore[call-arg]


def test_a_null_that_means_something_is_sent_and_no_other() -> None:
    client = made(Client)
    client.labels.put("family", day_sent_fen_max=None)
    client.packets.send(total_fen=100, count=1, split="lucky", min_fen=None)
    label, packet = client.recorder.calls
    assert label.content == b'{"day_sent_fen_max":null}'
    assert orjson.loads(packet.content) == {"total_fen": 100, "count": 1, "split": "lucky"}


@pytest.mark.parametrize("wrong", ["", ".", ".."])
def test_a_path_leads_nowhere_else(wrong: str) -> None:
    with pytest.raises(ValueError, match="user_id"):
        made(Client).wallets.get(wrong)
    client = made(Client)
    client.wallets.get("a/../b?c#d e")
    assert client.recorder.calls[0].target == "/v1/wallets/a%2F..%2Fb%3Fc%23d%20e"


def test_every_post_without_a_key_was_looked_at() -> None:
    """Whether it does no more when it is repeated: a new one must be, or be marked ``may_be_repeated=False``."""
    posts = {row.name for row in ROUTES if row.method == "POST" and not row.moves_money}
    assert posts == {
        *("claim", "claim_many", "preview_packet", "view_packet", "retract_packet", "consent_to_retraction"),
        *("confirm_transfer", "cancel_transfer", "end_campaign", "grab", "grab_many", "end_fundraiser"),
        *("accept_card_offer", "decline_card_offer", "withdraw_card_offer", "file_dispute", "decide_dispute"),
        "renew_wechatpay_key",
    }
    assert {row.name for row in ROUTES if not row.may_be_repeated} == {
        *("set_payment_password", "choose_arrival_delay", "put_wechatpay_merchant", "renew_wechatpay_key"),
    }


def test_the_package_knows_its_own_readme() -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`client\.(\w+\.\w+)\(", readme):
        assert name in METHODS.values() or name.partition(".")[2].startswith("iterate")
    for group in errors.AnsweredError.__subclasses__():
        assert f"`{group.__name__}`" in readme
