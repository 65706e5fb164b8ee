"""A settled packet proves its split to anyone; before that its seed is nowhere."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engine.engine import Engine
from engine.errors import OperatorError
from engine.ids import new_packet_number
from engine.packets.proof import CLAIMS_MAX, FILE_BYTES_MAX, read, verify
from engine.packets.split import commitment, split
from engine.records import SplitKind
from engine.settings import Settings
from tests.packets.test_split import reference
from tests.support.commands import hongbao
from tests.support.front import Client, Json, open_front
from tests.support.scenes import let_time_run_out, persisting, settled, sweeping


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with open_front(settings) as client, persisting(settings), sweeping(settings):
        yield client


async def ended(settings: Settings, *packet_ids: str) -> None:
    async with Engine.open(settings) as engine:
        await let_time_run_out(engine, *packet_ids)
        await settled(engine, *packet_ids)


async def proof_of(client: Client, packet_id: str, status: int = 200) -> Json:
    answer = await client.http.get(f"/v1/packets/{packet_id}/proof", headers=client.as_user("anyone"))
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def checked_by_a_stranger(proof: Json) -> bool:
    """docs/split.md and nothing of the engine: the commitment's eight lines, and the shares redone."""
    fields = ("packet_id", "split", "total_fen", "count", "min_fen", "max_fen", "seed")
    text = "".join(f"{line}\n" for line in ("hongbao commitment 1", *(proof[name] for name in fields)))
    if hashlib.sha256(text.encode()).hexdigest() != proof["commitment"]:
        return False
    total, count = proof["total_fen"], proof["count"]
    if proof["split"] == "equal":
        shares = [total // count] * count
    else:
        shares = reference(total, count, proof["min_fen"], proof["max_fen"], bytes.fromhex(proof["seed"]))
    return all(claim["amount_fen"] == shares[claim["slot"]] for claim in proof["claims"] or [])


async def test_a_proof_is_what_the_sender_was_promised(client: Client, settings: Settings) -> None:
    packets, commitments = [], {}
    for kind, count in (("lucky", 7), ("equal", 5), ("lucky", 1)):
        packet_id = await client.send("alice", total_fen=10 * count, count=count, split=kind)
        view = (await client.http.get(f"/v1/packets/{packet_id}", headers=client.as_user("alice"))).json()
        commitments[packet_id] = view["commitment"]
        for user in ("bob", "carol", "dave")[:count]:
            await client.claim(packet_id, user)
        packets.append(packet_id)
    await ended(settings, *packets)
    for packet_id in packets:
        proof = await proof_of(client, packet_id)
        assert proof["commitment"] == commitments[packet_id]
        verdict = verify(read(orjson.dumps(proof)), commitments[packet_id])
        assert (verdict.problems, verdict.claims) == ((), min(3, proof["count"]))
        assert checked_by_a_stranger(proof)
        listed = await client.http.get(f"/v1/packets/{packet_id}/claims", headers=client.as_user("bob"))
        shown = [{name: claim[name] for name in ("slot", "user_id", "amount_fen")} for claim in listed.json()["claims"]]
        assert proof["claims"] == shown


async def test_before_it_is_settled_the_seed_is_nowhere(client: Client, settings: Settings) -> None:
    packet_id = await client.send("alice", total_fen=50, count=5)
    await client.claim(packet_id, "bob")
    async with Engine.open(settings) as engine:
        seed = (await engine.pool.fetchval("SELECT seed FROM packets WHERE packet_id = $1", int(packet_id))).hex()
    assert (await proof_of(client, packet_id, 409))["code"] == "not_settled"
    for headers in (client.as_user("alice"), client.as_user("root", "admin"), client.as_backend("alice")):
        for path in ("", "/claims", "/proof"):
            answer = await client.http.get(f"/v1/packets/{packet_id}{path}", headers=headers)
            assert seed not in answer.text
            assert "seed" not in answer.text
    await ended(settings, packet_id)
    assert (await proof_of(client, packet_id))["seed"] == seed


async def test_a_large_packet_is_proved_without_its_claims(client: Client, settings: Settings) -> None:
    count = CLAIMS_MAX + 1
    packet_id = await client.send("alice", total_fen=10 * count, count=count)
    await client.claim(packet_id, "bob")
    await ended(settings, packet_id)
    proof = await proof_of(client, packet_id)
    assert proof["claims"] is None
    assert verify(read(orjson.dumps(proof))).holds


def some_proof(kind: SplitKind = SplitKind.LUCKY) -> Json:
    packet_id, seed = new_packet_number(3), bytes(range(32))
    terms = (kind, 1_000, 10, 20, 400, seed)
    shares = split(*terms).tolist()
    return {
        "packet_id": packet_id,
        "split": kind.value,
        "total_fen": 1_000,
        "count": 10,
        "min_fen": 20,
        "max_fen": 400,
        "seed": seed.hex(),
        "commitment": commitment(packet_id, *terms).hex(),
        "claims": [{"slot": slot, "user_id": f"user{slot}", "amount_fen": shares[slot]} for slot in range(8)],
    }


def other_number(proof: Json) -> None:
    proof["packet_id"] = new_packet_number(4)


def no_such_terms(proof: Json) -> None:
    proof["total_fen"] = 5_000


def more(proof: Json) -> None:
    proof["claims"][3]["amount_fen"] += 1


def swapped(proof: Json) -> None:
    proof["claims"][0]["slot"], proof["claims"][9 % 8]["slot"] = 1, 0


def twice(proof: Json) -> None:
    proof["claims"][5]["user_id"] = "user4"


def same_slot(proof: Json) -> None:
    proof["claims"][5] = proof["claims"][4] | {"user_id": "eve"}


def beyond(proof: Json) -> None:
    proof["claims"][7]["slot"] = 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_number, "the seed and terms are not those"),
        (no_such_terms, "the terms cannot be split: total_fen must be at most 4000"),
        (more, "share 3 of user3 is "),
        (swapped, "share 1 of user0 is "),
        (twice, "user4 has more than one share"),
        (same_slot, "share 4 was given twice"),
        (beyond, "share 10 of user7 does not exist"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[Json], None], told: str) -> None:
    proof = some_proof()
    assert verify(read(orjson.dumps(proof))).holds
    change(proof)
    problems = verify(read(orjson.dumps(proof))).problems
    assert any(problem.startswith(told) for problem in problems), problems


