"""The whole engine on one machine, under one supervisor: servers, persister, sweeper, API workers."""

import asyncio
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial

import orjson
import structlog

from engine.access import keyring, tls
from engine.connected import Connected
from engine.embedded import servers
from engine.embedded.data_dir import run_dir
from engine.errors import HongbaoError, OperatorError
from engine.ledger import schema
from engine.ledger.database import database_pool
from engine.loops import PASSING
from engine.observability import metrics_directory
from engine.persisting import lag
from engine.recovery.epochs import WHY
from engine.recovery.serving import Paused
from engine.running import consoles, own_servers
from engine.settings import Settings
from engine.supervision import ports
from engine.supervision.service import Worker
from engine.supervision.supervisor import Supervisor
from engine.wechatpay import keys as wechatpay_keys
from engine.wechatpay.sandbox import SandboxMerchant, make_merchant

_DRAIN_S = 30.0
"""How long the persister may take to apply the remaining changes at a stop."""
_READY_S_MAX = 60.0
_READY_POLL_S = 0.1
_LEFT_S_MAX = 5.0
_PROBLEM_BYTES_MAX = 100_000
_LASTING_S_MAX = 5.0
"""If no persister repairs a lane within this time, none ever will by itself."""
_LASTING_ADVICE = (
    "Redis has lost lanes, holds those of another ledger, or the ledger was set back: see whether "
    "HONGBAO_REDIS_URL and HONGBAO_DATABASE_URL belong together; if they do, run `hongbao recover` (docs/recovery.md)."
)
_NO_PROXY = urllib.request.ProxyHandler({})
"""No proxy: one from http_proxy and the like cannot reach this machine's loopback."""

_log = structlog.get_logger(__name__)

Route = Callable[[str, Settings], Settings]
"""Changes the settings for one of our processes: its name and everyone's settings -> its own settings."""


def _straight(_name: str, settings: Settings) -> Settings:
    return settings


async def up(
    settings: Settings,
    environment: Mapping[str, str],
    announce: Callable[[str], None],
    route: Route = _straight,
    *,
    tell: Callable[[str], None] | None = None,
    redis_nodes: int | None = None,
    replicas: int | None = None,
    redis_options: Mapping[str, str] | None = None,
    tell_sandbox: Callable[[SandboxMerchant, str], None] | None = None,
) -> None:
    """Run everything until SIGINT or SIGTERM. ``announce`` gets the URL once it can be used.

    ``tell`` gets the console's address afterwards and, as long as nobody can sign in, a link for the first operator.
    ``route`` may give single processes another way to the servers, one that can be cut. ``redis_nodes`` and
    ``replicas``: of the embedded Redis; None: what the data directory holds. ``redis_options`` adds to its options.
    ``tell_sandbox``: make the sandbox's merchant of WeChat Pay's calls, and call this with it and the URL.

    Processes stop in the reverse order of their start. So the persister sees every accepted claim, and it applies the
    remaining changes before the servers stop. Raises OperatorError if something cannot start.
    """
    own_servers.check(settings, redis_nodes, replicas)
    with (
        ports.held(settings.host, settings.port) as port,
        consoles.held(settings) as console_port,
        servers.hold(settings.data_dir) as held,
    ):
        settings = settings.model_copy(update={"port": port})  # port 0 means any free one; all workers share it
        keyring.load(settings)
        if tell_sandbox is not None:
            wechatpay_keys.make_for_sandbox(settings)
        tls.server_context(settings)
        async with Supervisor(run_dir(settings.data_dir)) as supervisor:
            settings = await own_servers.start(
                supervisor, held, settings, redis_nodes, replicas, redis_options=redis_options
            )
            await schema.migrate(settings.database_url or "")
            is_ready = asyncio.Event()
            supervisor.in_between(partial(_tell_left, settings, is_ready))
            await _start_workers(supervisor, settings, environment, route, console_port)
            scheme = "https" if tls.is_on(settings) else "http"
            base_url = f"{scheme}://{_in_url(settings.host)}:{settings.port}"
            await _wait_ready(base_url, tls.client_context(settings), _lasting(settings))
            is_ready.set()
            announce(base_url)
            if tell is not None and console_port is not None:
                await consoles.tell(settings, console_port, tell)
            if tell_sandbox is not None:
                tell_sandbox(await _make_sandbox(settings), base_url)
            await supervisor.wait()


async def _make_sandbox(settings: Settings) -> SandboxMerchant:
    pool = await database_pool(settings.database_url or "", connections_max=1, timeout_s=settings.database_timeout_s)
    try:
        return await make_merchant(pool, settings)
    except HongbaoError as error:
        raise OperatorError(f"The sandbox's merchant cannot be made: {error}") from None
    finally:
        await pool.close()


