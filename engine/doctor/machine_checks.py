"""The checks of this machine in `hongbao doctor`: its disk, limits, secrets, settings and clock."""

import resource
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from engine.access import keyring, tls
from engine.doctor.lines import Line, megabytes, ok, problem, warning
from engine.errors import OperatorError
from engine.settings import Settings, ignored

_FREE_BYTES_WARNING, _FREE_BYTES_PROBLEM = 5_000_000_000, 1_000_000_000
_OPEN_FILES_MIN = 4_096
_CERTIFICATE_DAYS_WARNING = 14
_SKEW_MS_WARNING, _SKEW_MS_PROBLEM = 500.0, 5_000.0


def examine(settings: Settings, *, is_embedded: bool) -> Iterator[Line]:
    """The checks that need no server. ``is_embedded``: the servers' data are on this machine's disk."""
    if is_embedded:
        yield from _disk(settings.data_dir)
    yield _open_files()
    yield from _secrets(settings)
    if tls.is_on(settings):
        yield _certificate(settings)
    yield _variables(settings)


def _disk(data_dir: Path) -> Iterator[Line]:
    """The disks of both servers. The Postgres cluster may be a link to another disk."""
    folders = {folder.resolve() for folder in (data_dir / "redis", data_dir / "postgres") if folder.exists()}
    for folder in sorted(folders):
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            yield warning("disk", f"{folder}: {error.strerror}", "Run doctor as the account that runs hongbao.")
            continue
        found = f"{megabytes(free)} free at {folder}"
        advice = "Make room: a server that cannot write stops, and with it every claim."
        if free < _FREE_BYTES_PROBLEM:
            yield problem("disk", found, advice)
        elif free < _FREE_BYTES_WARNING:
            yield warning("disk", found, advice)
        else:
            yield ok("disk", found)


def _open_files() -> Line:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES_MIN:
        advice = f"Raise it to {_OPEN_FILES_MIN} or more (ulimit -n): each client's connection is an open file."
        return warning("open files", str(soft), advice)
    return ok("open files", "unlimited" if soft == resource.RLIM_INFINITY else str(soft))


def _secrets(settings: Settings) -> Iterator[Line]:
    if not keyring.is_given(settings):
        yield ok("secrets", "none yet: the first start makes one, or set HONGBAO_AUTH_SECRET")
        return
    try:
        held = keyring.load(settings).secrets
    except OperatorError as error:
        yield problem("secrets", str(error), "Until then no token can be issued or verified.")
        return
    is_environment = settings.auth_secret is not None or settings.auth_secrets is not None
    where = "the environment" if is_environment else f"files only their owner can read in {settings.data_dir}"
    yield ok("secrets", f"{len(held)} in force, from {where}")


def _certificate(settings: Settings) -> Line:
    try:
        tls.server_context(settings)
    except OperatorError as error:
        return problem("certificate", str(error), "Until then the API does not start.")
    _, ends = tls.validity(settings.tls_certificate or Path())
    days = (ends - datetime.now(UTC)).days
    found = f"{settings.tls_certificate} ends in {days} days, on {ends:%Y-%m-%d}"
    if days < _CERTIFICATE_DAYS_WARNING:
        return warning("certificate", found, "Renew it, and send SIGHUP to the API or to `hongbao up`.")
    return ok("certificate", found)


def _variables(settings: Settings) -> Line:
    sentences = ignored(settings)
    if sentences:
        return warning("settings", " ".join(sentences), "docs/configuration.md names every setting.")
    return ok("settings", "every HONGBAO_ variable that is set is used")


async def clock(name: str, now_ms: Callable[[], Awaitable[int]]) -> Line:
    """Compare this machine's clock with a server's. The error is at most half of the question's duration."""
    before_ms = time.time() * 1_000
    theirs_ms = await now_ms()
    after_ms = time.time() * 1_000
    skew_ms = theirs_ms - (before_ms + after_ms) / 2
    found = f"{skew_ms:+.0f} ms from ours, give or take {(after_ms - before_ms) / 2 + 1:.0f}"
    advice = "Run NTP on both machines: packets expire by Redis's clock, tokens by the API's."
    if abs(skew_ms) > _SKEW_MS_PROBLEM:
        return problem(name, found, advice)
    if abs(skew_ms) > _SKEW_MS_WARNING:
        return warning(name, found, advice)
    return ok(name, found)
