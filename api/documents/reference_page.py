"""docs/api.md, generated from the OpenAPI document, the route table and ``api.documents.error_guide``.

python -m api.documents.reference_page > docs/api.md
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from pydantic import BaseModel

from api.auth import USER_HEADER
from api.dispatch import IDEMPOTENCY_KEY_MAX, Operation
from api.documents.error_guide import GUIDES
from api.documents.openapi import document
from api.failures import (
    ALL,
    ANY_REQUEST,
    NO_OPERATION,
    WITH_BODY,
    WITH_KEY,
    WITH_TOKEN,
    Errors,
    codes_by_status,
    failures_of,
)
from api.payloads import USER_ID_FORM
from api.problems import RateLimitedError, kind_of
from api.routes import RESOURCES, ROUTES
from engine.errors import HongbaoError
from engine.ids import FIRST_VOLUME, LAST_VOLUME, NUMBER_LENGTH
from engine.observability.terminal import print_anything
from engine.records import FEN_MAX
from engine.settings import Settings

Json = dict[str, Any]

SHARED = (*ANY_REQUEST, RateLimitedError, *WITH_TOKEN, *WITH_BODY, *WITH_KEY)
"""Errors that follow from an operation's kind are listed once, not per operation."""
_SETTING = re.compile(r"HONGBAO_[A-Z_]+")
_HEAD = f"""\
# The HTTP API

For those who write a client or a backend. The server serves the same as an OpenAPI 3.1 document at `/openapi.json`,
for generated clients. This page is generated from it; a test compares the two.

## Requests

- **Bodies** are JSON objects in UTF-8. Unknown fields are refused. Types are strict: `1.0` and `"1"` are not `1`.
- **Units**: a name ends in its unit. `_fen` is money in fen (1/100 yuan, or other currency), always a whole number.
  `_s` is seconds. `_ms` is milliseconds, in a time since 1970-01-01 UTC. Whole numbers are at most 2^53 - 1.
- **Tokens** are bearer tokens: `Authorization: Bearer <token>`. A token has scopes; [access.md](access.md) explains
  them and has a table of who may do what. "Any token" below means that users need no scope for what is theirs.
- **`{USER_HEADER}`** names the user that a backend acts for. It needs the scope `act`. "Names a user" below means that
  a backend must send it.
- **`Idempotency-Key`**: 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters, required where it is named below. Send a
  new key with each new request and the same key with each repeat. A repeat does nothing twice: it returns the first
  answer, with the header `Idempotency-Replayed: true`.
    - The key comes before every rule. If the first request succeeded, a repeat returns its answer, even if limits,
      dates, freezes or balances have changed, and even without Redis. Only the token, the form and size of the body,
      and the rate limits are checked before. The payment password is not checked again.
    - The `state` of a packet or transfer is the state at the repeat. If Redis does not answer, it is the ledger's
      state: a packet that was `open` in the first answer may be `funded`.
    - A key belongs to the user. A deposit's key belongs to the wallet, whichever admin sends it. The same key of
      another user, or for another wallet, is a different key.
    - A key is kept for HONGBAO_IDEMPOTENCY_RETENTION_DAYS days. A repeat after that is a new request.
    - Only successful answers are kept. A refused request did nothing: repeat it with the same key, changed or not.
- **Pages**: lists take `limit` and `after`. `next` in the answer is the next page's `after`; null on the last page.
- **Names in paths**: `packet_id`, `transfer_id` and `number` have {NUMBER_LENGTH} digits. They begin with
  {FIRST_VOLUME} to {LAST_VOLUME}.
  `user_id` and `label` are 1 to 64 of `A-Z a-z 0-9 . _ : @ -`, and neither `.` nor `..`. `dispute_id` and
  `withdrawal_id` are whole numbers from 1.
- **Bounds** that an operator can set are named by their setting, with its default in brackets
  ([configuration.md](configuration.md)).
- **HEAD** is answered wherever GET is, without a body.
- **Lost answers**: what to repeat after one, and when, is in [client.md](client.md#what-any-client-must-do).

## Errors

Every error is a problem (RFC 9457, `application/problem+json`). Programs match on `code`, which never changes. `title`
and `detail` are for people and may change.

| field | what it is |
| --- | --- |
| `type` | `urn:hongbao:problem:` and the code |
| `title` | what kind of error it is |
| `status` | the HTTP status |
| `detail` | what is wrong in this case, and what to do |
| `code` | the code, see [Codes](#codes) |
| `errors` | with some codes: each bad field as `field`, and its rule as `message` |
| `reasons` | with `not_ready`: one sentence per reason |
| `limit`, `limit_fen`, `left_fen` | with `limit_exceeded`: the limit, its value, and what it allows now |
| `tries_left` | with `wrong_payment_password`: wrong tries until it is locked |
| `locked_until_ms` | with `payment_password_locked`: until when |
| `until_ms` | with `limit_reached`, `too_many_changes`, `too_many_disputes`, and a day's `limit_exceeded`: until when |

Every 423, 429, 503 and `day_not_closed` has the header Retry-After, in seconds. Losing a claim is not an error: the
status is 200, and `outcome` has the result.
"""
_SHARED_HEAD = """
These errors follow from what an operation is, so the routes below do not repeat them:

| which requests | errors |
| --- | --- |"""
_CODES_HEAD = """
## Codes

| code | status | title | what it means | what to do |
| --- | --- | --- | --- | --- |"""


