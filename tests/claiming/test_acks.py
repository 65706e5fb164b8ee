"""When claims are acknowledged, by the setting and by what a packet's sender asks for; nothing is told too early."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from engine.claiming.acks import Acks
from engine.claiming.batcher import Batcher
from engine.claiming.checkpoints import APPLICATION, Checkpoints
from engine.claiming.finished import Finished
from engine.engine import Engine
from engine.errors import InvalidFieldsError, OverloadedError, UnconfirmedError
from engine.packets.terms import terms_from
from engine.records import Ack, ClaimResult, Outcome, SplitKind, strongest
from engine.settings import Settings
from tests.support.front import Client, new_key, open_front
from tests.support.own_redis import in_step, own_redis, valkey
from tests.support.scenes import caught_up, changed, persisting, send
from tests.support.waiting import wait_until

SOON_S = 0.3
"""A timeout for those who wait in vain."""
ORDER = ["memory", "fsync", "replica", "ledger"]


@pytest.fixture
def ledger_settings(settings: Settings) -> Settings:
    return changed(settings, ack=Ack.LEDGER, lanes=1, ack_timeout_s=30)


@pytest.fixture
async def engine(ledger_settings: Settings) -> AsyncIterator[Engine]:
    async with Engine.open(ledger_settings) as opened:
        yield opened


async def in_ledger(engine: Engine, packet_id: str, user_id: str) -> int | None:
    """The amount of a claim that has been committed."""
    amount: int | None = await engine.pool.fetchval(
        "SELECT amount_fen FROM transfers JOIN accounts ON account_id = to_account "
        "WHERE transfers.kind = 'claim' AND from_account = $1 AND owner = $2",
        int(packet_id),
        user_id,
    )
    return amount


class TestWhichModeHolds:
    @pytest.mark.parametrize("setting", Ack)
    @pytest.mark.parametrize("asked", [None, *Ack])
    def test_a_packet_can_only_ask_for_more(self, setting: Ack, asked: Ack | None) -> None:
        settings = Settings.model_construct(ack=setting)
        common: dict[str, Any] = {"total_fen": 100, "count": 1, "split": SplitKind.EQUAL}
        is_weaker = asked is not None and ORDER.index(asked) < ORDER.index(setting)
        if is_weaker:
            with pytest.raises(InvalidFieldsError) as caught:
                terms_from(settings=settings, ack=asked, **common)
            assert [problem.field for problem in caught.value.problems] == ["ack"]
        else:
            assert terms_from(settings=settings, ack=asked, **common).ack is asked
            assert strongest(setting, asked) is (asked or setting)
        stronger = max(ORDER.index(setting), ORDER.index(asked or setting))
        assert strongest(setting, asked) == ORDER[stronger]

    @pytest.mark.parametrize("setting", Ack)
    async def test_over_http(self, settings: Settings, setting: Ack, tmp_path: Path) -> None:
        options = {"appendfsync": "always", "repl_diskless_sync_delay": "0"}
        with (
            own_redis(valkey(), tmp_path / "redis", **options) as server,
            own_redis(valkey(), tmp_path / "replica", replicaof=f"127.0.0.1 {server.port}") as replica,
        ):
            await server.start()
            await replica.start()
            await in_step(server)
            await self.over_http(changed(settings, redis_url=server.url, ack=setting), setting)

    async def over_http(self, settings: Settings, setting: Ack) -> None:
        async with open_front(settings) as client:
            await client.deposit("alice", 1_000)
            for asked in (None, *ORDER, "sometimes"):
                terms = {"total_fen": 100, "count": 1, "split": "lucky"} | ({} if asked is None else {"ack": asked})
                headers = client.as_user("alice") | new_key()
                answer = await client.http.post("/v1/packets", json=terms, headers=headers)
                if asked == "sometimes" or (asked is not None and ORDER.index(asked) < ORDER.index(setting)):
                    assert answer.status_code == 422, answer.text
                    assert [problem["field"] for problem in answer.json()["errors"]] == ["ack"]
                    continue
                assert answer.status_code == 201, answer.text
                path = f"/v1/packets/{answer.json()['packet_id']}"
                seen = (await client.http.get(path, headers=headers)).json()
                assert seen["ack"] == (asked or setting)

    async def test_what_was_asked_for_is_kept_whatever_the_setting_becomes(self, engine: Engine) -> None:
        packet_id = (await send(engine, ack=Ack.LEDGER)).packet_id
        plain = (await send(engine)).packet_id
        rows = await engine.pool.fetch("SELECT packet_id::text, ack FROM packets")
        assert {row["packet_id"]: row["ack"] for row in rows} == {packet_id: "ledger", plain: None}
        async with Engine.open(changed(engine.settings, ack=Ack.MEMORY)) as other:
            assert [(await other.views.packet(number)).ack for number in (packet_id, plain)] == ["ledger", "memory"]


class TestLedger:
    async def test_what_is_acknowledged_is_in_the_ledger_at_that_moment(self, engine: Engine) -> None:
        packets = [(await send(engine, count=100, total_fen=10_000)).packet_id for _ in range(10)]

        async def claim(number: int) -> None:
            packet_id, user_id = packets[number % 10], f"user{number}"
            result = await engine.claims.claim(packet_id, user_id)
            assert result.outcome is Outcome.CLAIMED
            assert await in_ledger(engine, packet_id, user_id) == result.amount_fen

        async with persisting(engine.settings):
            await asyncio.gather(*map(claim, range(1_000)))

    @pytest.mark.parametrize(("setting", "asked"), [(Ack.LEDGER, None), (Ack.MEMORY, Ack.LEDGER)])
    async def test_the_persister_does_not_linger_while_somebody_waits(
        self, ledger_settings: Settings, setting: Ack, asked: Ack | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("engine.persisting.persister._LINGER_S", 3_600.0)
        settings = changed(ledger_settings, ack=setting)
        async with Engine.open(settings) as engine:
            packet_id = (await send(engine, ack=asked)).packet_id
            async with persisting(settings):
                for number in range(10):
                    assert (await engine.claims.claim(packet_id, f"user{number}")).outcome is Outcome.CLAIMED

    async def test_without_a_persister_it_is_unconfirmed_and_told_later(self, ledger_settings: Settings) -> None:
        settings = changed(ledger_settings, ack_timeout_s=SOON_S)
        async with Engine.open(settings) as engine:
            packet_id, before = (await send(engine)).packet_id, unconfirmed_claims()
            for _ in range(2):  # a repeat is told no sooner
                with pytest.raises(UnconfirmedError):
                    await engine.claims.claim(packet_id, "bob")
            assert unconfirmed_claims() - before == 2
            assert await in_ledger(engine, packet_id, "bob") is None
            async with persisting(settings):
                await caught_up(engine)
                result = await engine.claims.claim(packet_id, "bob")
                assert result == ClaimResult(Outcome.ALREADY, await in_ledger(engine, packet_id, "bob") or 0)

    async def test_over_http_it_is_a_503_that_says_when_to_ask_again(self, ledger_settings: Settings) -> None:
        async with open_front(changed(ledger_settings, ack_timeout_s=SOON_S)) as client:
            packet_id = await client.send("alice")
            path = f"/v1/packets/{packet_id}/claims"
            answer = await client.http.post(path, headers=client.as_user("bob"))
            assert (answer.status_code, answer.json()["code"]) == (503, "unconfirmed")
            assert int(answer.headers["retry-after"]) >= 1
            results = await claim_many(client, [(packet_id, "bob"), (packet_id, "carol"), ("10" + "0" * 17, "bob")])
            assert [result.get("code") for result in results] == ["unconfirmed", "unconfirmed", "unknown_packet"]
            async with persisting(ledger_settings):
                results = await wait_until_confirmed(client, [(packet_id, "bob"), (packet_id, "carol")])
                assert [result["outcome"] for result in results] == ["already_claimed"] * 2
                assert (await client.claim(packet_id, "bob"))["amount_fen"] == results[0]["amount_fen"]

    async def test_who_loses_is_told_at_once(self, engine: Engine) -> None:
        packet_id = (await send(engine, count=1)).packet_id
        winner = asyncio.create_task(engine.claims.claim(packet_id, "bob"))
        await wait_until(lambda: engine.store.claims(packet_id), what="the share being given")
        assert await engine.claims.claim(packet_id, "carol") == ClaimResult(Outcome.EMPTY, 0)
        assert not winner.done()
        async with persisting(engine.settings):
            assert (await winner).outcome is Outcome.CLAIMED

    async def test_a_lost_listener_is_replaced(self, engine: Engine) -> None:
        packet_id = (await send(engine, count=50)).packet_id

        async def listeners() -> set[int]:
            rows = await engine.pool.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = $1", APPLICATION)
            return {row["pid"] for row in rows}

        async with persisting(engine.settings):
            await engine.claims.claim(packet_id, "first")
            before = await listeners()
            assert len(before) == 1
            for number in range(3):
                waiting = [asyncio.create_task(engine.claims.claim(packet_id, f"{number}-{user}")) for user in "abc"]
                await engine.pool.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", APPLICATION
                )
                assert {result.outcome for result in await asyncio.gather(*waiting)} == {Outcome.CLAIMED}
            await wait_until(listeners, what="a new listener")
            assert not await listeners() & before

    async def test_a_position_counts_under_its_lanes_word_alone(self, engine: Engine) -> None:
        """A lane that was rebuilt, or a Redis that was set back, comes by the same positions with other changes."""
        packet_id = (await send(engine)).packet_id
        async with persisting(engine.settings):
            await engine.claims.claim(packet_id, "bob")
        checkpoints = Checkpoints(engine.settings.database_url or "")
        status = await engine.store.lane_status(0)
        assert status is not None
        await asyncio.wait_for(checkpoints.reached(0, status.lane_token, status.position), 20)
        for lane_token, position in (("another@one", status.position), (status.lane_token, status.position + 1)):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(checkpoints.reached(0, lane_token, position), SOON_S)
        await checkpoints.close()


class TestOverride:
    """A packet's own wish, where the setting is memory; nothing carries claims into the ledger unless it says so."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return changed(settings, lanes=1, ack_timeout_s=SOON_S)

    @pytest.fixture
    async def engine(self, settings: Settings) -> AsyncIterator[Engine]:
        async with Engine.open(settings) as opened:
            yield opened

    async def test_each_claim_waits_for_its_own_packet_only(self, engine: Engine) -> None:
        strong, plain = (await send(engine, ack=Ack.LEDGER)).packet_id, (await send(engine)).packet_id
        claims = [(strong, "ada"), (plain, "ada"), (strong, "bob"), (plain, "bob")]
        one_by_one = [asyncio.create_task(engine.claims.claim(*claim)) for claim in claims]
        ended: list[asyncio.Task[ClaimResult]] = []
        for task in one_by_one:
            task.add_done_callback(ended.append)
        await asyncio.wait(one_by_one)
        assert set(ended[:2]) == {one_by_one[1], one_by_one[3]}
        told = await asyncio.gather(*one_by_one, return_exceptions=True)
        assert [type(answer) for answer in told] == [UnconfirmedError, ClaimResult, UnconfirmedError, ClaimResult]
        together = await engine.claims.claim_many([*claims, (plain, "eve")])
        assert [type(answer) for answer in together] == [*map(type, told), ClaimResult]
        async with persisting(engine.settings):
            await caught_up(engine)
            assert [result.outcome for result in map(as_result, await engine.claims.claim_many(claims))] == ["A"] * 4

    async def test_calls_go_on_while_others_wait(self, engine: Engine) -> None:
        """More of them than there are connections to Redis."""
        settings = changed(engine.settings, ack_timeout_s=30)
        async with Engine.open(settings) as patient:
            strong, plain = (await send(patient, ack=Ack.LEDGER, count=100)).packet_id, (await send(patient)).packet_id
            waiting = []
            for number in range(30):
                waiting.append(asyncio.create_task(patient.claims.claim(strong, f"user{number}")))

                async def is_decided(number: int = number) -> bool:
                    return len(await patient.store.claims(strong)) == number + 1

                await wait_until(is_decided, what="the claim being decided")
            for number in range(5):
                result = await asyncio.wait_for(patient.claims.claim(plain, f"user{number}"), 15)
                assert result.outcome is Outcome.CLAIMED
            assert not any(task.done() for task in waiting)
            async with persisting(settings):
                assert {result.outcome for result in await asyncio.gather(*waiting)} == {Outcome.CLAIMED}

    async def test_what_waits_is_bounded(self, engine: Engine) -> None:
        strong = (await send(engine, ack=Ack.LEDGER, count=20)).packet_id
        settings = engine.settings.model_copy(update={"claim_queue_max": 10})  # smaller than it may be set
        acks = Acks(settings, engine.topology, Checkpoints(settings.database_url or ""))
        batcher = Batcher(engine.store, 0, settings, set(), acks)
        waiting = [batcher.claim(strong, f"user{number}") for number in range(10)]
        await wait_until(lambda: batcher.unconfirmed == 10, what="all of them being decided")
        with pytest.raises(OverloadedError):
            batcher.claim(strong, "one more")
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in told} == {UnconfirmedError}
        assert batcher.unconfirmed == 0
        await batcher.close()

    async def test_a_packet_that_has_ended_is_not_answered_for_before_the_ledger_has_its_end(
        self, engine: Engine
    ) -> None:
        strong = (await send(engine, ack=Ack.LEDGER, count=1)).packet_id
        finished = Finished(engine.store, engine.acks)
        with pytest.raises(UnconfirmedError):
            await engine.claims.claim(strong, "ada")

        async def learn() -> ClaimResult | None:
            finished.learn(strong)
            await wait_until(lambda: not finished.loading, what="its being read")
            return finished.answer(strong, "ada")

        assert await learn() is None
        async with persisting(engine.settings):
            await caught_up(engine)
            assert await wait_until(learn, what="its being remembered") == ClaimResult(Outcome.ALREADY, 1_000)
        await finished.close()


def unconfirmed_claims() -> float:
    """As the metrics count them."""
    return REGISTRY.get_sample_value("hongbao_unconfirmed_total", {"ack": "ledger"}) or 0.0


def as_result(answer: object) -> ClaimResult:
    assert isinstance(answer, ClaimResult), answer
    return answer


async def claim_many(client: Client, claims: list[tuple[str, str]]) -> list[dict[str, Any]]:
    body = {"claims": [{"packet_id": packet_id, "user_id": user_id} for packet_id, user_id in claims]}
    answer = await client.http.post("/v1/claims", json=body, headers=client.as_backend())
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


async def wait_until_confirmed(client: Client, claims: list[tuple[str, str]]) -> list[dict[str, Any]]:
    async def confirmed() -> list[dict[str, Any]]:
        results = await claim_many(client, claims)
        return results if all("outcome" in result for result in results) else []

    return await wait_until(confirmed, what="the claims being confirmed")
