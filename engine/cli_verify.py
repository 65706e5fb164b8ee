"""`hongbao verify`: a proof, held against its commitment without any server."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from engine.cli_common import JsonOption, show
from engine.errors import OperatorError

FileArgument = Annotated[Path, typer.Argument(metavar="PROOF", help="What GET /v1/packets/{number}/proof answered.")]
CommitmentOption = Annotated[
    str | None, typer.Option("--commitment", help="What the sender was told when the packet was sent.")
]
_HEX_DIGITS = 64


def verify(proof: FileArgument, commitment: CommitmentOption = None, as_json: JsonOption = False) -> None:
    """Redo a packet's split from its seed; exits 1 if a share or the commitment is not as it should be."""
    from engine import proof as proofs

    if commitment is not None and (len(commitment) != _HEX_DIGITS or not _is_hex(commitment)):
        raise OperatorError(f"A commitment has {_HEX_DIGITS} hexadecimal digits.")
    try:
        text = proof.read_bytes()
    except OSError as error:
        raise OperatorError(f"{proof} cannot be read: {error.strerror}.") from None
    found = proofs.read(text)
    verdict = proofs.verify(found, commitment)
    if as_json:
        answer = {"packet_id": found.packet_id, "holds": verdict.holds, "claims": verdict.claims}
        show(orjson.dumps({**answer, "problems": verdict.problems}).decode())
    elif verdict.holds:
        listed = "its claims are too many to be listed" if found.claims is None else f"{verdict.claims} claims as split"
        against = "the sender's commitment" if commitment else "its own commitment"
        show(f"packet {found.packet_id}: seed and terms are those of {against}, {listed}")
    else:
        for problem in verdict.problems:
            show(f"packet {found.packet_id}: {problem}")
    if not verdict.holds:
        raise typer.Exit(1)


def _is_hex(text: str) -> bool:
    return set(text.lower()) <= set("0123456789abcdef")
