"""Point 20: a file of 100,000 rows is streamed by a real console process, and its memory stays bounded."""

import asyncio

import httpx
import psutil
import pytest

from api.console.csv_files import ROWS_MAX
from api.console.gate import COOKIE
from engine.engine import Engine
from engine.settings import Settings
from tests.support.console import serving_console, staff_of

pytestmark = pytest.mark.long
MORE_BYTES_MAX = 50 * 2**20


async def test_a_file_of_100_000_rows_takes_little_memory(settings: Settings) -> None:
    async with Engine.open(settings) as engine:
        await engine.pool.execute(
            """
            INSERT INTO packets (packet_id, sender, split, total_fen, count, min_fen, max_fen, greeting, recipients,
                seed, commitment, created_at_ms, expires_at_ms, state, remaining_count, remaining_fen, ended_at_ms,
                settled_at_ms)
            SELECT 1000000000000000000 + n, 'user' || n % 1000, 'lucky', 100 + n, 1, 1, 900, '', '{}',
                sha256(n::text::bytea), '', 1790000000000 + n / 7, 1790000000000 + n, 'exhausted', 0, 0,
                1790000000000 + n, 1790000000000 + n
            FROM generate_series(1, $1::integer) AS n
            """,
            ROWS_MAX,
        )
    async with staff_of(settings) as staff:
        token = await staff.token("fin", "finance")
    async with serving_console(settings) as (origin, process):
        server, peak = psutil.Process(process.pid), 0
        headers = {"cookie": f"{COOKIE}={token}"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, timeout=300) as http:
            assert (await http.get("/packets")).status_code == 200
            before = server.memory_info().rss
            size = lines = 0
            numbers = set[bytes]()
            rest = b""
            async with http.stream("GET", "/packets.csv?state=exhausted") as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_bytes():
                    size += len(piece)
                    *whole, rest = (rest + piece).split(b"\r\n")
                    lines += len(whole)
                    numbers.update(line[1:20] for line in whole if line.startswith(b"\t"))
                    peak = max(peak, await asyncio.to_thread(lambda: server.memory_info().rss))
        assert (lines, len(numbers)) == (ROWS_MAX + 1, ROWS_MAX)
        assert size > 10_000_000
        assert peak - before < MORE_BYTES_MAX
