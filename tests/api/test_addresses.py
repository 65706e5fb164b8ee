"""Whose address a request counts as: proxies, headers and chains, read by one rule and by nothing else."""

from time import perf_counter
from uuid import uuid4

import orjson
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from api.addresses import Addresses
from engine.errors import OperatorError
from engine.networks import networks_in
from engine.risk.limits import AccountKind
from engine.settings import AddressHeader, Settings
from tests.support.scenes import changed, fund
from tests.support.served import Served, open_world, serving_here
from tests.support.wire import claim, request

LOOP_FACTORY = uvloop.new_event_loop
PROXIES = "10.0.0.0/8, 192.0.2.7, fd00::/8, ::ffff:172.16.0.0/108"
LISTED: AddressHeader = "x-forwarded-for"
REAL: AddressHeader = "x-real-ip"
FORWARDED: AddressHeader = "forwarded"
PROXY, CLIENT = "10.1.2.3", "203.0.113.9"


def address(peer: str, header: AddressHeader, *lines: str, proxies: str = PROXIES) -> str:
    """Where a request with these lines of the header comes from. Other headers name other addresses."""
    others = [(name.encode(), b"for=9.9.9.9") for name in (LISTED, REAL, FORWARDED) if name != header]
    told = [(header.encode(), line.encode("latin-1")) for line in lines]
    return Addresses(networks_in(proxies), header).of(peer, [(b"host", b"x"), *others, *told])


