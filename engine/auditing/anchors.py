"""The ends of the hash chains, to be kept elsewhere: an attacker who rewrites the whole ledger cannot rewrite them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.auditing.streams import SQL
from engine.errors import OperatorError
from engine.ledger.database import Connection

BANK = -1
"""In place of a lane: the chain of deposits. Its positions are entry numbers."""
LOG = -2
"""The same: the operator log. Its positions are its rows' numbers."""
_FILE_BYTES_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Head:
    """The last hash of a lane's chain, in hex, and the position of its batch."""

    lane: int
    position: int
    hash: str


class _Printed(msgspec.Struct):
    """The part of a finding in `audit --json` that an anchor needs."""

    invariant: str
    heads: list[Head] = []


async def heads(connection: Connection) -> list[Head]:
    """Each chain's head. A chain that has not begun has none."""
    found = [Head(r["lane"], r["position"], r["hash"].hex()) for r in await connection.fetch(SQL["lanes"]) if r["hash"]]
    last = await connection.fetchrow(SQL["last_of_bank"])
    if last is not None:
        found.append(Head(BANK, last["transfer_id"], last["hash"].hex()))
    log = await connection.fetchrow(SQL["last_of_log"])
    if log is not None:
        found.append(Head(LOG, log["number"], log["hash"].hex()))
    return found


def read(path: Path) -> list[Head]:
    """The heads in a file from `hongbao audit --json`. Raises OperatorError for any other file."""
    try:
        with path.open("rb") as file:
            findings = msgspec.json.decode(file.read(_FILE_BYTES_MAX), type=list[_Printed])
    except OSError as error:
        raise OperatorError(f"The anchor {path} cannot be read: {error.strerror}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise OperatorError(f"The anchor {path} is not what `hongbao audit --json` prints.") from None
    kept = [head for finding in findings if finding.invariant == "chains_unbroken" for head in finding.heads]
    if not kept:
        raise OperatorError(f"The anchor {path} has no heads: it was printed before anything was chained.")
    return kept


async def contradictions(connection: Connection, anchor: Sequence[Head]) -> list[str]:
    """One sentence per head of an anchor that is no longer in its chain."""
    problems = []
    for head in anchor:
        if head.lane == BANK:
            name = f"deposit {head.position}"
            now = await connection.fetchval(SQL["hash_of_transfer"], head.position)
        elif head.lane == LOG:
            name = f"row {head.position} of the operator log"
            now = await connection.fetchval(SQL["hash_of_log_row"], head.position)
        else:
            name = f"lane {head.lane}, the batch up to change {head.position}"
            now = await connection.fetchval(SQL["batch_hash"], head.lane, head.position)
        if now is None:
            problems.append(f"{name}: it is in the anchor, and gone from the ledger")
        elif now.hex() != head.hash:
            problems.append(f"{name}: its hash differs from the anchor's: something up to there was rewritten")
    return problems
