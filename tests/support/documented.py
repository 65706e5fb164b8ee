"""Whether an answer's error codes are among those that the OpenAPI document lists for its operation and status."""

import re
from functools import cache
from typing import Any

import httpx
import orjson
from starlette.routing import compile_path

from api.documents.openapi import document
from api.failures import NO_OPERATION
from api.routes import ROUTES

DOCUMENT: dict[str, Any] = orjson.loads(document(ROUTES))
UNROUTED = {error.code for error in NO_OPERATION}
PROBLEM = "application/problem+json"


async def check(response: httpx.Response) -> None:
    """``assert_listed`` of an answer. An event hook of the tests' clients, so it sees all of them."""
    request = response.request
    if request.method != "HEAD" and (response.is_error or request.url.path == "/v1/claims"):
        await response.aread()
        assert_listed(request.method, request.url.path, response.status_code, response.content)


def assert_listed(method: str, path: str, status: int, body: bytes) -> None:
    """Fail on an answer with an error code that the document does not list for its operation."""
    if status >= 400:
        code, listed = orjson.loads(body)["code"], codes_of(method, path, status)
        assert code in listed, (method, path, status, code, sorted(listed))
    elif path == "/v1/claims":
        refused = {result["code"] for result in orjson.loads(body)["results"] if "code" in result}
        listed = set(DOCUMENT["components"]["schemas"]["ClaimRefusal"]["properties"]["code"]["enum"])
        assert refused <= listed, refused - listed


def codes_of(method: str, path: str, status: int) -> set[str]:
    """The codes that the document lists for a request's operation with this status."""
    item = _item(path) or {}
    name = "get" if method == "HEAD" else method.lower()
    if name not in item or method != method.upper():  # `post` is no POST
        return UNROUTED
    answer = item[name]["responses"].get(str(status))
    if answer is None or PROBLEM not in answer["content"]:
        return set()
    return set(answer["x-codes"])


def _item(path: str) -> dict[str, Any] | None:
    """The path's operations, by the first route that it fits, as the application looks for it."""
    found = next((template for template, pattern in _patterns() if pattern.match(path)), None)
    return None if found is None else DOCUMENT["paths"][found]


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(path, compile_path(path)[0]) for path in DOCUMENT["paths"]]
