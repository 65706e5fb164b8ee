"""Keeps child processes running until a stop signal, and leaves none behind."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from engine.supervision.backoff import Backoff
from engine.supervision.child import Process
from engine.supervision.hangup import Hangup
from engine.supervision.service import Service, wait_started

_POLL_S = 0.05
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = structlog.get_logger("supervisor")


@dataclass(slots=True)
class _Child:
    service: Service
    process: Process | None = None
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Runs services as child processes. Use it with ``async with`` in the main thread's event loop.

    Children that start together stop together, and later ones stop earlier. A child that dies is started again after a
    delay, and this is logged. SIGINT and SIGTERM end the block at any point, as if it had returned. On SIGHUP, the
    children that support it read their files again. If the terminal has closed, SIGHUP ends the block, too.
    Leaving the block in any way stops every child. If this process is killed, the kernel stops them (Linux).
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._stages: list[list[_Child]] = []
        self._in_between: list[tuple[int, Callable[[], Awaitable[None]]]] = []
        self._hangup, self._signalled = Hangup(), False
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Take over the stop signals."""
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Stop every child. A stop signal is not an error."""
        self._stopping = True
        stopping = asyncio.create_task(self._stop_all())
        cancelled = kind is asyncio.CancelledError
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:  # first wait until every child is gone
                cancelled = True
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
        stopping.result()
        ours = self._signalled and self._task is not None and self._task.uncancel() == 0
        if cancelled and not ours and kind is None:
            raise asyncio.CancelledError
        return ours and kind is asyncio.CancelledError

    def in_between(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` at the stop: after the children that start later have stopped, before those that already run."""
        self._in_between.append((len(self._stages), work))

    async def start(self, *services: Service) -> None:
        """Start services and return when all are ready. Raises OperatorError if one cannot be started."""
        stage = [_Child(service) for service in services]
        self._stages.append(stage)
        for child in stage:
            await self._launch(child)
        for child in stage:
            if child.process is not None:
                await asyncio.to_thread(wait_started, child.service, child.process)
            child.keeper = asyncio.create_task(self._keep(child))

    async def wait(self) -> None:
        """Wait for a stop signal, which ends the ``async with`` block."""
        await asyncio.Event().wait()

    def pids(self) -> dict[str, int]:
        """The process ids of the running children, by name."""
        children = [child for stage in self._stages for child in stage]
        return {
            child.service.name: child.process.pid
            for child in children
            if child.process is not None and child.process.exit_code() is None
        }

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signalled or self._stopping:
            return
        self._signalled = True
        if self._task is not None:
            self._task.cancel()
        _log.info("stopping", signal=signal.Signals(number).name)  # last: the log's destination may be gone

    def _on_hangup(self) -> None:
        if self._hangup.is_of_the_terminal():
            self._on_signal(signal.SIGHUP)
            return
        for child in (child for stage in self._stages for child in stage if child.keeper is not None):
            process = child.process
            if process is not None and process.command.reload_signal is not None:
                process.signal(process.command.reload_signal)
                _log.info("asked to read its files again", child=child.service.name)

    async def _launch(self, child: _Child) -> None:
        """Prepare in another thread, because it may take long. Spawn in this one: its end also ends the child."""
        preparing = asyncio.ensure_future(asyncio.to_thread(child.service.prepare))
        try:
            await asyncio.shield(preparing)
        except asyncio.CancelledError:  # the thread cannot be stopped, and must end before the data directory's lock
            await asyncio.wait([preparing])
            raise
        child.process = Process(child.service.command())
        self._pid_file(child).write_text(f"{child.process.pid}\n", encoding="utf-8")

    async def _keep(self, child: _Child) -> None:
        """Start the child again whenever it has ended."""
        backoff = Backoff()
        while child.process is not None:
            exit_code = child.process.exit_code()
            if exit_code is None:
                await asyncio.sleep(_POLL_S)
                continue
            delay_s = backoff.delay_s(ran_s=time.monotonic() - child.process.started_at_s)
            self._pid_file(child).unlink(missing_ok=True)
            _log.warning(
                "child ended",
                child=child.service.name,
                pid=child.process.pid,
                **_ending(exit_code),
                complaint=child.process.complaint(),
                restart_in_s=delay_s,
            )
            await asyncio.sleep(delay_s)
            await self._relaunch(child)

    async def _relaunch(self, child: _Child) -> None:
        try:
            await self._launch(child)
        except Exception as error:  # the next round tries again, with a longer delay
            _log.exception("child not restarted", child=child.service.name, error=str(error))
        else:
            _log.info("child restarted", child=child.service.name, pid=child.process.pid if child.process else None)

    async def _stop_all(self) -> None:
        keepers = [child.keeper for stage in self._stages for child in stage if child.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for number in range(len(self._stages), -1, -1):
            for place, work in self._in_between:
                if place == number:
                    await _outlived(work)
            if number:
                await asyncio.gather(*(self._stop(child) for child in self._stages[number - 1]))

    async def _stop(self, child: _Child) -> None:
        """Send its stop signal, wait for a bounded time, then send SIGKILL."""
        process = child.process
        if process is None:
            return
        process.signal(process.command.stop_signal)
        deadline_s = time.monotonic() + process.command.stop_timeout_s
        while process.exit_code() is None and time.monotonic() < deadline_s:  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(_POLL_S)
        killed = process.exit_code() is None
        process.kill()
        self._pid_file(child).unlink(missing_ok=True)
        if killed:
            _log.warning("child killed", child=child.service.name, waited_s=process.command.stop_timeout_s)

    def _pid_file(self, child: _Child) -> Path:
        return self._run_dir / f"{child.service.name}.pid"


async def _outlived(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work. If it fails, the remaining children must still be stopped."""
    try:
        await work()
    except Exception:
        _log.exception("the work between two stops has failed")


def _ending(exit_code: int) -> dict[str, int | str]:
    if exit_code >= 0:
        return {"exit_code": exit_code}
    with contextlib.suppress(ValueError):
        return {"signal": signal.Signals(-exit_code).name}
    return {"signal": str(-exit_code)}
