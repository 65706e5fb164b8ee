"""`hongbao link`: the address of a page with a user's token in it, to try the page at once."""

import socket
import sys
from ipaddress import ip_address
from typing import Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, show
from engine.errors import OperatorError
from engine.ids import NUMBER_RULE, is_packet_number
from engine.observability import logs
from engine.settings import Settings

_ELSEWHERE = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737). Nothing is sent there: the system only chooses its own address for it."""


def link(
    *,
    user: Annotated[str, typer.Option("--user", help="Whose page it is.")],
    packet: Annotated[str | None, typer.Option("--packet", help="The number of a packet.")] = None,
    campaign: Annotated[str | None, typer.Option("--campaign", help="The number of a campaign.")] = None,
    ttl_s: Annotated[int, typer.Option("--ttl-s", min=1, help="Seconds until the token expires.")] = 3_600,
    url: Annotated[
        str | None, typer.Option("--url", help="The server. Default: HONGBAO_PUBLIC_URL, or its host and port.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65_535, help="The server's port.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Draw it as a QR code, for a phone.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a page's address with a user's token. Whoever opens it is that user until the token expires."""
    from engine.access import tokens

    logs.configure("link")
    settings = Settings.load(data_dir=data_dir, port=port, public_url=url)
    path = _path(packet, campaign)
    origin = settings.public_url or _origin(settings)
    address = f"{origin}{path}#t={tokens.issue_by(settings, user, ['claim'], ttl_s)}"
    if as_json:
        show(orjson.dumps({"address": address, "user": user, "ttl_s": ttl_s}).decode())
        return
    show(address)
    if qr:
        import segno

        segno.make_qr(address, error="l").terminal(compact=True)
    if not settings.public_url and settings.host in ("127.0.0.1", "::1", "localhost"):
        why = "Only this machine reaches that address. For a phone, start the server with HONGBAO_HOST=0.0.0.0."
        print(why, file=sys.stderr)  # noqa: T201


def _path(packet: str | None, campaign: str | None) -> str:
    if (packet is None) == (campaign is None):
        raise OperatorError("Name one page: --packet NUMBER or --campaign NUMBER.")
    if packet is not None:
        if not is_packet_number(packet):
            raise OperatorError(f"The packet's number {NUMBER_RULE}.")
        return f"/p/{packet}"
    if campaign is None or not (campaign.isascii() and campaign.isdecimal()):
        raise OperatorError("The campaign's number must be a whole number.")
    return f"/c/{campaign}"


def _origin(settings: Settings) -> str:
    scheme = "http" if settings.tls_certificate is None else "https"
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104  # it is compared, not listened on
        host = _own_address()
    try:
        is_v6 = ip_address(host).version == 6
    except ValueError:
        is_v6 = False
    return f"{scheme}://{f'[{host}]' if is_v6 else host}:{settings.port}"


def _own_address() -> str:
    """This machine's address in its network, as far as the system knows; without a network, its own for itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