def page() -> str:
    """The whole page."""
    api: Json = orjson.loads(document(ROUTES))
    lines = [_with_defaults(_HEAD.rstrip()), _SHARED_HEAD, *_shared()]
    shown: dict[type[BaseModel], str] = {}
    for title, rows in RESOURCES.items():
        lines += ["", f"## {title}"]
        for row in rows:
            described, schemas = api["paths"][row.path][row.method.lower()], api["components"]["schemas"]
            lines += [*_operation(row, described, schemas), *_body(row, described, schemas, shown)]
    lines += [_CODES_HEAD, *map(_code, sorted(ALL, key=lambda error: (kind_of(error).status, error.code)))]
    return "\n".join(lines) + "\n"


def _shared() -> Iterator[str]:
    kinds: dict[str, Errors] = {
        "all": ANY_REQUEST,
        "all but `/livez`, `/readyz`, `/metrics`, where rate limits are set": (RateLimitedError,),
        "with a token": WITH_TOKEN,
        "with a body": WITH_BODY,
        "with an Idempotency-Key": WITH_KEY,
        "to a path or method that does not exist": NO_OPERATION,
    }
    for kind, found in kinds.items():
        yield f"| {kind} | {_errors(found)} |"


def _operation(row: Operation, described: Json, schemas: Json) -> Iterator[str]:
    yield from ("", f"### `{row.method} {row.path}`", "", described["summary"], "")
    yield f"- **Scope**: {_scope(row)}"
    if row.moves_money:
        yield "- **Header**: `Idempotency-Key`, required"
    yield f"- **Answer**: {row.status}, {_answer(row, described['responses'][str(row.status)], schemas)}"
    own = set(failures_of(row)) - set(SHARED)
    if own:
        yield f"- **Errors**: {_errors(own)}"
    query = [parameter for parameter in described["parameters"] if parameter["in"] == "query"]
    if query:
        fields = {parameter["name"]: parameter["schema"] for parameter in query}
        yield from _fields("query", fields, [field["name"] for field in query if field["required"]], schemas)


def _body(row: Operation, described: Json, schemas: Json, shown: dict[type[BaseModel], str]) -> Iterator[str]:
    """The fields of the body. ``shown``: per model, the operation that already shows it."""
    if row.body is None:
        return
    body = _resolved(described["requestBody"]["content"]["application/json"]["schema"], schemas)
    if row.body in shown:
        yield f"- **Body**: as that of `{shown[row.body]}`"
    elif body["properties"]:
        shown[row.body] = f"{row.method} {row.path}"
        title = "body" if row.body_required else "body, not required"
        yield from _fields(title, body["properties"], body.get("required", []), schemas)
    else:
        yield "- **Body**: none, or `{}`"


def _scope(row: Operation) -> str:
    if row.access is None:
        return "none, and no token"
    scopes = " or ".join(f"`{scope}`" for scope in row.access.scopes) or "any token"
    return f"{scopes}; names a user" if row.access.for_user else scopes


def _answer(row: Operation, described: Json, schemas: Json) -> str:
    kinds = " or ".join(f"`{kind}`" for kind in described["content"])
    schema = described["content"].get("application/json", {}).get("schema", {})
    told = _resolved(schema, schemas)
    if row.answer is None or "properties" not in told:
        return kinds
    return f"{kinds}: {_members(told, schemas)}"


