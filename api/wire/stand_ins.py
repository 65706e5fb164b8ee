"""What a connection puts in the place of uvicorn's own parts."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable, Sized

from uvicorn.protocols.http.flow_control import FlowControl


class Plain:
    """A plain claim in the place of uvicorn's cycle: as long as it is not complete, later requests queue."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.message_event = asyncio.Event()  # uvicorn sets it when the client is gone; nobody waits
        self.keep_alive, self.response_complete, self.disconnected = True, True, False


class Refusal(Plain):
    """What is not a request, in the place of uvicorn's cycle: it is refused after the answers to what came before."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        super().__init__()
        self.response_complete, self._refuse = False, refuse

    async def run_asgi(self, _app: object) -> None:
        """Its turn has come."""
        self._refuse()


class Flow(FlowControl):
    """Reads no further while requests wait that have been read; uvicorn's own would, once for each it answers."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    @property
    def unread(self) -> int:
        """How many bytes the system holds that were not read."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return 0
        count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]
        return count

    def resume_reading(self) -> None:
        """Read on, if there is nothing left to begin."""
        if not self._pipeline:
            super().resume_reading()
