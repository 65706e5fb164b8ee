"""`hongbao verify`: compares a proof with its commitment, without any server; or a receipt with the ledger."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from engine.cli.common import DataDirOption, JsonOption, run, show
from engine.errors import OperatorError
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.ledger.database import Connection

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="The answer of GET /v1/packets/{number}/proof, of GET /v1/campaigns/{number}/proof, of "
        "GET /v1/card-sets/{number}/proof, of GET /v1/transactions/{number}/receipt as JSON, or of "
        "GET /v1/fundraisers/{number}/gifts/{number}/receipt.",
    ),
]
CommitmentOption = Annotated[
    str | None, typer.Option("--commitment", help="For a proof: the commitment that the sender received at sending.")
]
_HEX_DIGITS = 64


def verify(
    file: FileArgument,
    commitment: CommitmentOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Redo what chance decided from a proof, without a server; or compare a receipt with the ledger's database.

    Exits 1 if anything is wrong.
    """
    from engine.wallets import receipt_check

    try:
        text = file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}.") from None
    if receipt_check.is_receipt(text):
        if commitment is not None:
            raise OperatorError("A commitment belongs to a proof; this is a receipt.")
        _receipt(text, data_dir, as_json)
    elif _has(text, "waves"):
        _campaign(text, commitment, as_json)
    elif _has(text, "set_id"):
        _card_set(text, commitment, as_json)
    else:
        _proof(text, commitment, as_json)


def _proof(text: bytes, commitment: str | None, as_json: bool) -> None:
    from engine.packets import proof as proofs

    _check_commitment(commitment)
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


def _has(text: bytes, name: str) -> bool:
    """Whether a file is an object with such a name, by which the proofs differ."""
    from engine.packets.proof import FILE_BYTES_MAX
    from engine.text import read_json

    try:
        value = read_json(text[: FILE_BYTES_MAX + 1])  # of a longer one its own reader says so
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and name in value


def _campaign(text: bytes, commitment: str | None, as_json: bool) -> None:
    from engine.campaigns import checking

    _check_commitment(commitment)
    found = checking.read(text)
    problems, number = checking.verify(found, commitment), found.campaign_id
    parts = sum(len(wave.buckets) for wave in found.waves)
    if as_json:
        show(orjson.dumps({"campaign_id": number, "holds": not problems, "problems": problems}).decode())
    elif problems:
        for problem in problems:
            show(f"campaign {number}: {problem}")
    else:
        against = "the published commitment" if commitment else "its own commitment"
        show(f"campaign {number}: odds, seed and {parts} packets are those of {against}, each split as committed")
    if problems:
        raise typer.Exit(1)


def _card_set(text: bytes, commitment: str | None, as_json: bool) -> None:
    from engine.cards import checking

    _check_commitment(commitment)
    found = checking.read(text)
    problems, number = checking.verify(found, commitment), found.set_id
    if as_json:
        show(orjson.dumps({"set_id": number, "holds": not problems, "problems": problems}).decode())
    elif problems:
        for problem in problems:
            show(f"card set {number}: {problem}")
    else:
        against = "the published commitment" if commitment else "its own commitment"
        grants = "too many grants to be listed" if found.grants is None else f"{len(found.grants)} grants"
        shares = "too many shares to be listed" if found.shares is None else f"{len(found.shares)} shares"
        show(f"card set {number}: seed, terms and cards are those of {against}; {grants} and {shares} as drawn")
    if problems:
        raise typer.Exit(1)


def _check_commitment(commitment: str | None) -> None:
    if commitment is not None and (len(commitment) != _HEX_DIGITS or not _is_hex(commitment)):
        raise OperatorError(f"A commitment has {_HEX_DIGITS} hexadecimal digits.")


def _receipt(text: bytes, data_dir: Path | None, as_json: bool) -> None:
    from engine.fundraising import receipt_check as gift_check
    from engine.wallets import receipt_check

    check: Callable[[Connection], Awaitable[list[str]]]
    if gift_check.is_of_gift(text):
        gift = gift_check.read(text)
        name, number, check = "gift", gift.facts.gift_id, partial(gift_check.check, shown=gift)
    else:
        shown = receipt_check.read(text)
        name, number, check = "receipt", shown.facts.number, partial(receipt_check.check, shown=shown)
    problems = run(_compared(check, data_dir))
    if as_json:
        show(orjson.dumps({"number": number, "holds": not problems, "problems": problems}).decode())
    elif problems:
        for problem in problems:
            show(f"{name} {number}: {problem}")
    else:
        show(f"{name} {number}: its hash matches its facts, and each fact matches the ledger")
    if problems:
        raise typer.Exit(1)


async def _compared(check: "Callable[[Connection], Awaitable[list[str]]]", data_dir: Path | None) -> list[str]:
    from engine.ledger import schema
    from engine.ledger.database import database_connection
    from engine.ledger.failures import DATABASE_ERRORS
    from engine.running import reach

    url = reach.running(Settings.load(data_dir=data_dir)).database_url
    not_compared = "The receipt could not be compared with the ledger"
    if url is None:
        raise OperatorError(f"{not_compared}: HONGBAO_DATABASE_URL is not set, and no `hongbao up` is running.")
    try:
        await schema.check(url)
        connection = await database_connection(url)
        try:
            return await check(connection)
        finally:
            await connection.close()
    except OperatorError as error:
        raise OperatorError(f"{not_compared}: {error}") from None
    except DATABASE_ERRORS as error:
        raise OperatorError(f"{not_compared}: Postgres does not answer: {error}") from None


def _is_hex(text: str) -> bool:
    return set(text.lower()) <= set("0123456789abcdef")