async def _start_workers(
    supervisor: Supervisor,
    settings: Settings,
    environment: Mapping[str, str],
    route: Route,
    console_port: int | None,
) -> None:
    """Start our own processes. Returns once each has reported that it is ready."""
    shared = metrics_directory.directory(settings)
    metrics_directory.prepare(shared)
    child_environment = {**environment, **metrics_directory.environment(shared)}

    def worker(name: str, stop_timeout_s: float, reload_signal: signal.Signals | None = None, *words: str) -> Worker:
        """The worker of this name: "serve-2" runs `hongbao serve`. ``words``: more of the command."""
        report_path = run_dir(settings.data_dir) / f"{name}.report"
        argv = (sys.executable, "-m", "engine", name.partition("-")[0], "--report", str(report_path), *words)
        env = {**child_environment, **_variables(route(name, settings))}
        return Worker(
            name=name,
            argv=argv,
            env=env,
            stop_timeout_s=stop_timeout_s,
            reload_signal=reload_signal,
            report_path=report_path,
        )

    # The persister starts first, because it writes new lanes that the others need. It stops last.
    number_of = settings.persisters
    names = ["persist"] if number_of == 1 else [f"persist-{number}" for number in range(1, number_of + 1)]
    await supervisor.start(
        *(
            worker(name, _DRAIN_S, None, "--share", f"{number}/{number_of}")
            for number, name in enumerate(names, start=1)
        )
    )
    await supervisor.start(worker("sweep", 10.0))
    await supervisor.start(
        *(
            worker(f"serve-{number}", 20.0 + settings.drain_delay_s, signal.SIGHUP)
            for number in range(1, settings.workers + 1)
        )
    )
    if console_port is not None:
        child_environment["HONGBAO_CONSOLE_PORT"] = str(console_port)
        await supervisor.start(worker("console", 15.0, signal.SIGHUP))


def _variables(settings: Settings) -> dict[str, str]:
    """The variables that the children need. They read all others from the environment, as this process did."""
    return {
        "HONGBAO_REDIS_URL": settings.redis_url or "",
        "HONGBAO_DATABASE_URL": settings.database_url or "",
        "HONGBAO_DATA_DIR": str(settings.data_dir),
        "HONGBAO_LANES": str(settings.lanes),
        "HONGBAO_RECOVER_AUTOMATICALLY": "false" if settings.recover_automatically is False else "true",
        "HONGBAO_HOST": settings.host,
        "HONGBAO_PORT": str(settings.port),
        "HONGBAO_METRICS_PORT": "",  # the API shows the metrics of all
    }


async def _tell_left(settings: Settings, is_ready: asyncio.Event) -> None:
    """Log how many changes are not in the ledger, if there can be any. Bounded in time, because `up` is stopping."""
    if not is_ready.is_set():
        return
    try:
        async with asyncio.timeout(_LEFT_S_MAX), Connected.open(settings) as connected:
            left = await lag.changes_behind(connected.pool, connected.store)
    except (*PASSING, TimeoutError) as error:
        why = str(error) or f"no answer within {_LEFT_S_MAX:g} s"
        _log.warning("stopped: the number of changes that are not in the ledger is unknown", error=why)
        return
    if left:
        _log.warning("stopped: changes wait in Redis until a persister runs again", changes_not_in_ledger=left)
    else:
        _log.info("stopped: every change is in the ledger", changes_not_in_ledger=0)


def _lasting(settings: Settings) -> tuple[str, ...]:
    """The reasons in /readyz that do not go away. With recovery on, these are the ones that need an operator."""
    heals = () if settings.recover_automatically is False else (Paused.LOST, Paused.SET_BACK)
    return tuple(WHY[paused] for paused in (Paused.OTHER_EPOCH, Paused.LOST, Paused.SET_BACK) if paused not in heals)


async def _wait_ready(base_url: str, context: ssl.SSLContext | None, lasting: tuple[str, ...]) -> None:
    begun_s = since_s = time.monotonic()
    before = ""
    while (reason := await asyncio.to_thread(_unready, base_url, context)) is not None:
        now_s = time.monotonic()
        if reason != before:
            before, since_s = reason, now_s
        if WHY[Paused.REBUILDING] in reason:  # a rebuild is in progress, and a large lane takes a while
            begun_s = now_s
        is_lasting = any(why in reason for why in lasting)
        if (is_lasting and now_s - since_s > _LASTING_S_MAX) or now_s - begun_s > _READY_S_MAX:
            advice = _LASTING_ADVICE if is_lasting else "`hongbao doctor` shows more."
            raise OperatorError(f"The API is not ready after {now_s - begun_s:.0f} s: {reason.rstrip('.')}. {advice}")
        await asyncio.sleep(_READY_POLL_S)


def _unready(base_url: str, context: ssl.SSLContext | None) -> str | None:
    """Why the API is not ready, or None."""
    opener = urllib.request.build_opener(_NO_PROXY, urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{base_url}/readyz", timeout=5):
            return None
    except urllib.error.HTTPError as error:
        said = error.read(_PROBLEM_BYTES_MAX)
        try:
            return " ".join(orjson.loads(said)["reasons"])
        except (ValueError, KeyError, TypeError):
            return said.decode(errors="replace")
    except OSError as error:
        return str(error)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
