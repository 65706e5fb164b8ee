"""Bytes of a claim: growth between two looks, rows of the report, and the link that counts."""

import asyncio
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.parts.sizes import _SIZES, Look
from benchmarks.report.size_tables import per_unit
from benchmarks.report.tables import sections
from benchmarks.rig.counting import counting
from engine.engine import Engine


def look(value: int) -> Look:
    return Look(**{field.name: value for field in fields(Look)})


def packets(shares: int) -> dict[str, Any]:
    """Ten packets. Everything grew by 100 bytes per claim, or per packet at sending."""
    claims = 10 * shares
    half = {
        "claiming": look(50 * claims).since(look(0)),
        "booking": {**asdict(look(50 * claims)), "to_ledger": 50 * claims, "from_ledger": 50 * claims},
        "redis_stream": 50 * claims,
    }
    sent = look(1_700).since(look(700))
    of = {"shares": shares, "packets": 10, "claims": claims, "sending": sent, "settled_redis_data": 5_000}
    return {**of, "new_users": half, "known_users": half}


def test_a_look_says_what_has_grown() -> None:
    assert set(look(30).since(look(10)).values()) == {20}


async def test_the_entries_are_those_of_all_volumes(engine: Engine) -> None:
    await engine.pool.execute(
        "INSERT INTO transfers (kind, from_account, to_account, amount_fen, at_ms) VALUES ('deposit', 1, 1000, 5, 1)"
    )
    (row,) = await engine.pool.fetch(_SIZES)
    assert row["entries"] > 0
    assert row["entry_indexes"] > 0


def test_bytes_are_per_packet_or_per_claim() -> None:
    found = per_unit(packets(100))
    assert found["Redis: an open packet"] == 100
    assert found["Redis: a packet whose claims are all in the ledger"] == 500
    assert found["append-only file: a claim"] == 100
    assert found["Redis to persister: a claim"] == 0, "the replica's part is not the persister's"
    assert found["ledger: a claim's entry"] == 100


def test_the_tables_have_a_column_per_size_and_a_row_per_call() -> None:
    requests = {
        "request_bytes": 300,
        "answer_bytes": 400,
        "batch_request_bytes": 57.0,
        "batch_answer_bytes": 94.4,
        "claims_per_call": 61.7,
        "redis_received_bytes": 20.0,
        "redis_sent_bytes": 75.0,
        "redis_to_replica_bytes": 66.0,
    }
    sizes = {"packets": [packets(shares) for shares in (10, 100, 1_000)], "requests": requests, "calls": {"25": 5.404}}
    of_packets, of_requests, of_calls = sections({"runs": [], "others": {"sizes": sizes}})
    assert "| Redis: an open packet | 100.0 | 100.0 | 100.0 |" in of_packets
    assert "| API to Redis, 62 claims per call | 20.0 |" in of_requests
    assert "| Redis to API | 9.0 |" in of_requests
    assert "| 25 | 5.40 |" in of_calls


async def test_a_link_counts_what_passes(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(3) * 2)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "server"):
        with counting(tmp_path / "server") as counted:
            reader, writer = await asyncio.open_connection("127.0.0.1", counted.port)
            writer.write(b"abc")
            assert await reader.read() == b"abcabc"
            writer.close()
            await writer.wait_closed()
        assert (counted.sent_bytes, counted.received_bytes) == (3, 6)


def test_the_table_of_lanes_has_what_was_measured() -> None:
    costs = {"server": 20.04, "redis": 9.96}
    run = {"workload": "8 lanes", "server": "hongbao", "round": 1, "connections": 256, "void": None}
    (section,) = sections({"runs": [{**run, "claims_per_s": 30_000.0, "cpu_us_per_answer": costs}], "others": {}})
    assert "| 8 | 30,000 | 20.0 | 10.0 |" in section
