"""What gets lost between the Python client and a real server: never two packets, and the same amount."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from hongbao_client import (
    NEVER,
    NoAnswerError,
    RefusedError,
    Retries,
    Signer,
    UnavailableError,
    UndecidedError,
    UserMustActError,
    WrongRequestError,
)

from engine.settings import Settings
from tests.support.both_clients import KINDS, QUICK, Both, Kind, client_of
from tests.support.cutting import Cutter, Fault, cutting
from tests.support.front import Client, serving
from tests.support.ports import held_port
from tests.support.scenes import changed

pytestmark = pytest.mark.asyncio(loop_scope="module")
CARRIED_OUT = {fault for fault in Fault if fault not in (Fault.CUT_BEFORE, Fault.SILENT_BEFORE, Fault.STATUS_503)}


@dataclass
class Scene:
    """A real server, the proxy in front of it, and who signs tokens. ``number`` makes users that nobody was before."""

    server: Client
    cutter: Cutter
    signer: Signer
    number: int = 0

    def user(self) -> str:
        """A user that nothing has happened to."""
        self.number += 1
        return f"user-{self.number}"

    async def funded(self) -> str:
        """A user with 5,000 fen."""
        user = self.user()
        await self.server.deposit(user, 5_000)
        return user

    async def balance_fen(self, user: str) -> int:
        """What a user has, by the server itself."""
        answer = await self.server.http.get(f"/v1/wallets/{user}", headers=self.server.as_user(user))
        return int(answer.json()["balance_fen"])

    async def sent(self, user: str) -> int:
        """How many packets a user has sent, by the server itself."""
        answer = await self.server.http.get(f"/v1/users/{user}/packets?role=sent", headers=self.server.as_user(user))
        return len(answer.json()["packets"])

    def next(self, *faults: Fault) -> None:
        """What becomes of the next requests."""
        self.cutter.faults[:] = faults
        self.cutter.got.clear()

    def keys(self) -> list[str]:
        """The keys of the requests since then."""
        return [request.headers["idempotency-key"] for request in self.cutter.got]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(shared_settings: Settings) -> AsyncIterator[Scene]:
    async with serving(shared_settings) as (server, _), cutting(int(server.http.base_url.port or 0)) as cutter:
        yield Scene(server, cutter, Signer(secret=server.secret))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def client(scene: Scene, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    kind: Kind = request.param
    async with client_of(kind, scene.cutter.url, scene.signer.tokens("backend", "act", "admin")) as both:
        yield both


@pytest.mark.parametrize(
    "faults", [[fault] for fault in Fault] + [[Fault.CUT_WITHOUT_ANSWER, Fault.STATUS_504]], ids=str
)
async def test_a_packet_is_sent_once(scene: Scene, client: Both, faults: list[Fault]) -> None:
    user = await scene.funded()
    scene.next(*faults)
    sent = await client.acting_for(user).ask("packets.send", total_fen=1_000, count=3, split="lucky")
    is_answered = faults == [Fault.CUT_AFTER]
    assert len(scene.cutter.got) == (1 if is_answered else len(faults) + 1)
    assert len(set(scene.keys())) == 1
    assert len({request.body for request in scene.cutter.got}) == 1
    assert (await scene.sent(user), await scene.balance_fen(user)) == (1, 4_000)
    assert (await client.acting_for(user).ask("packets.get", sent.packet_id)).total_fen == 1_000


async def test_a_connection_that_the_server_closed_is_not_an_error(scene: Scene, client: Both) -> None:
    user = await scene.funded()
    scene.next(Fault.CUT_AFTER, Fault.CUT_AFTER)
    for _ in range(3):
        await client.acting_for(user).ask("packets.send", total_fen=100, count=1, split="equal")
    assert await scene.sent(user) == 3


@pytest.mark.parametrize("fault", Fault)
async def test_a_claim_that_is_repeated_returns_the_same_amount(scene: Scene, client: Both, fault: Fault) -> None:
    packet_id = await scene.server.send(scene.user(), total_fen=1_000, count=10)
    user = scene.user()
    scene.next(fault)
    claim = await client.acting_for(user).ask("claims.claim", packet_id)
    was_lost = fault in CARRIED_OUT and fault is not Fault.CUT_AFTER
    assert claim.outcome == ("already_claimed" if was_lost else "claimed")
    (listed,) = await client.all("claims.iterate", packet_id)
    assert (listed.user_id, listed.amount_fen) == (user, claim.amount_fen)


@pytest.mark.parametrize("fault", Fault)
async def test_a_deposit_is_made_once(scene: Scene, client: Both, fault: Fault) -> None:
    user = scene.user()
    scene.next(fault)
    made = await client.ask("wallets.deposit", user, amount_fen=700)
    assert (made.balance_fen, await scene.balance_fen(user)) == (700, 700)


@pytest.mark.parametrize("fault", sorted(CARRIED_OUT - {Fault.CUT_AFTER}))
async def test_a_call_that_gave_up_is_finished_with_its_key(scene: Scene, client: Both, fault: Fault) -> None:
    user = await scene.funded()
    terms = {"total_fen": 1_000, "count": 3, "split": "lucky"}
    impatient = Both(
        client.client.with_retries(Retries(tries_max=2, timeout_s=0.5, backoff_s=0.01, backoff_s_max=0.01))
    )
    scene.next(fault, fault)
    with pytest.raises((NoAnswerError, UndecidedError)) as raised:
        await impatient.acting_for(user).ask("packets.send", **terms)
    assert (raised.value.may_have_happened, raised.value.tries) == (True, 2)
    key = raised.value.idempotency_key
    assert set(scene.keys()) == {key}
    first = await client.acting_for(user).ask("packets.send", **terms, idempotency_key=key)
    again = await client.acting_for(user).ask("packets.send", **terms, idempotency_key=key)
    assert (first.packet_id, await scene.sent(user)) == (again.packet_id, 1)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_WITHOUT_ANSWER, Fault.SILENT_AFTER, Fault.STATUS_504])
async def test_what_may_count_as_a_wrong_try_is_not_repeated(scene: Scene, client: Both, fault: Fault) -> None:
    user = scene.user()
    scene.next(fault)
    with pytest.raises((NoAnswerError, UndecidedError)) as raised:
        await client.acting_for(user).ask("wallets.set_payment_password", user, password="135790")
    assert (raised.value.may_have_happened, raised.value.idempotency_key) == (True, None)
    assert len(scene.cutter.got) == 1


async def test_what_was_refused_for_good_is_not_repeated(scene: Scene, client: Both) -> None:
    user = scene.user()
    scene.next()
    with pytest.raises(UserMustActError) as raised:
        await client.acting_for(user).ask("packets.send", total_fen=1_000, count=3, split="lucky")
    assert (raised.value.code, raised.value.may_have_happened, raised.value.tries) == ("insufficient_funds", False, 1)
    with pytest.raises(WrongRequestError) as wrong:
        await client.acting_for(user).ask("packets.send", total_fen=0, count=-1, split="lucky")
    assert [problem.field for problem in wrong.value.fields] == ["count"]
    assert len(scene.cutter.got) == 2


async def test_a_key_of_another_request_is_refused(scene: Scene, client: Both) -> None:
    user = await scene.funded()
    alice = client.acting_for(user)
    await alice.ask("packets.send", total_fen=100, count=1, split="equal", idempotency_key="k")
    with pytest.raises(WrongRequestError) as raised:
        await alice.ask("packets.send", total_fen=200, count=1, split="equal", idempotency_key="k")
    assert (raised.value.code, raised.value.status) == ("idempotency_key_reused", 422)
    with pytest.raises(ValueError, match="visible ASCII"):
        await alice.ask("packets.send", total_fen=200, count=1, split="equal", idempotency_key="红包")


async def test_a_retraction_is_repeated_without_a_key(scene: Scene, client: Both) -> None:
    user = scene.user()
    packet_id = await scene.server.send(user, total_fen=1_000, count=10)
    scene.next(Fault.CUT_WITHOUT_ANSWER)
    assert (await client.acting_for(user).ask("packets.retract", packet_id)).returned_fen == 1_000
    with pytest.raises(RefusedError) as raised:
        await client.acting_for(user).ask("packets.consent_to_retraction", packet_id)
    assert raised.value.code == "not_retractable"


async def test_a_list_is_read_again(scene: Scene, client: Both) -> None:
    packet_id = await scene.server.send(scene.user(), total_fen=1_000, count=10)
    for number in range(6):
        await scene.server.claim(packet_id, f"claimant-{number}")
    scene.next(Fault.CUT_IN_ANSWER, Fault.CUT_BEFORE, Fault.STATUS_503)
    listed = await client.all("claims.iterate", packet_id, limit=2)
    assert [each.user_id for each in listed] == [f"claimant-{number}" for number in range(6)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_ends_it_all(scene: Scene, kind: Kind) -> None:
    brief = Retries(tries_max=50, deadline_s=0.6, timeout_s=0.25, backoff_s=0.01, backoff_s_max=0.01)
    async with client_of(kind, scene.cutter.url, scene.signer.tokens("backend", "act"), brief) as client:
        scene.next(*[Fault.SILENT_BEFORE] * 50)
        with pytest.raises(NoAnswerError) as raised:
            await client.ask("packets.get", await _some_packet(scene))
        assert 2 <= raised.value.tries <= 4
        assert not raised.value.may_have_happened  # it was only a question
    scene.next()


async def _some_packet(scene: Scene) -> str:
    return await scene.server.send(scene.user())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_not_there_was_asked_for_nothing(kind: Kind) -> None:
    with held_port() as port:
        async with client_of(kind, f"http://127.0.0.1:{port}", "token") as client:
            with pytest.raises(NoAnswerError) as raised:
                await client.ask("wallets.set_payment_password", "alice", password="135790")
    assert (raised.value.tries, raised.value.may_have_happened) == (QUICK.tries_max, False)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_of_the_server_is_waited_for(shared_settings: Settings, kind: Kind) -> None:
    """A real 429, with Retry-After: the client returns when it may, and not before."""
    limited = changed(shared_settings, requests_per_user_max=1, rate_window_s=1)
    async with serving(limited) as (server, _), cutting(int(server.http.base_url.port or 0)) as cutter:
        signer = Signer(secret=server.secret)
        async with client_of(kind, cutter.url, signer.tokens(f"quick-{kind}", "send")) as client:
            never = Both(client.client.with_retries(NEVER))
            await client.ask("wallets.get", f"quick-{kind}")
            with pytest.raises(UnavailableError) as raised:
                await never.ask("wallets.get", f"quick-{kind}")
            assert (raised.value.code, raised.value.retry_after_s) == ("rate_limited", 1.0)
            await client.ask("wallets.get", f"quick-{kind}")
            assert len(cutter.got) == 4  # refused once and, a second later, answered
