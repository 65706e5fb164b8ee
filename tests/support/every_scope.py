"""A hook of schemathesis: each request it makes is made again with the tokens of other scopes, and checked as its own.

Most of its time goes into thinking of requests, which are the same for every scope. ``SCHEMATHESIS_HOOKS`` names this
module. ``OTHERS`` in the environment: JSON, the name of each other scope and the headers that it adds. How often each
was asked goes to the file ``ASKED`` names.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis import Case, CheckContext, Response

gc.set_threshold(50_000, 20, 50)  # as engine/__main__.py
_OTHERS: dict[str, dict[str, str]] = json.loads(os.environ["OTHERS"])
_ASKED: Counter[str] = Counter()
_SESSION = requests.Session()
"""One connection for all that is asked again; without it each request makes one, for a third of its time."""
_SESSION.trust_env = False


@schemathesis.check
def every_scope(_context: CheckContext, _response: Response, case: Case[Any]) -> bool | None:
    """Make the request with each other token. Raises AssertionError, naming the scope, for an answer that is wrong."""
    _ASKED["its own"] += 1
    for name, headers in _OTHERS.items():
        _ASKED[name] += 1
        try:
            case.call_and_validate(headers=headers, excluded_checks=[every_scope], session=_SESSION)
        except BaseExceptionGroup as failures:
            raise AssertionError(
                f"with the token for {name}: {[str(one) for one in failures.exceptions]}"
            ) from failures
    return None


@atexit.register
def _note() -> None:
    Path(os.environ["ASKED"]).write_text(json.dumps(_ASKED), encoding="utf-8")
