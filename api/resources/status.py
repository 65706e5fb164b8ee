"""The process's own state, for probes and scrapers. What operators read with a token is in the other resources."""

import asyncio

import structlog

from api.answers import PLAIN, Answer, as_json
from api.dispatch import Call, Operation
from api.payloads import ReadyAnswer, StatusAnswer
from api.problems import NotReadyError
from engine.errors import UnavailableError
from engine.observability import metrics
from engine.observability.repeats import repeats

LOG = structlog.get_logger()


async def livez(_call: Call) -> Answer:
    """Answer that the process is alive."""
    return as_json({"status": "live"})


async def readyz(call: Call) -> Answer:
    """Answer whether the process can work: its servers answer and are in order."""
    if call.front.is_stopping:
        raise NotReadyError(["This process is stopping."])
    readiness = await call.engine.readiness()
    if readiness.reasons:
        raise NotReadyError(readiness.reasons)
    return as_json({"status": "ready", "not_serving": readiness.not_serving})


async def show_metrics(call: Call) -> Answer:
    """Return all processes' metrics as Prometheus text."""
    call.front.flush()
    # If something cannot be measured, alarms still need the other values.
    try:
        await call.engine.measure()
    except UnavailableError:
        pass
    except Exception as error:  # a scrape that fails would silence every alarm at once
        if times := repeats.times("not_measured", f"{type(error).__name__} {error}"):
            LOG.exception("not_measured", times=times)
    text = await asyncio.to_thread(metrics.render)
    headers = ((b"content-type", metrics.CONTENT_TYPE.encode()), *PLAIN[1:])
    return Answer(200, text, headers)


async def show_openapi(call: Call) -> Answer:
    """Return the OpenAPI document."""
    return Answer(200, call.front.document)


ROUTES = (
    Operation(
        method="GET",
        path="/livez",
        endpoint=livez,
        summary="The process answers.",
        access=None,
        answer=StatusAnswer,
    ),
    Operation(
        method="GET",
        path="/readyz",
        endpoint=readyz,
        summary="The process can do its work; 503 says why not.",
        access=None,
        answer=ReadyAnswer,
        problems=(NotReadyError,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        endpoint=show_metrics,
        summary="Prometheus metrics of all processes.",
        access=None,
        answer=None,
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        endpoint=show_openapi,
        summary="The OpenAPI document.",
        access=None,
        answer=dict,
    ),
)