@pytest.mark.parametrize("header", [LISTED, REAL, FORWARDED])
@pytest.mark.parametrize("peer", ["198.51.100.1", "::ffff:198.51.100.1", "127.0.0.1", "2001:db8::1", ""])
def test_a_header_of_a_stranger_does_not_count(peer: str, header: AddressHeader) -> None:
    for line in (CLIENT, f"for={CLIENT}"):
        assert address(peer, header, line) == peer.removeprefix("::ffff:")
        assert address(PROXY, header, line, proxies="") == PROXY


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([" , ,"], PROXY),
        ([CLIENT], CLIENT),
        ([f"1.1.1.1, {CLIENT}"], CLIENT),
        (["1.1.1.1", CLIENT], CLIENT),  # lines are joined in their order
        ([f"1.1.1.1,\t{CLIENT} ,, 192.0.2.7 ,", " "], CLIENT),
        ([f"1.1.1.1, {CLIENT}, 10.9.9.9, 192.0.2.7"], CLIENT),
        ([f"{CLIENT}, 192.0.2.7", "fd00::5, 172.16.1.1"], CLIENT),
        (["10.9.9.9"], "10.9.9.9"),  # proxies only: the first of them
        (["1.1.1.1, unknown"], PROXY),
        (["1.1.1.1, unknown, 192.0.2.7"], "192.0.2.7"),
        (["1.1.1.1, _hidden, 192.0.2.7"], "192.0.2.7"),
        (["1.1.1.1, nonsense"], PROXY),
        ([f"1.1.1.1, {CLIENT} 1.2.3.4"], PROXY),
        (["203.0.113.9:50001"], CLIENT),
        (["203.0.113.9:50001, 10.9.9.9:443"], CLIENT),
        (["203.0.113.9:"], PROXY),
        (["203.0.113.9:x"], PROXY),
        (["203.0.113.09"], PROXY),
        (["2001:db8::1"], "2001:db8::1"),
        (["2001:DB8:0::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["[2001:db8::1]:443, [fd00::1]:443"], "2001:db8::1"),
        (["[2001:db8::1"], PROXY),
        (["fe80::1%eth0"], PROXY),
        (["::ffff:203.0.113.9"], CLIENT),
        (["[::ffff:203.0.113.9]:50001"], CLIENT),
        (["203.0.113.9, ::ffff:10.9.9.9"], CLIENT),
        ([f"for={CLIENT}"], PROXY),
    ],
)
@pytest.mark.parametrize("header", [LISTED, REAL])
def test_of_a_list_the_last_address_that_is_no_proxy_counts(header: AddressHeader, lines: list[str], told: str) -> None:
    assert address(PROXY, header, *lines) == told
    assert address(f"::ffff:{PROXY}", header, *lines) == told


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([", ,"], PROXY),
        ([f"for={CLIENT}"], CLIENT),
        ([f'For="{CLIENT}"'], CLIENT),
        ([f"proto=https;FOR={CLIENT};by=10.1.2.3"], CLIENT),
        ([f"proto=https ; for={CLIENT} ;"], CLIENT),
        ([f"for=1.1.1.1, for={CLIENT}"], CLIENT),
        ([f"for=1.1.1.1;proto=http,for={CLIENT} , , for=192.0.2.7,"], CLIENT),
        (["for=1.1.1.1", f"for={CLIENT}"], CLIENT),
        ([f"for={CLIENT}, for=192.0.2.7", 'for="[fd00::5]:443"'], CLIENT),
        (["for=10.9.9.9"], "10.9.9.9"),
        (['for="203.0.113.9:50001"'], CLIENT),
        (['for="203.0.113.9:_port"'], CLIENT),
        (["for=203.0.113.9:50001"], CLIENT),  # it should be quoted, and is not by all
        ([r'for="203.0.113\.9"'], CLIENT),
        (['for="[2001:db8::1]:443"'], "2001:db8::1"),
        (['for="[2001:db8::1]"'], "2001:db8::1"),
        (['for="2001:db8::1"'], "2001:db8::1"),
        (['for="[::ffff:203.0.113.9]:1"'], CLIENT),
        (["for=1.1.1.1, for=unknown"], PROXY),
        (["for=1.1.1.1, for=Unknown, for=192.0.2.7"], "192.0.2.7"),
        (["for=1.1.1.1, for=_x, for=192.0.2.7"], "192.0.2.7"),
        (['for=1.1.1.1, for="_x:80", for=192.0.2.7'], "192.0.2.7"),
        (["for=1.1.1.1, proto=https"], PROXY),  # it does not say
        (["for=1.1.1.1, ;"], PROXY),
        (["for=1.1.1.1, for="], PROXY),
        (["for=1.1.1.1, for=2.2.2.2;for=3.3.3.3"], PROXY),  # it says two things
        (["for=1.1.1.1, 2.2.2.2"], PROXY),
        ([f"for = {CLIENT}"], PROXY),
        ([f'for="{CLIENT}'], PROXY),
        ([f'for="{CLIENT}"x'], PROXY),
        ([f'host="a, for=6.6.6.6";for={CLIENT}'], CLIENT),  # commas and semicolons in quotes part nothing
        ([f'for={CLIENT};host="a, for=6.6.6.6"'], CLIENT),
        ([f'for={CLIENT};host="a;for=6.6.6.6;x="'], CLIENT),
        ([f'for={CLIENT};host="a, for=6.6.6.6;x="'], CLIENT),
        ([f'for={CLIENT};host="a, for=6.6.6.6;x=\\"";by=""'], CLIENT),
        ([f'for=", for={CLIENT}'], CLIENT),  # a client's open quote does not swallow what a proxy adds
        ([f'for=", for="{CLIENT}:1";host="x, y", for="[fd00::1]"'], CLIENT),
        ([f'for="\\, for={CLIENT}'], CLIENT),
    ],
)
def test_of_forwarded_the_last_address_that_is_no_proxy_counts(lines: list[str], told: str) -> None:
    assert address(PROXY, FORWARDED, *lines) == told


JUNK = st.text(st.sampled_from('for=,;"\\ 6.[]:_x'), max_size=30)
QUOTED = st.text(st.sampled_from('a,;"\\ =for6.'), max_size=10).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@given(junk=JUNK, hosts=st.lists(QUOTED, min_size=2, max_size=2))
def test_nothing_that_a_client_sends_changes_what_the_proxies_say(junk: str, hosts: list[str]) -> None:
    chain = f'{junk}, host={hosts[0]};for="{CLIENT}:7", for=192.0.2.7;host={hosts[1]}'
    assert address(PROXY, FORWARDED, chain) == CLIENT


@pytest.mark.parametrize(
    "line",
    [
        ";  " * 21_000 + '"',
        "," * 65_000 + '"',
        ',a="' * 16_000,
        ',";' * 21_000,
        'for="' + ",a=" * 21_000,
        "\t" * 65_000,
    ],
)
def test_the_longest_header_is_read_in_no_time(line: str) -> None:
    began_s = perf_counter()
    assert address(PROXY, FORWARDED, line) == PROXY
    assert perf_counter() - began_s < 5


