"""Proves that a packet was split as committed, and given out in order. Anyone can check this without a server.

docs/split.md describes the check, so that anyone can write their own program for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import msgspec

from engine.errors import InvalidFieldsError, OperatorError
from engine.ids import is_packet_number, is_user_id
from engine.ledger.currency import SCALE
from engine.packets.split import SEED_BYTES, commitment, split
from engine.records import SplitKind
from engine.text import read_json

Form = TypeVar("Form")
FILE_BYTES_MAX = 16_777_216
COUNT_MAX = 10_000_000
"""As many as a packet can ever have shares."""
CLAIMS_MAX = 1_000
"""A proof lists the claims of packets with at most this many shares. The others' claims are read page by page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofClaim:
    """A user and their share. Slot 0 was given first."""

    slot: int
    user_id: str
    amount_fen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A settled packet's terms, its seed, and its claims.

    ``commitment``: the sender received it when the packet was sent. ``claims``: None if there are too many. ``asset``:
    None if it was money. It is told, and not committed to. ``scale``: amounts are 10^-scale of it.
    """

    packet_id: str
    split: SplitKind
    total_fen: int
    count: int
    min_fen: int
    max_fen: int
    seed: str
    commitment: str
    claims: Sequence[ProofClaim] | None
    asset: str | None = None
    scale: int = SCALE


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problems``: what is wrong, empty if nothing is. ``claims``: how many were compared with their shares."""

    problems: tuple[str, ...]
    claims: int

    @property
    def holds(self) -> bool:
        """Whether everything is correct."""
        return not self.problems


def read(text: bytes) -> Proof:
    """Read a proof as the server returns it. Raises OperatorError that names what is missing."""
    return read_as(text, Proof, check_form, "a proof")


def read_as(text: bytes, kind: type[Form], check: Callable[[Form], None], what: str) -> Form:
    """Read what anyone may have written. ``what``: its name, for the OperatorError that says what is wrong with it."""
    if len(text) > FILE_BYTES_MAX:
        raise OperatorError(f"A proof has at most {FILE_BYTES_MAX} bytes.")
    try:
        found = msgspec.convert(read_json(text), kind)
        check(found)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise OperatorError(f"This is not {what}: {error}.") from None
    return found


def check_form(proof: Proof) -> None:
    """Raise ValueError for what ``verify`` cannot look at: anyone may have written it."""
    seed, committed = bytes.fromhex(proof.seed), bytes.fromhex(proof.commitment)
    if not is_packet_number(proof.packet_id):
        raise ValueError("`packet_id` is not a packet number")
    if len(seed) != SEED_BYTES or len(committed) != SEED_BYTES:
        raise ValueError(f"`seed` and `commitment` must have {SEED_BYTES} bytes")
    if not all(is_user_id(claim.user_id) for claim in proof.claims or ()):
        raise ValueError("`claims` names no users")
    if not (proof.asset is None or (proof.asset.isascii() and proof.asset.isprintable())):
        raise ValueError("`asset` is no code")
    if proof.count > COUNT_MAX:  # they are redone in memory
        raise ValueError(f"`count` must be at most {COUNT_MAX}")


def verify(proof: Proof, given_commitment: str | None = None) -> Verdict:
    """Check a proof against its commitment and its split.

    ``given_commitment``: the one that the sender received. It is the one that counts. A million shares take a second.
    """
    terms = (proof.split, proof.total_fen, proof.count, proof.min_fen, proof.max_fen, bytes.fromhex(proof.seed))
    due = (given_commitment or proof.commitment).lower()
    problems = []
    if commitment(proof.packet_id, *terms).hex() != due:
        problems.append(f"the seed and terms are not those that were committed to ({due})")
    try:
        amounts: list[int] = split(*terms).tolist()
    except InvalidFieldsError as error:
        wrong = "; ".join(f"{problem.field} {problem.message}" for problem in error.problems)
        return Verdict((*problems, f"the terms cannot be split: {wrong}"), 0)
    problems += _wrong_claims(proof.claims or (), amounts, proof.asset or "fen")
    return Verdict(tuple(problems), len(proof.claims or ()))


def _wrong_claims(claims: Sequence[ProofClaim], amounts: Sequence[int], unit: str) -> list[str]:
    problems = []
    users, slots = set[str](), set[int]()
    for claim in claims:
        if not 0 <= claim.slot < len(amounts):
            problems.append(f"share {claim.slot} of {claim.user_id} does not exist")
        elif claim.amount_fen != amounts[claim.slot]:
            problems.append(
                f"share {claim.slot} of {claim.user_id} is {amounts[claim.slot]} {unit}, not {claim.amount_fen}"
            )
        if claim.user_id in users:
            problems.append(f"{claim.user_id} has more than one share")
        if claim.slot in slots:
            problems.append(f"share {claim.slot} was given twice")
        users.add(claim.user_id)
        slots.add(claim.slot)
    if slots and slots != set(range(len(slots))):
        problems.append("the shares were not given in their order")
    return problems


def from_ledger(packet_id: str, row: asyncpg.Record, claims: Sequence[asyncpg.Record] | None) -> Proof:
    """A packet's proof from the ledger. The caller makes sure that the packet is settled."""
    return Proof(
        packet_id=packet_id,
        split=SplitKind(row["split"]),
        total_fen=row["total_fen"],
        count=row["count"],
        min_fen=row["min_fen"],
        max_fen=row["max_fen"],
        seed=row["seed"].hex(),
        commitment=row["commitment"].hex(),
        claims=None
        if claims is None
        else [
            ProofClaim(slot=claim["slot"], user_id=claim["user_id"], amount_fen=claim["amount_fen"]) for claim in claims
        ],
        asset=row["asset"],
        scale=SCALE if row["asset"] is None else row["scale"],
    )
