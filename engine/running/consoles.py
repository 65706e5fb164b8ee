"""The console of an installation: its port under `hongbao up`, where browsers reach it, and its first operator."""

import contextlib
from collections.abc import Callable, Iterator

from engine.access import tls
from engine.errors import OperatorError
from engine.ledger.database import database_pool
from engine.operators.accounts import Operators
from engine.operators.log import COMMAND_LINE, OK, OperatorLog
from engine.operators.passwords import Passwords
from engine.operators.roles import ADMIN
from engine.settings import Settings
from engine.supervision import ports

DEFAULT_PORT = 8081
FIRST = "admin"
"""The first operator's name."""
_FILE = "console.address"
_PORT_MAX = 65_535


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[int | None]:
    """Hold the console's port while the block runs. Returns its number, or None if no console is wanted.

    Raises OperatorError if it is taken.
    """
    port = settings.console_port
    if port is None and settings.port != 0:  # who lets the API's port be chosen knows no port beside it
        port = settings.port + 1 if settings.port < _PORT_MAX else settings.port - 1
    if not port:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            number = stack.enter_context(ports.held(settings.console_host, port))
        except OperatorError:
            raise OperatorError(
                f"The console cannot listen on {settings.console_host} port {port}: free it, or set "
                "HONGBAO_CONSOLE_PORT to another one, or to 0 for no console."
            ) from None
        yield number


async def tell(settings: Settings, port: int, say: Callable[[str], None]) -> None:
    """Say where the console is and, as long as nobody can sign in, with which link the first operator begins.

    Raises OperatorError, UnavailableError.
    """
    address = settings.console_origin or _direct(settings, port)
    (settings.data_dir / "run" / _FILE).write_text(f"{address}\n", encoding="utf-8")
    say(f"console {address}")
    link = await _first_link(settings)
    if link is not None:
        say(f"first operator {address}/setup/{link} (within ten minutes, once)")


def address_of(settings: Settings) -> str:
    """Where browsers reach the console: by the settings or, if none says, as `hongbao up` has noted it."""
    if settings.console_origin is not None:
        return settings.console_origin
    noted = settings.data_dir / "run" / _FILE
    if settings.console_port is None and noted.exists():
        return noted.read_text(encoding="utf-8").strip()
    return _direct(settings, settings.console_port or DEFAULT_PORT)


async def _first_link(settings: Settings) -> str | None:
    pool = await database_pool(settings.database_url or "", connections_max=2, timeout_s=settings.database_timeout_s)
    try:
        operators = Operators(pool, Passwords(settings.payment_password_hash_kib))
        if await operators.is_any_set_up():
            return None
        if any(view.name == FIRST for view in await operators.list()):
            link = await operators.reset(FIRST)
            await operators.enable(FIRST)
        else:
            link = await operators.add(FIRST, ADMIN, by=COMMAND_LINE.name)
        await OperatorLog(pool).write(COMMAND_LINE, "link for the first operator", OK, subject=("operator", FIRST))
        return link
    finally:
        await pool.close()


def _direct(settings: Settings, port: int) -> str:
    host = settings.console_host
    return f"{'https' if tls.is_on(settings) else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
