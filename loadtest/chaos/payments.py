"""Compares the answers to sendings and deposits with the ledger."""

from collections import Counter

from loadtest.chaos.books import Books
from loadtest.chaos.findings import Findings, check_status
from loadtest.chaos.history import Deposit, Errand, Send


class Payments:
    """The answers to sendings and deposits."""

    def __init__(self, findings: Findings, books: Books) -> None:
        self._findings, self._books = findings, books
        self._sends: dict[tuple[str, str], str] = {}
        self._deposits: dict[tuple[str, str], tuple[int, bool]] = {}

    def send(self, send: Send) -> None:
        """Check one answer: a key makes one packet."""
        check_status(self._findings, send, 201, f"A packet of {send.sender}")
        known = self._sends.setdefault((send.sender, send.key), send.packet_id)
        if send.status != 201:
            return
        self._sends[send.sender, send.key] = send.packet_id
        if known not in ("", send.packet_id):
            self._findings.add(f"{send.sender} was told two packets for one key: {known} and {send.packet_id}")
        packet = self._books.packets.get(send.packet_id)
        if packet is None or packet.sender != send.sender:
            self._findings.add(f"{send.sender} was told of packet {send.packet_id}, which the ledger does not hold")
        elif (packet.total_fen, packet.count, packet.recipients) != (
            send.total_fen,
            send.count,
            frozenset(send.recipients),
        ):
            self._findings.add(f"Packet {send.packet_id} is in the ledger with other terms than it was sent with")

    def deposit(self, deposit: Deposit) -> None:
        """Check one answer."""
        check_status(self._findings, deposit, 201, f"A deposit of {deposit.user_id}")
        key = (deposit.user_id, deposit.key)
        was_told = self._deposits.get(key, (0, False))[1]
        self._deposits[key] = (deposit.amount_fen, was_told or deposit.status == 201)

    def errand(self, errand: Errand) -> None:
        """Note a packet or a transfer in an errand. Each key is used once."""
        if errand.what in ("send", "transfer"):
            self._sends[errand.user_id, f"errand {errand.asked_s}"] = errand.number

    def compare(self) -> None:
        """Each key counts once: the ledger has at least what was answered and at most what was requested."""
        told, asked = Counter[str](), Counter[str]()
        for (sender, _), packet_id in self._sends.items():
            asked[sender] += 1
            told[sender] += packet_id != ""
        for sender, sent in self._books.senders().items():
            self._compare(f"{sender} has {sent} packets", sent, told[sender], asked[sender])
        for user_id in {user_id for user_id, _ in self._deposits} | self._books.deposits.keys():
            mine = [amount for (whose, _), amount in self._deposits.items() if whose == user_id]
            came_fen = sum(fen * times for fen, times in self._books.deposits.get(user_id, Counter()).items())
            told_fen = sum(fen for fen, was_told in mine if was_told)
            self._compare(f"{user_id} has deposits of {came_fen} fen", came_fen, told_fen, sum(fen for fen, _ in mine))

    def _compare(self, what: str, held: int, told: int, asked: int) -> None:
        if not told <= held <= asked:
            self._findings.add(f"{what} in the ledger; {told} were answered, {asked} asked for")