def _members(schema: Json, schemas: Json) -> str:
    """A record's fields in one line. The fields of nested records are in brackets."""
    return ", ".join(f"`{name}`{_inside(field, schemas)}" for name, field in schema["properties"].items())


def _inside(field: Json, schemas: Json) -> str:
    options = [_resolved(option, schemas) for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    for option in options:
        if option.get("type") == "array":
            return _inside(option["items"], schemas).replace(" (", " (each: ", 1)
    if any("properties" in option for option in options):
        return f" ({'; or '.join(_members(option, schemas) for option in options)})"
    words = [word for option in options for word in option.get("enum", [])]
    return f" ({_words(words)})" if words and len(words) < len(ALL) // 2 else ""


def _fields(title: str, fields: Json, required: Iterable[str], schemas: Json) -> Iterator[str]:
    yield from ("", f"| {title} | type | default | what it is |", "| --- | --- | --- | --- |")
    for name, field in fields.items():
        yield _field(name, field, schemas, is_required=name in required)
        if "$ref" in field.get("items", {}):
            each = _resolved(field["items"], schemas)
            for part, described in each["properties"].items():
                yield _field(f"{name}[].{part}", described, schemas, is_required=part in each.get("required", []))
        if "$ref" in field:
            inner = _resolved(field, schemas)
            for part, described in inner.get("properties", {}).items():
                yield _field(f"{name}.{part}", described, schemas, is_required=part in inner.get("required", []))


def _field(name: str, field: Json, schemas: Json, *, is_required: bool) -> str:
    default = "required" if is_required else _default(field)
    return _row(f"`{name}`", _type(field, schemas), default, _with_defaults(_description(field)))


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: Json) -> str:
    default = field.get("default")
    return "–" if default in (None, "", []) else f"`{orjson.dumps(default).decode()}`"


def _type(field: Json, schemas: Json) -> str:
    """A field's type and bounds."""
    options = [_resolved(option, schemas) for option in field.get("anyOf", [field])]
    kinds = [_kind({**field, **option} if len(options) > 1 else option, schemas) for option in options]
    return " or ".join(kinds)


def _kind(schema: Json, schemas: Json) -> str:
    kind = schema.get("type")
    if "enum" in schema:
        return _words(schema["enum"])
    if kind == "array":
        each = "object" if "$ref" in schema["items"] else _type(schema["items"], schemas)
        return f"list{_range(schema, 'minItems', 'maxItems')} of {each}"
    if kind == "integer":
        return f"whole number{_range(schema, 'minimum', 'maximum')}"
    if kind == "string":
        if schema.get("pattern") == USER_ID_FORM:
            return "user id"
        return "date" if schema.get("format") == "date" else f"text{_range(schema, 'minLength', 'maxLength')}"
    return {"boolean": "true or false", "null": "null", "object": "object"}[str(kind)]


def _range(schema: Json, least: str, most: str) -> str:
    low, high = schema.get(least), schema.get(most)
    unit = " characters" if least == "minLength" else ""
    if high in (None, FEN_MAX):
        return "" if low is None else f" (at least {low:,}{unit})"
    return f" (at most {high:,}{unit})" if low is None else f" ({low:,} to {high:,}{unit})"


def _description(field: Json) -> str:
    inner = [option["description"] for option in field.get("anyOf", []) if "description" in option]
    return str(field.get("description", inner[0] if inner else ""))


def _with_defaults(text: str) -> str:
    """A text with the defaults of the settings in it."""

    def named(match: re.Match[str]) -> str:
        default = Settings.model_fields[match[0].removeprefix("HONGBAO_").lower()].default
        return f"`{match[0]}` ({default:,})" if isinstance(default, int) else f"`{match[0]}` ({default})"

    return _SETTING.sub(named, text)


def _errors(found: Iterable[type[HongbaoError]]) -> str:
    return "; ".join(f"{status} {_words(codes)}" for status, codes in codes_by_status(found).items())


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _code(error: type[HongbaoError]) -> str:
    kind, guide = kind_of(error), GUIDES[error]
    return _row(f"`{error.code}`", str(kind.status), kind.title, guide.meaning, guide.remedy)


def _resolved(schema: Json, schemas: Json) -> Json:
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    return schema


if __name__ == "__main__":
    print_anything()
    print(page(), end="")  # noqa: T201
