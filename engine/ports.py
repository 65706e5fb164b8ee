"""TCP ports of this machine."""

import socket

from engine.errors import OperatorError


def check_port_free(host: str, port: int) -> None:
    """Raise OperatorError when an address is taken or not ours.

    Our API processes share their port (SO_REUSEPORT), which would let them share it with a stranger's as well.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not count
            probe.bind(address)
    except OSError as error:
        raise OperatorError(
            f"Port {port} of {host} cannot be used ({error.strerror}): free it or choose another with --port."
        ) from None
