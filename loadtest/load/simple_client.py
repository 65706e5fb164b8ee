"""A client for single requests before and after the load: readiness, deposits, metrics."""

import http.client
import urllib.error
import urllib.request
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from engine.errors import OperatorError
from loadtest.load.identities import Headers, Identities

_TIMEOUT_S = 10.0
_CREATED = (200, 201)
_WITHOUT_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RefusedError(OperatorError):
    """The server refused a request. ``problem``: its answer, empty if it is not a JSON object."""

    def __init__(self, sentence: str, problem: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.problem = problem


class SimpleClient:
    """The API at ``base_url``. Every method raises OperatorError, with one sentence, if something is wrong."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def check_ready(self) -> None:
        """Check that a server answers there and is ready."""
        status, body = self._ask("GET", "/readyz", {}, None)
        if status != 200:
            reason = _word(body, "detail") if status == 503 else f"its /readyz was answered {status}"
            raise OperatorError(f"{self._base_url} is not ready for load: {reason}")

    def check_identities(self, identities: Identities, user_id: str) -> None:
        """Check that the server accepts the tokens."""
        status, body = self._ask("GET", f"/v1/wallets/{user_id}", identities.of(user_id), None)
        if status == 401:
            of = "made with this installation's secret" if identities.made_here else "given with --act-token"
            raise OperatorError(
                f"{self._base_url} does not accept the tokens {of} ({_word(body, 'detail')}) "
                "Name the folder of the installation that runs there with --data-dir (`make load DATA_DIR=...`), "
                "or give --act-token."
            )
        if status != 200:
            raise OperatorError(f"Asking {self._base_url} for a wallet was answered {status}: {_word(body, 'detail')}")

    def post(self, path: str, headers: Headers, body: dict[str, Any], key: str) -> dict[str, Any]:
        """POST what must happen once. Raises RefusedError."""
        return self._write("POST", path, {**headers, "Idempotency-Key": key}, body)

    def put(self, path: str, headers: Headers, body: dict[str, Any]) -> dict[str, Any]:
        """PUT, which may be repeated. Raises RefusedError."""
        return self._write("PUT", path, headers, body)

    def _write(self, method: str, path: str, headers: Headers, body: dict[str, Any]) -> dict[str, Any]:
        status, answered = self._ask(method, path, {**headers, "Content-Type": "application/json"}, orjson.dumps(body))
        if status not in _CREATED:
            raise RefusedError(f"{path} was answered {status}: {_word(answered, 'detail')}", _object(answered))
        return _object(answered)

    def claims_by_outcome(self) -> dict[str, int]:
        """Claims answered since the server's start, by outcome, from /metrics."""
        status, body = self._ask("GET", "/metrics", {}, None)
        if status != 200:
            raise OperatorError(f"{self._base_url}/metrics was answered {status}.")
        return {
            sample.labels["outcome"]: int(sample.value)
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name == "hongbao_claims_total"
        }

    def _ask(self, method: str, path: str, headers: Headers, body: bytes | None) -> tuple[int, bytes]:
        request = urllib.request.Request(self._base_url + path, body, headers, method=method)
        try:
            with _WITHOUT_PROXY.open(request, timeout=_TIMEOUT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise OperatorError(
                f"No server answers at {self._base_url} ({getattr(reason, 'strerror', None) or reason}); "
                "start one with `make serve`, or name another with --url (`make load URL=...`)."
            ) from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _word(body: bytes, field: str) -> str:
    return str(_object(body).get(field) or body[:100].decode(errors="replace"))
