"""TCP ports of this machine."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from engine.errors import OperatorError


@contextlib.contextmanager
def held(host: str, port: int) -> Iterator[int]:
    """Hold a port (0: any free one) for our own processes while the block runs. Returns its number.

    Our API processes share their port (SO_REUSEPORT). A stranger's process could share it, too, so a port that is taken
    is refused. If a port were found and released first, an outgoing connection might take it before it is bound. So it
    is held by a socket that is bound but does not listen: it accepts no connection, and Linux lets a server with
    SO_REUSEADDR listen beside it. Raises OperatorError if the address is taken or not ours.
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
    """The family of an IP address. Raises OperatorError for a name, because a name may have several addresses."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise OperatorError(f"HONGBAO_HOST must be an IP address, not {host!r}.") from None
