"""The locustfile: the options, the eve's shape, and how a run's processes learn of each other's packets.

Senders tell the master, and the master tells all workers. So users in different processes claim the same packets. A
single process is its own master: locust delivers its messages to its own listeners.
"""

import logging
import secrets
import sys
import time
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from engine.errors import OperatorError
from loadtest.load import sending
from loadtest.load.board import Announcement, Board
from loadtest.load.guest import Evening, evenings
from loadtest.load.identities import Given, Identities
from loadtest.load.locust_process import BEGUN
from loadtest.load.shapes import Eve
from loadtest.load.simple_client import SimpleClient
from loadtest.load.targets import checked_url
from loadtest.load.users import GroupMember, RainHand, Sender

__all__ = ["EveShape", "GroupMember", "RainHand", "Sender"]

_log = logging.getLogger(__name__)
_board = Board()
_seeds: list[Announcement] = []
_SPAWNED_A_SECOND_MAX = 100
"""The largest number of users per worker. Locust warns above it."""
_WORKERS_STOP_S_MAX = 20.0


class EveShape(LoadTestShape):
    """The festival's eve: calm, ramp, midnight with ten times as many users, a long tail."""

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now. None ends the run."""
        assert self.runner is not None
        options = _options(self.runner.environment)
        users = Eve(options.eve_s, options.eve_users).users_at(time.perf_counter() - self.start_time)
        if users is None:
            _stop(self.runner)
            return None
        return users, _SPAWNED_A_SECOND_MAX * max(1, getattr(self.runner, "worker_count", 1))


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: LocustArgumentParser) -> None:
    """Add options to locust's own. The master's values are sent to all workers."""
    add = parser.add_argument
    add("--eve-s", type=float, default=90.0, help="seconds the evening lasts")
    add("--eve-users", type=int, default=200, help="users at midnight")
    add("--eve-rain-shares", type=int, default=sending.RAIN_SHARES, help="shares of a rain; fewer if senders may not")
    add("--eve-run", default=secrets.token_hex(4), help="in every user id and Idempotency-Key of the run")
    add("--data-dir", default=None, help="folder of the installation, whose secret signs the users' tokens")
    secret = {"default": None, "include_in_web_ui": False, "is_secret": True}
    add("--act-token", help="a backend's token, which speaks for all users", **secret)
    add("--admin-token", help="a token that may deposit and make merchants", **secret)
    add("--funded-senders", default="", help="ids of users whose wallets hold money, with commas between them")
    add("--allow-remote", default=None, metavar="HOST", help="the one host, not this machine, that load may go to")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Listen to the other processes. The master, or a single process, sends the first packets."""
    runner = environment.runner
    assert runner is not None
    if not isinstance(runner, MasterRunner):
        runner.register_message("packet_announced", _hear)
    if isinstance(runner, WorkerRunner):
        return
    runner.register_message("packet_sent", _pass_on)
    runner.register_message("ended", _end)
    options = _options(environment)
    try:
        Eve(options.eve_s, options.eve_users)
        environment.host = checked_url(environment.host or "", options.allow_remote)
        client = SimpleClient(environment.host)
        client.check_ready()
        identities = _identities(options)
        client.check_identities(identities, f"eve-{options.eve_run}-host")
        groups = sending.groups_of(options.eve_users)
        seeds, shares = sending.seed(client, identities, options.eve_run, groups, options.eve_rain_shares)
        _seeds[:], options.eve_rain_shares = seeds, shares  # the workers get it with the other options
    except (OperatorError, ValueError) as error:
        print(f"load: {error}", file=sys.stderr)
        sys.exit(1)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Environment, **_: object) -> None:
    """Prepare for users if this process has any, and announce the first packets."""
    runner, options = environment.runner, _options(environment)
    assert runner is not None
    if not isinstance(runner, MasterRunner):
        try:
            checked_url(environment.host or "", options.allow_remote)  # checked again: the value comes from the master
            evenings.begin(_evening(runner, options))
        except OperatorError as error:
            runner.send_message("ended", {"sentence": f"A worker cannot take part: {error}"})
    _log.info(BEGUN)
    for announcement in _seeds:
        runner.send_message("packet_announced", announcement.as_message())


def _stop(runner: Runner) -> None:
    """Stop all users and wait until the workers can quit: only then do they send their last numbers.

    Quitting alone waits half a second for them. And a stopping worker is unknown to its master until it is ready.
    """
    workers = len(runner.clients) if isinstance(runner, MasterRunner) else 0
    runner.stop()
    deadline_s = time.monotonic() + _WORKERS_STOP_S_MAX
    while isinstance(runner, MasterRunner) and len(runner.clients.ready) < workers and time.monotonic() < deadline_s:
        gevent.sleep(0.1)


def _options(environment: Environment) -> Any:  # noqa: ANN401  # argparse's namespace
    return environment.parsed_options


def _evening(runner: Runner, options: Any) -> Evening:  # noqa: ANN401
    return Evening(
        run=options.eve_run,
        process=runner.worker_index,  # type: ignore[attr-defined]  # all that have users have one
        groups=sending.groups_of(options.eve_users),
        rain_shares=options.eve_rain_shares,
        identities=_identities(options),
        board=_board,
        tell=runner.send_message,
    )


def _identities(options: Any) -> Identities:  # noqa: ANN401
    funded = tuple(sender for sender in options.funded_senders.split(",") if sender)
    return Identities(
        Given(
            data_dir=options.data_dir,
            act_token=options.act_token,
            admin_token=options.admin_token,
            funded_senders=funded,
            ttl_s=int(options.eve_s) + 3_600,
        )
    )


def _pass_on(environment: Environment, msg: Any, **_: object) -> None:  # noqa: ANN401  # locust's Message
    assert environment.runner is not None
    environment.runner.send_message("packet_announced", msg.data)


def _hear(msg: Any, **_: object) -> None:  # noqa: ANN401
    _board.announce(Announcement(**msg.data))


def _end(environment: Environment, msg: Any, **_: object) -> None:  # noqa: ANN401
    """End the run: a user got two answers that cannot both be true, or a worker cannot take part."""
    _log.error("ENDED %s", msg.data["sentence"])
    environment.process_exit_code = 1
    assert environment.runner is not None
    gevent.spawn(environment.runner.quit)
