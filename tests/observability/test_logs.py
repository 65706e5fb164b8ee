"""Logs: JSON lines on stderr, with nothing secret in them."""

import json
import os
import subprocess
import sys

from engine.observability.logs import REDACTED, redact

PROGRAM = """
import logging
import structlog
from engine.observability import logs
logs.configure("api-1", "info")
log = structlog.get_logger("test")
log.debug("dropped")
log.info("started", port=8080, auth_secret="hush", urls=["redis://u:hush@h/0"], sent={"Authorization": "hush"})
logging.getLogger("library").warning("sent %s", "Bearer hush.hush")
try:
    raise ValueError("postgresql://u:hush@h/d")
except ValueError:
    log.exception("failed", greeting="\\u606d\\u559c\\n\\u53d1\\u8d22")
"""


def test_lines_are_json_and_hold_no_secret() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, encoding="utf-8")
    assert done.stdout == ""
    assert "hush" not in done.stderr
    started, sent, failed = (json.loads(line) for line in done.stderr.splitlines())
    assert (started["event"], started["process"], started["level"], started["port"]) == (
        "started",
        "api-1",
        "info",
        8080,
    )
    assert started["urls"] == [f"redis://u:{REDACTED}@h/0"]
    assert (sent["event"], sent["level"]) == (f"sent Bearer {REDACTED}", "warning")
    assert "ValueError" in failed["exception"]
    assert failed["greeting"] == "恭喜\n发财"
    assert failed["timestamp"].endswith("Z")


def test_what_is_not_secret_stays() -> None:
    event = {"event": "GET http://host/path?a=b@c", "user": "alice", "amounts": (1, 2), "port": None}
    assert redact(None, "info", dict(event)) == event | {"amounts": [1, 2]}


def test_what_an_encoding_lacks_is_printed_as_an_escape() -> None:
    code = (
        "import sys\n"
        "from engine.observability.terminal import print_anything\n"
        "print_anything()\n"
        "for stream in (sys.stdout, sys.stderr): print('\\u7ea2\\u5305 \\u2026', file=stream)\n"
    )
    ascii_only = {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="ascii", env=os.environ | ascii_only
    )
    assert done.stdout == done.stderr == "\\u7ea2\\u5305 \\u2026\n"
