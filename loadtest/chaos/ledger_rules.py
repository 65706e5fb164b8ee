"""Rules that the ledger alone must satisfy, independent of all answers."""

from collections import Counter

from loadtest.chaos.books import Books, Packet
from loadtest.chaos.findings import Findings

_ENDED_STATES = ("exhausted", "expired", "retracted")


def check_books(findings: Findings, books: Books) -> None:
    """Check the ledger alone."""
    if books.sum_fen != 0:
        findings.add(f"All balances sum to {books.sum_fen} fen")
    users, slots, given, given_fen = (
        Counter[tuple[str, str]](),
        Counter[tuple[str, int]](),
        Counter[str](),
        Counter[str](),
    )
    for share in books.claims:
        users[share.packet_id, share.user_id] += 1
        slots[share.packet_id, share.slot] += 1
        given[share.packet_id] += 1
        given_fen[share.packet_id] += share.amount_fen
    for (packet_id, user_id), times in users.items():
        if times > 1:
            findings.add(f"{user_id} has {times} shares of packet {packet_id}")
    for (packet_id, slot), times in slots.items():
        if times > 1:
            findings.add(f"Share {slot} of packet {packet_id} was given {times} times")
    for packet_id in given.keys() - books.packets.keys():
        findings.add(f"Packet {packet_id} has claims and does not exist")
    for packet_id, packet in books.packets.items():
        _check_packet(findings, packet_id, packet, given[packet_id], given_fen[packet_id])


def _check_packet(findings: Findings, packet_id: str, packet: Packet, given: int, given_fen: int) -> None:
    if given > packet.count or given_fen + packet.refunded_fen + packet.custody_fen != packet.total_fen:
        findings.add(
            f"Packet {packet_id} of {packet.total_fen} fen in {packet.count}: {given_fen} fen in {given} claims, "
            f"{packet.refunded_fen} refunded, {packet.custody_fen} in custody"
        )
    if packet.state in _ENDED_STATES and packet.custody_fen != 0:
        findings.add(f"Packet {packet_id} is {packet.state} with {packet.custody_fen} fen in custody")
    if packet.state == "funded":
        findings.add(f"Packet {packet_id} was paid for and never opened")
