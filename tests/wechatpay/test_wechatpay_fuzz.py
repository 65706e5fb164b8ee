"""XML by the thousand: never another status than 200 or XML, never anything paid that was not signed, little memory.

``--fuzz-inputs`` says how many, ``--fuzz-seed`` which; `make fuzz` tries 20,000.
"""

import gc
import random
from collections import Counter
from collections.abc import Callable
from itertools import islice

import psutil
import pytest

from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay.refusals import Code
from tests.support.both_ways import Asked, ask_long, open_app
from tests.support.wechatpay import (
    PATHS,
    SHOP,
    group_packet,
    merchant_of,
    packet,
    packet_query,
    payment,
    payment_query,
    signed,
    told,
    with_sealing,
    xml_of,
)

MEMORY_MIB_MAX = 64
WARM_INPUTS = 300
INPUTS_MAX = 20_000
MONEY_FEN = 1_000_000
PROPER: tuple[Callable[[], dict[str, str]], ...] = (
    packet,
    group_packet,
    lambda: packet_query("b1"),
    payment,
    lambda: payment_query("t1"),
)
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><xml><mch_id>&i;</mch_id></xml>"
).encode()
HOSTILE = (
    LAUGHS,
    b'<!DOCTYPE xml [<!ENTITY x SYSTEM "file:///etc/passwd">]><xml><mch_id>&x;</mch_id></xml>',
    b'<!DOCTYPE xml SYSTEM "http://127.0.0.1:1/x.dtd"><xml/>',
    b'<!DOCTYPE xml [<!ENTITY % p SYSTEM "http://127.0.0.1:1/p"> %p;]><xml/>',
    b"<xml><a>&undefined;</a></xml>",
    b"<xml>" + b"<a>" * 20_000,
    b"<xml>" + b"<a/>" * 15_000 + b"</xml>",
    b"<xml " + b" ".join(b'a%d="1"' % number for number in range(5_000)) + b"/>",
    b"<xml><" + b"a" * 60_000 + b"/></xml>",
    b"<xml><a>" + b"x" * 65_000 + b"</a></xml>",
    b"<xml><a>" + b"x" * 300_000 + b"</a></xml>",
    b"<xml><![CDATA[" + b"]" * 60_000,
    b"<xml><a><![CDATA[x]]></a><a><![CDATA[y]]></a></xml>",
    b"<?xml version='1.0' encoding='utf-16'?><xml/>",
    "<?xml version='1.0' encoding='utf-16'?><xml><a>1</a></xml>".encode("utf-16"),
    "<?xml version='1.0' encoding='gbk'?><xml><wishing>恭喜</wishing></xml>".encode("gbk"),
    "<xml><wishing>恭喜</wishing></xml>".encode("utf-32"),
    b"<?xml version='1.0' encoding='cp1251'?><xml><a>\xe0</a></xml>",
    b"<?php system('x'); ?><xml/>",
    b"<xml><?php x ?></xml>",
    b"<xml><!-- " + b"-" * 60_000,
    b"<xml>&#0;</xml>",
    b"<xml><a>&#x110000;</a></xml>",
    b"<xml><a>\x00</a></xml>",
    b"\xef\xbb\xbf<xml><a>1</a></xml>",
    b"",
    b"\x00" * 1_000,
    b"<xml xmlns:a='x'><a:b>1</a:b></xml>",
)


