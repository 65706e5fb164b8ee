"""Several packets of one sender, paid for in one transaction: all or none.

They are paid for by the statement that pays for any packet. What else a transaction asks (the wallet's lock, freezes,
limits, alerts), it asks once for all of them.
"""

import asyncio
from collections.abc import Sequence

from engine.errors import UnavailableError
from engine.ids import new_packet_number
from engine.lanes.store import Store
from engine.ledger.database import Connection
from engine.packets.opening import SHARES_PER_CALL_MAX, Funded, open_packet
from engine.packets.sending import Numbered, Reading, Times, pay_numbered
from engine.packets.split import new_seed
from engine.records import Purpose, Terms
from engine.risk import limits, watch
from engine.settings import Settings

PACKETS_MAX = 100
"""How many packets one transaction pays for: some 20 ms of work, in which the sender's wallet is locked."""


def numbered(sendings: Sequence[Terms], reading: Reading, volume: int) -> list[Numbered]:
    """Give each a number. Two are never the same."""
    numbers: dict[str, None] = {}
    while len(numbers) < len(sendings):
        numbers[new_packet_number(reading.lane, volume)] = None
    return [
        Numbered(packet_id=packet_id, terms=terms, times=Times.of(terms, reading.at_ms), seed=new_seed())
        for packet_id, terms in zip(numbers, sendings, strict=True)
    ]


async def pay(
    connection: Connection,
    settings: Settings,
    sender: str,
    packets: Sequence[Numbered],
    *,
    address: str,
    at_ms: int,
) -> None:
    """Admit and pay for all, inside the caller's transaction, which has locked the sender's wallet.

    Raises as ``limits.admit`` and ``sending.pay`` do, and asyncpg.UniqueViolationError if a number is not free. Then
    the caller's transaction must be undone.
    """
    sendings = [packet.terms for packet in packets]
    await limits.admit_locked(connection, settings, sender, sendings, address=address, at_ms=at_ms)
    first_fen, *others_fen = (terms.total_fen for terms in sendings)
    await watch.look(
        connection,
        settings,
        sender,
        first_fen,
        what=_purpose_of(sendings).value,
        address=address,
        at_ms=at_ms,
        others_fen=others_fen,
    )
    await pay_numbered(connection, sender, packets)


async def open_all(store: Store, packets: Sequence[Numbered], reading: Reading) -> None:
    """Open what was just paid for. What could not be opened is opened by the publisher.

    The reading is from before the payment, so the ledger need not be read again: until it is too old for Redis, none of
    the packets can have been opened, claimed, settled and forgotten.
    """
    await asyncio.gather(*(_open(store, packet, reading) for packet in packets))


async def _open(store: Store, packet: Numbered, reading: Reading) -> None:
    try:
        await open_packet(
            store,
            _funded(packet),
            shares_per_call=SHARES_PER_CALL_MAX,
            read_at_ms=reading.at_ms,
            epoch=reading.epoch,
        )
    except UnavailableError:
        return


def _funded(packet: Numbered) -> Funded:
    terms = packet.terms
    return Funded(
        packet_id=packet.packet_id,
        split=terms.split,
        total_fen=terms.total_fen,
        count=terms.count,
        min_fen=terms.min_fen,
        max_fen=terms.max_fen,
        seed=packet.seed,
        recipients=terms.recipients,
        ack=terms.ack,
        arrives_at_ms=packet.times.arrives_at_ms,
        expires_at_ms=packet.times.expires_at_ms,
    )


def _purpose_of(sendings: Sequence[Terms]) -> Purpose:
    (purpose,) = {terms.purpose for terms in sendings}
    return purpose
