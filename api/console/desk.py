"""What one console process has: the engine's use cases, the operators, and what pages are made of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.addresses import Addresses
from api.console.badges import Badges
from api.console.live.watching import Live, watching
from api.console.openid.claims import SingleSignOn
from api.console.openid.handshakes import Handshakes
from api.console.openid.opening import opened
from api.console.origins import Origins, origin_of
from api.console.rendering import Templates
from api.console.static_files import StaticFiles
from api.console.texts import Texts
from engine.analysis.runs import Runs
from engine.auditing.heavy import HeavyJobs
from engine.connected import urls_of
from engine.engine import Engine
from engine.ledger.database import Pool, database_pool
from engine.networks import networks_in
from engine.operators.accounts import Operators
from engine.operators.actions import Action, Registry
from engine.operators.approvals import Approvals
from engine.operators.log import OperatorLog
from engine.operators.passwords import Passwords
from engine.operators.sessions import Sessions
from engine.packets.hottest import Hottest
from engine.settings import Settings

LOOKS_AT_ONCE = 2
ACTIONS_AT_ONCE = 2
"""More wait for their turn."""
LOOK_S_MAX = 5.0
"""An operator's search must not starve anything, however wide it is."""
_LOOKING = {
    "default_transaction_read_only": "on",
    "statement_timeout": f"{LOOK_S_MAX:.0f}s",
    "plan_cache_mode": "force_custom_plan",  # a filter that is not set must not cost the index of one that is
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What needs no server: files, templates, texts, who may send what. ``paths``: which pages there are."""

    settings: Settings
    origin: str
    static: StaticFiles
    templates: Templates
    texts: Texts
    origins: Origins
    addresses: Addresses
    paths: frozenset[str]
    single_sign_on: SingleSignOn | None
    handshakes: Handshakes

    @classmethod
    def of(cls, settings: Settings, port: int, paths: frozenset[str]) -> "Front":
        """Read all files once. ``paths``: those of all pages. Raises OperatorError if a setting cannot be used."""
        static, origin = StaticFiles(), origin_of(settings, port)
        return cls(
            settings=settings,
            origin=origin,
            static=static,
            templates=Templates(static),
            texts=Texts(),
            origins=Origins(settings, port),
            addresses=Addresses(networks_in(settings.trusted_proxies), settings.address_header),
            paths=paths,
            single_sign_on=opened(settings, origin),
            handshakes=Handshakes(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Open with ``async with Desk.open(front, actions) as desk``.

    ``looks``: a small pool for the pages' own reads. It writes nothing, and ends what takes more than five seconds.
    ``approvals`` has a small pool of its own, too.
    """

    front: Front
    settings: Settings
    engine: Engine
    looks: Pool
    operators: Operators
    sessions: Sessions
    log: OperatorLog
    approvals: Approvals
    actions: "Registry[Desk]"
    live: Live
    jobs: HeavyJobs
    studies: Runs
    badges: Badges

    @classmethod
    @asynccontextmanager
    async def open(cls, front: Front, actions: "list[Action[Desk]]") -> AsyncIterator["Desk"]:
        """Connect, and close everything at the end. Raises OperatorError if a server does not answer."""
        settings = front.settings
        async with (
            Engine.open(settings) as engine,
            _pool(settings, LOOKS_AT_ONCE, timeout_s=2 * LOOK_S_MAX, for_each=_LOOKING) as looks,
            _pool(settings, ACTIONS_AT_ONCE, timeout_s=settings.database_timeout_s) as acting,
        ):
            pool = engine.pool
            jobs, studies = HeavyJobs(settings), Runs(settings)
            try:
                async with watching(settings, engine.lag, Hottest(looks)) as live:
                    yield cls(
                        front=front,
                        settings=settings,
                        engine=engine,
                        looks=looks,
                        operators=Operators(pool, Passwords(settings.payment_password_hash_kib)),
                        sessions=Sessions(pool),
                        log=OperatorLog(pool, looks),
                        approvals=Approvals(pool, acting, needs_two=settings.console_four_eyes),
                        actions=Registry(actions),
                        live=live,
                        jobs=jobs,
                        studies=studies,
                        badges=Badges(looks, engine.store),
                    )
            finally:
                await studies.close()
                await jobs.close()


@asynccontextmanager
async def _pool(
    settings: Settings, connections_max: int, *, timeout_s: float, for_each: dict[str, str] | None = None
) -> AsyncIterator[Pool]:
    """A pool that is closed at the end. ``for_each``: Postgres's settings of each connection."""
    url = urls_of(settings).database
    pool = await database_pool(url, connections_max=connections_max, timeout_s=timeout_s, settings=for_each)
    try:
        yield pool
    finally:
        await pool.close()
