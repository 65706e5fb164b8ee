"""Plays the schedule's faults on a running engine, and undoes those that can be undone."""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.embedded import servers
from engine.lanes.clients import command
from loadtest.chaos import history
from loadtest.chaos.disk import SmallDisk
from loadtest.chaos.history import History
from loadtest.chaos.processes import Family, send
from loadtest.chaos.proxy import Network
from loadtest.chaos.schedule import CUTS, LOSSES, Fault, Kind

Answer = TypeVar("Answer")
_LOG = "appendonlydir"
"""Redis's log, a folder in its data folder."""
_FOUND_S_MAX = 30.0
_WRITES_S_MAX = 20.0
_POLL_S = 0.05
_COPY_EACH = 5
"""An older copy of Redis's files is taken once per this many faults."""


class NotBackError(Exception):
    """Something that a fault needs did not come back in time."""


@dataclass(slots=True, kw_only=True)
class Breaker:
    """``copy``: the folder for older copies of Redis's files."""

    data_dir: Path
    family: Family
    supervisor_pid: int
    network: Network
    history: History
    copy: Path
    disk: SmallDisk | None = None
    _under_way: set["asyncio.Task[None]"] = field(default_factory=set)
    _stopped: list[psutil.Process] = field(default_factory=list)

    async def play(
        self, faults: Sequence[Fault], told: Callable[[Fault], None], back: Callable[[], Awaitable[None]]
    ) -> None:
        """Play the faults one by one. A lasting fault goes on while the next begins. Raises NotBackError.

        ``back`` waits until the engine serves again. It is called after each loss of Redis's data.
        """
        keeps_copies = any(fault.kind is Kind.REWIND for fault in faults)
        for number, fault in enumerate(faults):
            await asyncio.sleep(fault.after_s)
            if keeps_copies and number % _COPY_EACH == 0:
                await asyncio.to_thread(self._take_copy)
            if fault.kind in LOSSES:
                began_s = self.history.now_s()
                await self._lose(fault)
                await back()
                self._note(fault, began_s, undoes=True)
            else:
                await self.do(fault)
            told(fault)

    async def heal(self) -> None:
        """Wait for the faults in progress. Afterwards nothing is stopped, cut or full."""
        await asyncio.gather(*self._under_way)
        self.undo()

    def undo(self) -> None:
        """Undo everything at once."""
        for task in self._under_way:
            task.cancel()
        send(self._stopped, signal.SIGCONT)
        self._stopped.clear()
        for name in self.network.ports:
            self.network.restore(name)

    async def do(self, fault: Fault) -> None:
        """Begin one fault that loses no data."""
        match fault.kind:
            case Kind.KILL:
                await self._let_start(fault)
                found = await self._found(fault.target)
                began_s = self.history.now_s()
                send(found, signal.SIGKILL)
                self._note(fault, began_s, undoes=fault.target == "redis")
            case Kind.STOP:
                self._meanwhile(self._stop(fault, await self._found(fault.target)))
            case Kind.FULL_DISK:
                await self._fill(fault)
            case kind if kind in CUTS:
                self._meanwhile(self._cut(fault))

    def _meanwhile(self, work: Coroutine[None, None, None]) -> None:
        self._under_way = {task for task in self._under_way if not task.done() or task.exception()}
        self._under_way.add(asyncio.create_task(work))

    async def _let_start(self, fault: Fault) -> None:
        async def is_ready() -> bool:
            return await asyncio.to_thread(self.family.is_ready, fault.target)

        with contextlib.suppress(NotBackError):  # then it is killed during its start
            await until(is_ready, fault.patience_s, "")

    async def _found(self, name: str) -> list[psutil.Process]:
        async def find() -> list[psutil.Process]:
            return self.family.find(name)

        return await until(find, _FOUND_S_MAX, f"{name} did not come back")

    async def _stop(self, fault: Fault, found: list[psutil.Process]) -> None:
        began_s = self.history.now_s()
        self._stopped += found
        send(found, signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        send(found, signal.SIGCONT)
        self._stopped = [process for process in self._stopped if process not in found]
        self._note(fault, began_s)

    async def _cut(self, fault: Fault) -> None:
        began_s = self.history.now_s()
        self.network.cut(fault.target, fault.kind)
        await asyncio.sleep(fault.lasts_s)
        self.network.restore(fault.target)
        self._note(fault, began_s)

    async def _fill(self, fault: Fault) -> None:
        if self.disk is None:
            return
        await self._found("redis")
        began_s = self.history.now_s()
        await asyncio.to_thread(self.disk.fill, self.supervisor_pid)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            await asyncio.to_thread(self.disk.free, self.supervisor_pid)
        await until(self._writes, _WRITES_S_MAX, "Redis did not write again after it had room")
        self._note(fault, began_s)

    async def _writes(self) -> bool:
        with contextlib.suppress(RedisError, OSError):
            async with Redis.from_url(servers.urls(self.data_dir).redis_url) as client:
                told = await command(client, "INFO", "persistence")
                return bool(told["aof_last_write_status"] == "ok")
        return False

    async def _lose(self, fault: Fault) -> None:
        found = await self._found("redis")
        if fault.kind is Kind.REWIND and self.copy.exists():
            send(found, signal.SIGKILL)
            # At once, before the supervisor starts the next one. The folder itself may be a mounted disk.
            for path in self._log_folder().iterdir():
                path.unlink()
            shutil.copytree(self.copy, self._log_folder(), dirs_exist_ok=True)
        else:
            await until(self._flush, _FOUND_S_MAX, "Redis did not take FLUSHALL")

    async def _flush(self) -> bool:
        with contextlib.suppress(RedisError, OSError):
            async with Redis.from_url(servers.urls(self.data_dir).redis_url) as client:
                await command(client, "FLUSHALL")
                return True
        return False

    def _take_copy(self) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        with contextlib.suppress(shutil.Error, OSError):  # the log is being rewritten: skip the copy this time
            shutil.copytree(self._log_folder(), self.copy)

    def _log_folder(self) -> Path:
        folder = self.data_dir / "redis"
        return (folder if self.disk is None else self.disk.seen(self.supervisor_pid)) / _LOG

    def _note(self, fault: Fault, began_s: float, *, undoes: bool = False) -> None:
        record = history.Fault(
            began_s=began_s, ended_s=self.history.now_s(), kind=fault.kind, target=fault.target, undoes=undoes
        )
        self.history.add(record)


async def until(
    ask: Callable[[], Awaitable[Answer]], seconds: float, otherwise: str, poll_s: float = _POLL_S
) -> Answer:
    """The first true answer. If it takes too long, raises NotBackError that says what did not happen."""
    deadline_s = time.monotonic() + seconds
    while not (answer := await ask()):
        if time.monotonic() > deadline_s:
            raise NotBackError(f"{otherwise} within {seconds:.0f} s.")
        await asyncio.sleep(poll_s)
    return answer
