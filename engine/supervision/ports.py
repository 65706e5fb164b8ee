"""TCP ports of this machine."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from engine.errors import OperatorError


@contextlib.contextmanager
def held(host: str, port: int) -> Iterator[int]:
    """Keep a port (0: any free one) for our own processes for as long as the block runs; returns which.

    Our API processes share their port (SO_REUSEPORT), which would let them share it with a stranger's as well, so one
    that is taken is refused. A port that was looked for, let go and bound later may be somebody's outgoing connection
    by then, so it is held: a socket that is bound and does not listen takes no connection, and Linux lets a server
    with SO_REUSEADDR listen beside it. Raises OperatorError when an address is taken or not ours.
    """
    with socket.socket(family_of(host)) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not count
        try:
            holder.bind((host, port))
        except OSError as error:
            raise OperatorError(_unusable(host, port, error)) from None
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # other systems than Linux ask for this as well
        yield int(holder.getsockname()[1])


def _unusable(host: str, port: int, error: OSError) -> str:
    if port == 0:
        return f"HONGBAO_HOST {host} cannot be used: {error.strerror}."
    return f"Port {port} of {host} cannot be used ({error.strerror}): free it or choose another with --port."


def family_of(host: str) -> socket.AddressFamily:
    """The family of an IP address. Raises OperatorError for what is none: a name may stand for several."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise OperatorError(f"HONGBAO_HOST must be an IP address, not {host!r}.") from None
