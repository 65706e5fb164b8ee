"""How the process is, and this document."""

from api import status
from api.dispatch import Operation
from api.payloads import StatusAnswer
from api.problems import NotReadyError

ROUTES = (
    Operation(
        method="GET",
        path="/livez",
        endpoint=status.livez,
        summary="The process answers.",
        access=None,
        answer=StatusAnswer,
    ),
    Operation(
        method="GET",
        path="/readyz",
        endpoint=status.readyz,
        summary="The process can do its work; 503 says why not.",
        access=None,
        answer=StatusAnswer,
        problems=(NotReadyError,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        endpoint=status.show_metrics,
        summary="Prometheus metrics of all processes.",
        access=None,
        answer=None,
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        endpoint=status.show_openapi,
        summary="The OpenAPI document.",
        access=None,
        answer=dict,
    ),
)