class Mutator:
    """Changes proper bodies by chance."""

    def __init__(self, seed: str, key: str) -> None:
        self._chance, self._key = random.Random(seed), key

    def one(self) -> tuple[str, bytes, bool]:
        """A path, a body, and whether it may be as good as a proper one."""
        chance = self._chance
        path, make = chance.choice(list(zip(PATHS, PROPER, strict=True)))
        kind = chance.randrange(7)
        if kind == 0:
            return path, chance.choice(HOSTILE), False
        fields = make()
        if kind == 1:  # signed, with values of all kinds
            for _ in range(chance.randrange(1, 4)):
                fields[chance.choice([*fields, "sign_type", "scene_id", "sub_mch_id", "zz"])] = self._value()
            return path, xml_of({**signed(fields, self._key)}), True
        body = xml_of(signed(fields, self._key))
        place, name = chance.randrange(len(body)), chance.choice(list(fields)).encode()
        changed = bytearray(body)
        for _ in range(chance.randrange(1, 8)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        body, may_be_good = (
            (body[:place], False),  # truncated
            (body.replace(b"</xml>", b"<%b>1</%b></xml>" % (name, name)), False),  # a field twice
            (bytes(changed), True),
            (body[:place] + chance.choice(HOSTILE)[:2_000] + body[place:], True),
            (chance.randbytes(chance.randrange(400)), False),
        )[kind - 2]
        return path, body, may_be_good

    def _value(self) -> str:
        chance = self._chance
        return chance.choice(
            [
                *(
                    "",
                    " ",
                    "0",
                    "-1",
                    "1e9",
                    "100",
                    "9" * 15,
                    "9" * 400,
                    "NaN",
                    "1.5",
                    "１",
                    "]]>",
                    "<![CDATA[x]]>",
                    "&amp;",
                ),
                *(
                    "\u202e",
                    "\u200b",
                    "恭喜" * 100,
                    "x" * 9_000,
                    "a\tb\nc",
                    "'; DROP TABLE packets; --",
                    "../..",
                    "PRODUCT_1",
                ),
                *("MD5", "HMAC-SHA256", "ALL_RAND", "\U0001f9e7"),
            ]
        )


@pytest.mark.long
async def test_xml_by_the_thousand(settings: Settings, pytestconfig: pytest.Config) -> None:
    wanted = int(pytestconfig.getoption("--fuzz-inputs"))
    count = INPUTS_MAX if wanted > INPUTS_MAX else max(WARM_INPUTS * 2, wanted // 10)
    settings = with_sealing(settings)
    codes: Counter[str] = Counter()
    async with Engine.open(settings) as engine, open_app(settings) as opened:
        mutator = Mutator(pytestconfig.getoption("--fuzz-seed"), (await merchant_of(engine, MONEY_FEN)).v2_key or "")

        async def ask(path: str, body: bytes) -> str:
            headers = ((b"content-length", str(len(body)).encode()),)
            reply = await ask_long(opened.app, Asked(path=path, headers=headers, chunks=(body,)))
            assert reply is not None
            assert reply.status == 200, (path, body, reply)
            answer = told(reply.body)
            assert (answer["result_code"] == "SUCCESS") == ("err_code" not in answer)
            return answer.get("err_code", "SUCCESS")

        for path in PATHS:
            for body in HOSTILE:
                assert await ask(path, body) in ("XML_ERROR", "PARAM_ERROR"), body[:100]
        inputs = iter(mutator.one, None)
        for path, body, _ in islice(inputs, WARM_INPUTS):
            await ask(path, body)
        gc.collect()
        process = psutil.Process()
        before = process.memory_info().rss
        for path, body, may_be_good in islice(inputs, count):
            code = await ask(path, body)
            codes[code] += 1
            assert may_be_good or code in ("XML_ERROR", "PARAM_ERROR", "SIGN_ERROR"), (path, body, code)
        gc.collect()
        grown_mib = (process.memory_info().rss - before) / 2**20
        assert grown_mib < MEMORY_MIB_MAX, f"{grown_mib:.0f} MiB more"
        assert codes.keys() >= {"SUCCESS", "XML_ERROR", "PARAM_ERROR", "SIGN_ERROR", "NOT_FOUND"}, codes
        assert codes.keys() <= {"SUCCESS", *Code}
        assert codes["SYSTEMERROR"] == 0, codes
        paid = await engine.pool.fetchval("SELECT coalesce(sum(total_fen), 0) FROM packets")
        asked = await engine.pool.fetchval(
            "SELECT coalesce(sum(amount_fen), 0) FROM wechatpay_orders WHERE state <> 'refused'"
        )
        assert paid == asked == MONEY_FEN - (await engine.wallets.get(SHOP)).balance_fen