def test_a_network_of_ipv4_written_as_ipv6_is_ipv4() -> None:
    assert [str(network) for network in networks_in("::ffff:10.0.0.0/104, ::ffff:192.0.2.1,::/0, 10.0.0.0/8")] == [
        *("10.0.0.0/8", "192.0.2.1/32", "::/0", "10.0.0.0/8")
    ]


def test_addresses_of_ipv6_are_counted_by_network() -> None:
    addresses = Addresses(networks_in(PROXIES), LISTED)
    assert addresses.key("fd00::1", [(b"x-forwarded-for", b"[2001:db8:1:2:3:4:5:6]:443")]) == "2001:db8:1:2::/64"
    assert addresses.key("2001:db8:1:2:ffff::1", []) == "2001:db8:1:2::/64"
    assert addresses.key("fe80::1%eth0", []) == "fe80::/64"
    assert addresses.key("203.0.113.9", []) == "203.0.113.9"
    assert addresses.key("", []) == ""


@pytest.mark.parametrize("name", ["cf-connecting-ip", "X-Forwarded-For, Forwarded", "x_real_ip"])
def test_a_header_that_nobody_reads_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HONGBAO_ADDRESS_HEADER", name)
    with pytest.raises(OperatorError) as refused:
        Settings.load()
    assert str(refused.value) == (
        "HONGBAO_ADDRESS_HEADER cannot be used: it must be one of x-forwarded-for, x-real-ip, forwarded."
    )


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "forwarded"])
def test_the_headers_name_may_be_written_in_capitals(settings: Settings, name: str) -> None:
    assert changed(settings, address_header=name).address_header == name.lower()


async def status_of_sending(served: Served, *lines: str) -> int:
    """What a merchant's sending with these headers is answered."""
    body = orjson.dumps({"total_fen": 10, "count": 1, "split": "lucky"})
    lines = (served.authorized("shop", "send"), f"idempotency-key: {uuid4().hex}", *lines)
    return (await served.ask_one(request("/v1/packets", *lines, body=body))).status


NAMED = ("x-forwarded-for: 192.0.2.1", "x-real-ip: 192.0.2.1", "forwarded: for=192.0.2.1", "x-forwarded-proto: https")


@pytest.mark.parametrize("header", ["", LISTED, REAL, FORWARDED])
async def test_a_merchants_networks_are_not_got_around_by_a_header(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    """Over a real socket: uvicorn believes loopback, and whom FORWARDED_ALLOW_IPS names, unless it is told not to."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    if header:
        settings = changed(settings, trusted_proxies="127.0.0.1", address_header=header)
    async with serving_here(settings) as served:
        engine = served.front.engine
        await fund(engine, "shop", 1_000)
        await engine.profiles.put("shop", AccountKind.MERCHANT, ["::ffff:192.0.2.0/120"], {}, changed_by="root")
        assert await status_of_sending(served) == 403
        others = [line for line in NAMED if not (header and line.startswith(f"{header}:"))]
        assert await status_of_sending(served, *others) == 403
        if header:
            (own,) = set(NAMED) - set(others)
            assert await status_of_sending(served, *others, own) == 201


@pytest.mark.parametrize("query", ["", "?x=1"], ids=["short", "long"])
async def test_limits_per_address_follow_the_same_rule(settings: Settings, query: str) -> None:
    wanted = changed(settings, claims_per_address_max=1, trusted_proxies="127.0.0.1", address_header="Forwarded")
    async with open_world(wanted) as world:

        async def status(*lines: str) -> int:
            async with world.served.connected() as wire:
                return (await wire.ask(claim(world.open, world.bob, *lines, query=query))).status

        assert await status('forwarded: for="203.0.113.1:50001"', "x-forwarded-for: 203.0.113.1") == 200
        assert await status('forwarded: for="203.0.113.1:50002"', "x-forwarded-for: 203.0.113.2") == 429
        assert await status("forwarded: for=203.0.113.2", "x-real-ip: 203.0.113.1") == 200
        assert await status("x-forwarded-for: 203.0.113.3") == 200  # the proxy's own
        assert await status("forwarded: for=unknown") == 429
