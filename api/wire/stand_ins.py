"""A connection's replacements for uvicorn's own parts."""

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable, Sized

from uvicorn.protocols.http.flow_control import FlowControl


class Plain:
    """A plain claim in the place of uvicorn's cycle. Later requests queue until it is complete."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.message_event = asyncio.Event()  # uvicorn sets it when the client is gone; nothing waits for it
        self.keep_alive, self.response_complete, self.disconnected = True, True, False


class Refusal(Plain):
    """An invalid request in the place of uvicorn's cycle. It is refused after the answers to earlier requests."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[], None]) -> None:
        super().__init__()
        self.response_complete, self._refuse = False, refuse

    async def run_asgi(self, _app: object) -> None:
        """Refuse it now, because its turn has come."""
        self._refuse()


class Flow(FlowControl):
    """Stops reading while parsed requests wait. uvicorn's own would read on after each answer."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    @property
    def unread(self) -> int:
        """How many received bytes have not been read."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return 0
        count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]
        return count

    def resume_reading(self) -> None:
        """Read on, unless parsed requests are waiting."""
        if not self._pipeline:
            super().resume_reading()
