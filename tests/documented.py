"""Whether an answer's error codes are among those that the OpenAPI document lists for its operation and status."""

import re
from functools import cache
from typing import Any

import httpx
import orjson

from api.failures import NO_OPERATION
from api.openapi import document
from api.routes import ROUTES

DOCUMENT: dict[str, Any] = orjson.loads(document(ROUTES))
UNROUTED = {error.code for error in NO_OPERATION}
PROBLEM = "application/problem+json"


async def check(response: httpx.Response) -> None:
    """Fail on an error code that the document does not list. An event hook of the tests' clients, so it sees all."""
    request = response.request
    if response.headers.get("content-type") == PROBLEM and request.method != "HEAD":
        await response.aread()
        code = response.json()["code"]
        listed = codes_of(request.method, request.url.path, response.status_code)
        assert code in listed, (request.method, request.url.path, response.status_code, code, sorted(listed))
    elif request.url.path == "/v1/claims":
        await response.aread()
        refused = [result["code"] for result in response.json()["results"] if "code" in result]
        assert set(refused) <= set(DOCUMENT["components"]["schemas"]["ClaimRefusal"]["properties"]["code"]["enum"])


def codes_of(method: str, path: str, status: int) -> set[str]:
    """The codes that the document lists for a request's operation with this status."""
    item = _item(path)
    if item is None or method.lower() not in item:
        return UNROUTED
    answer = item[method.lower()]["responses"].get(str(status))
    if answer is None or PROBLEM not in answer["content"]:
        return set()
    parts = answer["content"][PROBLEM]["schema"]["allOf"]
    (codes,) = [part["properties"]["code"]["enum"] for part in parts if "properties" in part]
    return set(codes)


def _item(path: str) -> dict[str, Any] | None:
    """The path's operations, by the first route that it fits, as the application looks for it."""
    found = next((template for template, pattern in _patterns() if pattern.fullmatch(path)), None)
    return None if found is None else DOCUMENT["paths"][found]


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(path, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))) for path in DOCUMENT["paths"]]
