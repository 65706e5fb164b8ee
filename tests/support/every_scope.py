"""A hook of schemathesis: each request it makes is made again with the tokens of other scopes, and checked as its own.

Most of its time goes into thinking of requests, which are the same for every scope. ``SCHEMATHESIS_HOOKS`` names this
module. ``OTHERS`` in the environment: JSON, the name of each other scope and the headers that it adds. How often each
was asked goes to the file ``ASKED`` names.
"""

from __future__ import annotations

import atexit
import gc
import http.client
import json
import os
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import schemathesis
from hypothesis.internal import charmap
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, CheckContext, Response
from schemathesis.generation.overrides import Override
from schemathesis.transport.prepare import get_exclude_headers

gc.set_threshold(50_000, 20, 50)  # as engine/__main__.py
# It reads and writes a file for each new set of characters, of which there is one for each string of each example.
charmap.intervals_from_codec = cache(charmap.intervals_from_codec)
_OTHERS: dict[str, dict[str, str]] = json.loads(os.environ["OTHERS"])
_ASKED: Counter[str] = Counter()
_SESSION = requests.Session()
"""For what a check itself asks: one connection, without which each request makes one, for a third of its time."""
_SESSION.trust_env = False
_TIMEOUT_S = 30


def _not_validated(self: SearchStrategy[Any]) -> None:
    """Arguments of strategies, which schemathesis makes anew for each example, need not be checked each time.

    That takes a third of the time of making an example. What is drawn is the same without.
    """


SearchStrategy.validate = _not_validated  # type: ignore[method-assign]


@cache
def _connection(address: str) -> http.client.HTTPConnection:
    """One connection for all that is asked again. It connects anew by itself where the server has ended it."""
    return http.client.HTTPConnection(address, timeout=_TIMEOUT_S)


def _asked_again(request: requests.PreparedRequest, headers: dict[str, str]) -> Response:
    """The same request with these headers as well, by the least code there is between us and the server."""
    request = request.copy()
    request.headers.update(headers)
    assert request.url is not None
    assert request.method is not None
    body = request.body.encode() if isinstance(request.body, str) else request.body
    assert body is None or isinstance(body, bytes), "nothing that can be read only once"
    connection = _connection(urlsplit(request.url).netloc)
    began_s = time.perf_counter()
    try:
        connection.request(request.method, request.path_url, body, request.headers)
        answer = connection.getresponse()
    except ConnectionError:  # ended by the server before it had the request
        connection.close()
        connection.request(request.method, request.path_url, body, request.headers)
        answer = connection.getresponse()
    content = answer.read()
    return Response(
        status_code=answer.status,
        headers={name: answer.headers.get_all(name, []) for name in answer.headers},
        content=content,
        request=request,
        elapsed=time.perf_counter() - began_s,
        verify=True,
        message=answer.reason,
        http_version="1.0" if answer.version == 10 else "1.1",
        encoding=answer.headers.get_content_charset(),
        _override=Override(headers=headers),
    )


def _is_without_token(case: Case[Any]) -> bool:
    """Whether the case is that the token is missing: then it is left out for all."""
    return "authorization" in map(str.lower, get_exclude_headers(case))


@schemathesis.check
def every_scope(_context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Make the request with each other token. Raises AssertionError, naming the scope, for an answer that is wrong."""
    _ASKED["its own"] += 1
    for name, headers in _OTHERS.items():
        _ASKED[name] += 1
        try:
            case.validate_response(
                _asked_again(response.request, {} if _is_without_token(case) else headers),
                headers=headers,
                excluded_checks=[every_scope],
                transport_kwargs={"session": _SESSION, "headers": headers},
            )
        except BaseExceptionGroup as failures:
            raise AssertionError(
                f"with the token for {name}: {[str(one) for one in failures.exceptions]}"
            ) from failures
    return None


@atexit.register
def _note() -> None:
    Path(os.environ["ASKED"]).write_text(json.dumps(_ASKED), encoding="utf-8")
