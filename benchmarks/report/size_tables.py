"""The report's tables of bytes: rows from the part SIZES."""

from collections.abc import Iterator, Mapping
from typing import Any

PACKETS = ("bytes", "10 shares", "100 shares", "1,000 shares")
PACKETS_NOTE = (
    "100,000 claims in requests of 500: the first half by 50,000 users without a wallet, the second by the same users. "
    "Each half is claimed first and booked afterwards, so that each growth has one cause. Redis: used_memory, without "
    "what it keeps for connections, a replica and the append-only file. That file is never rewritten. The ledger: "
    "Postgres's own sizes, and its position in the write-ahead log (WAL). What passes is without TCP and IP."
)
REQUESTS = ("between", "bytes per claim")
REQUESTS_NOTE = (
    "One claim per request: workload A's words, with a backend's token. Redis: its own counts over 256 connections of "
    "wrk, without a persister, one replica."
)
CALLS = ("claims per call", "Redis us per claim")
CALLS_NOTE = (
    "claim.lua alone, packets of 100, append-only file on, one client; the least of three (`parts/scripts.py`)."
)


def packets(others: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rows of bytes, a column per packet size."""
    found = others.get("sizes", {}).get("packets", [])
    for name in dict.fromkeys(name for of in found for name in per_unit(of)):
        yield [name, *(f"{per_unit(of)[name]:,.1f}" for of in found)]


def requests(others: Mapping[str, Any]) -> Iterator[list[str]]:
    """Rows of bytes per claim by link."""
    found = others.get("sizes", {}).get("requests")
    if found is None:
        return
    yield ["client to API, one claim per request", f"{found['request_bytes']:,.0f}"]
    yield ["API to client", f"{found['answer_bytes']:,.0f}"]
    yield ["client to API, 500 claims per request (bodies)", f"{found['batch_request_bytes']:,.1f}"]
    yield ["API to client (bodies)", f"{found['batch_answer_bytes']:,.1f}"]
    yield [f"API to Redis, {found['claims_per_call']:.0f} claims per call", f"{found['redis_received_bytes']:,.1f}"]
    yield ["Redis to API", f"{found['redis_sent_bytes'] - found['redis_to_replica_bytes']:,.1f}"]
    yield ["Redis to a replica", f"{found['redis_to_replica_bytes']:,.1f}"]


def calls(others: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row per size of call."""
    for size, us in others.get("sizes", {}).get("calls", {}).items():
        yield [size, f"{us:.2f}"]


def per_unit(of: Mapping[str, Any]) -> dict[str, float]:
    """The bytes of one packet size, per packet or per claim, as the report names them."""
    packets, half = of["packets"], of["claims"] / 2
    sending, new, known = of["sending"], of["new_users"], of["known_users"]
    claiming = [new["claiming"], known["claiming"]]
    claimed = {name: sum(part[name] for part in claiming) / of["claims"] for name in claiming[0]}
    return {
        "Redis: an open packet": sending["redis_data"] / packets,
        "Redis: a packet whose claims are all in the ledger": of["settled_redis_data"] / packets,
        "Redis: a claim in the stream, until the ledger has it": new["redis_stream"] / half,
        "append-only file: a packet": sending["redis_append_only_file"] / packets,
        "append-only file: a claim": claimed["redis_append_only_file"],
        "Redis to a replica: a packet": sending["redis_to_replica"] / packets,
        "Redis to a replica: a claim": claimed["redis_to_replica"],
        "persister to Redis: a claim": known["booking"]["redis_received"] / half,
        "Redis to persister: a claim": (known["booking"]["redis_sent"] - known["booking"]["redis_to_replica"]) / half,
        "persister to Postgres: a claim": known["booking"]["to_ledger"] / half,
        "Postgres to persister: a claim": known["booking"]["from_ledger"] / half,
        "ledger: a packet": sending["ledger_whole"] / packets,
        "ledger: a claim's entry": known["booking"]["ledger_entries"] / half,
        "ledger: its indexes": known["booking"]["ledger_entry_indexes"] / half,
        "ledger: everything, a known user's claim": known["booking"]["ledger_whole"] / half,
        "ledger: everything, a new user's claim and wallet": new["booking"]["ledger_whole"] / half,
        "WAL: a packet": sending["ledger_wal"] / packets,
        "WAL: a known user's claim": known["booking"]["ledger_wal"] / half,
        "WAL: a new user's claim and wallet": new["booking"]["ledger_wal"] / half,
    }
