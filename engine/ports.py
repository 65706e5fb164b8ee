"""TCP ports of this machine."""

import ipaddress
import socket

from engine.errors import OperatorError


def check_port_free(host: str, port: int) -> None:
    """Raise OperatorError when an address is taken or not ours.

    Our API processes share their port (SO_REUSEPORT), which would let them share it with a stranger's as well.
    """
    try:
        with socket.socket(family_of(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not count
            probe.bind((host, port))
    except OSError as error:
        raise OperatorError(
            f"Port {port} of {host} cannot be used ({error.strerror}): free it or choose another with --port."
        ) from None


def free_port(host: str) -> int:
    """A port of ``host`` that nobody uses at this moment. Raises OperatorError when the address is not ours."""
    try:
        with socket.socket(family_of(host)) as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise OperatorError(f"HONGBAO_HOST {host} cannot be used: {error.strerror}.") from None


def family_of(host: str) -> socket.AddressFamily:
    """The family of an IP address. Raises OperatorError for what is none: a name may stand for several."""
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise OperatorError(f"HONGBAO_HOST must be an IP address, not {host!r}.") from None
