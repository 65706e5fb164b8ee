"""A merchant's client that costs little: bodies by hand over plain sockets, one call at a time per connection."""

import asyncio
import hashlib
import re
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from engine.wechatpay.sandbox import APPID, MCH_ID, SandboxMerchant

_PATH = "/mmpaymkttransfers/sendredpack"
_CODE = re.compile(rb"<(?:err_code|result_code)><!\[CDATA\[([A-Z_]+)\]\]>")
_ANSWER_S_MAX, _CRLF = 60.0, b"\r\n"


@dataclass(slots=True)
class Told:
    """What was answered, while it was measured. ``took_s``: one value per answer."""

    codes: Counter[str] = field(default_factory=Counter)
    took_s: "array[float]" = field(default_factory=lambda: array("d"))
    sent: int = 0
    seconds: float = 0.0


class Client:
    """Sends packets of 100 fen, each to a user of its own. ``run``: a word of this run, part of every number."""

    def __init__(self, host: str, port: int, merchant: SandboxMerchant, run: str) -> None:
        self._host, self._port, self._key, self._run = host, port, merchant.v2_key, run
        self._numbers = count(1)
        self._told = Told()

    async def send(self, connections: int, seconds: float, show: Callable[[int], None]) -> Told:
        """Send from this many connections for so long. Raises OSError, TimeoutError, ValueError for another status."""
        self._told = told = Told()
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._connection(began_s + seconds, told, show))
        told.seconds = time.perf_counter() - began_s
        return told

    async def _connection(self, until_s: float, told: Told, show: Callable[[int], None]) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            while (began_s := time.perf_counter()) < until_s:
                writer.write(self._request(next(self._numbers)))
                told.sent += 1
                async with asyncio.timeout(_ANSWER_S_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(_length_in(head))
                told.took_s.append(time.perf_counter() - began_s)
                codes = _CODE.findall(body)
                told.codes[codes[-1].decode() if codes else "?"] += 1
                if len(told.took_s) % 64 == 0:
                    show(len(told.took_s))
        finally:
            writer.close()

    def _request(self, number: int) -> bytes:
        fields = {
            "act_name": "loadtest",
            "client_ip": "192.0.2.1",
            "mch_billno": f"{self._run}{number:010d}",
            "mch_id": MCH_ID,
            "nonce_str": f"{number:032d}",
            "re_openid": f"o{self._run}{number:010d}",
            "remark": "loadtest",
            "send_name": "天虹百货",
            "total_amount": "100",
            "total_num": "1",
            "wishing": "恭喜发财",
            "wxappid": APPID,
        }  # in the order that is signed
        text = "&".join(f"{name}={value}" for name, value in fields.items())
        fields["sign"] = hashlib.md5(f"{text}&key={self._key}".encode()).hexdigest().upper()
        parts = "".join(f"<{name}><![CDATA[{value}]]></{name}>" for name, value in fields.items())
        body = f"<xml>{parts}</xml>".encode()
        lines = (
            f"POST {_PATH} HTTP/1.1",
            f"host: {self._host}",
            "content-type: text/xml",
            f"content-length: {len(body)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + body


def _length_in(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"the server answered {head.partition(_CRLF)[0].decode()}")
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])
