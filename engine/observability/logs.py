"""Logs: one JSON object per line on stderr, from structlog and from libraries that use ``logging``.

No secrets are written: values under names like ``authorization`` or ``secret`` are replaced, and so are passwords in
URLs anywhere in a text.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, Processor

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(r"authorization|token|secret|password|cookie|seed", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/@:]*:)[^\s/@]+(?=@)", re.IGNORECASE)
_BEARER = re.compile(r"(?P<before>bearer\s+)\S+", re.IGNORECASE)


def configure(process_name: str, level: str = "info") -> None:
    """Write this process's logs to stderr as JSON lines with the field ``process``. May be called again.

    ``level``: debug, info, warning, error or critical. Lower levels are dropped.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process_name),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_as_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at info it logs complete URLs


def redact(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace secrets, which are found by name, and URL passwords and bearer tokens, which are found by form."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, str):
        return _BEARER.sub(rf"\g<before>{REDACTED}", _URL_PASSWORD.sub(rf"\g<before>{REDACTED}", value))
    if isinstance(value, dict):
        return {key: _redacted(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(name, item) for item in value]
    return value


def _named(process_name: str) -> Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process_name
        return event

    return add


def _as_json(event: object, **_unused: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