@examples(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["packet_id", "split", "total_fen", "count", "min_fen", "max_fen", "seed", "commitment"]),
    place=st.integers(0, 63),
    kind=st.sampled_from(SplitKind),
)
def test_no_term_can_be_another(name: str, place: int, kind: SplitKind) -> None:
    proof = some_proof(kind)
    match proof[name]:
        case int(number):
            proof[name] = number + 1 + place
        case "lucky" | "equal":
            proof[name] = "equal" if kind is SplitKind.LUCKY else "lucky"
        case text if name == "packet_id":
            proof[name] = text[: 2 + place % 17] + str((int(text[2 + place % 17]) + 1) % 10) + text[3 + place % 17 :]
        case text:
            proof[name] = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
    assert not verify(read(orjson.dumps(proof))).holds


def test_the_senders_commitment_is_the_one_that_counts() -> None:
    """Seed, terms, claims and commitment all made anew fit together, and not to what the sender was told."""
    promised, proof = some_proof()["commitment"], some_proof()
    seed = bytes(32)
    terms = (SplitKind.LUCKY, 1_000, 10, 20, 400, seed)
    proof |= {"seed": seed.hex(), "commitment": commitment(proof["packet_id"], *terms).hex(), "claims": []}
    assert verify(read(orjson.dumps(proof))).holds
    assert not verify(read(orjson.dumps(proof)), promised).holds
    assert verify(read(orjson.dumps(proof)), proof["commitment"].upper()).holds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "not a proof"),
        (b"[]", "not a proof"),
        (b"{}", "packet_id"),
        (orjson.dumps(some_proof() | {"seed": "zz"}), "not a proof"),
        (orjson.dumps(some_proof() | {"seed": "00"}), "32 bytes"),
        (orjson.dumps(some_proof() | {"packet_id": "1"}), "packet_id"),
        (orjson.dumps(some_proof() | {"split": "fair"}), "split"),
        (orjson.dumps(some_proof() | {"count": "5"}), "count"),
        (orjson.dumps(some_proof() | {"count": 10**15, "total_fen": 10**15, "split": "equal"}), "count"),
        (json.dumps(some_proof() | {"claims": [{"slot": 0, "user_id": "\ud800", "amount_fen": 1}]}).encode(), "claims"),
        (json.dumps(some_proof() | {"asset": "\x1b[31m"}).encode(), "asset"),
        (b" " * (FILE_BYTES_MAX + 1), "at most"),
    ],
)
def test_what_is_no_proof_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(OperatorError, match=told):
        read(text)


@pytest.mark.long
def test_the_command_needs_no_server(tmp_path: Path) -> None:
    path, proof = tmp_path / "proof.json", some_proof()
    path.write_bytes(orjson.dumps(proof))
    done = hongbao("verify", str(path), "--commitment", proof["commitment"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"packet {proof['packet_id']}: seed and terms are those of the sender's commitment, 8 claims as split\n"
    )
    proof["claims"][0]["amount_fen"] += 1
    path.write_bytes(orjson.dumps(proof))
    done = hongbao("verify", str(path), "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["holds"], len(told["problems"])) == (False, 1)
    for words in ([str(tmp_path / "none.json")], [str(path), "--commitment", "x"], [str(tmp_path)]):
        done = hongbao("verify", *words)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("hongbao: ")
