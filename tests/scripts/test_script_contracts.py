"""Each script's header is its contract; this holds the script and its Python side to it."""

import re
from enum import StrEnum
from importlib.resources import files

import msgspec
import pytest

from engine.events import ClaimsEvent, ClosedEvent, OpenedEvent, PacketClaims
from engine.lanes.replies import Claimed, Closed, Extended, Fenced, Followed, Forgotten, Noted, Opened
from engine.lanes.store import Chunk
from engine.records import Outcome

NAMES = ["open", "claim", "close", "view", "extend", "freeze", "limit", "fence", "forget"]
REPLIES: dict[str, type[StrEnum]] = {
    "open": Opened,
    "claim": Claimed,
    "close": Closed,
    "view": Noted,
    "extend": Extended,
    "freeze": Followed,
    "limit": Followed,
    "fence": Fenced,
    "forget": Forgotten,
}
LINES_MAX = 85


class Contract:
    """A script taken apart: the sections of its header, and its code without comments."""

    def __init__(self, name: str) -> None:
        text = files("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
        header, _, code = text.partition("\n]]\n")
        assert header.startswith(f"--[[\n{name}.lua: ")
        parts = re.split(r"^(KEYS|ARGV|REPLIES|EVENTS)\b", header, flags=re.M)
        self.sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        assert list(self.sections) == ["KEYS", "ARGV", "REPLIES", "EVENTS"]
        self.code = "\n".join(line for line in code.splitlines() if line and not line.lstrip().startswith("--"))

    def numbered(self, section: str) -> list[str]:
        """The names behind the numbers of KEYS or ARGV, which must count from 1."""
        found = re.findall(r"(?:^|  )(\d+) (\w+)", self.sections[section], flags=re.M)
        assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
        return [name for _, name in found]

    def replies(self) -> list[str]:
        """The words of REPLIES in order."""
        return re.findall(r'^  \{"(\w+)"', self.sections["REPLIES"], flags=re.M)

    def letters(self) -> list[tuple[str, str]]:
        """The letters of REPLIES in order, with their names."""
        return re.findall(r"^ {6}([A-Z]) ([A-Z_]+) ", self.sections["REPLIES"], flags=re.M)

    def events(self) -> dict[str, list[str]]:
        """Each event's kind and the names of its fields, those of nested tables spelt "packets"."""
        return {
            kind: re.sub(r"\{\{.*\}", "packets", fields).split(", ")
            for kind, fields in re.findall(r'^  \{"(\w+)", (.*?)\}(?:  |$)', self.sections["EVENTS"], flags=re.M)
        }

    def bound_to(self, table: str) -> list[str]:
        """The locals that the first lines bind to KEYS or ARGV, in order."""
        if not self.numbered(table):
            return []
        found = re.search(rf"^local ([\w, ]+) = ((?:unpack\({table}|{table}\[1\]).*)$", self.code, flags=re.M)
        assert found
        if found[2].startswith(table):
            elements = [re.sub(r"^tonumber\((.*)\)$", r"\1", element) for element in found[2].split(", ")]
            assert elements == [f"{table}[{number}]" for number in range(1, len(elements) + 1)]
        return found[1].split(", ")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def contract(name: str) -> Contract:
    return Contract(name)


def test_keys_are_bound_to_the_names_of_the_header(contract: Contract) -> None:
    assert contract.bound_to("KEYS") == [f"{key}_key" for key in contract.numbered("KEYS")]


def test_arguments_are_bound_to_the_names_of_the_header(name: str, contract: Contract) -> None:
    arguments, bound = contract.numbered("ARGV"), contract.bound_to("ARGV")
    assert bound == arguments[: len(bound)]
    for number in range(len(bound) + 1, len(arguments) + 1):
        assert f"local {arguments[number - 1]} = tonumber(ARGV[{number}])" in contract.code
    if name == "open":
        assert f"local first_recipient, first_share = {len(arguments) + 1}," in contract.code
    else:
        assert bound == arguments


def test_the_store_passes_the_arguments_by_the_same_names() -> None:
    arguments = [{"packet": "packet_id"}.get(argument, argument) for argument in Contract("open").numbered("ARGV")]
    arguments = [argument for argument in arguments if argument not in ("epoch", "not_after_ms")]
    assert [*arguments, "shares"] == list(Chunk.__dataclass_fields__)


def test_every_key_a_command_touches_is_one_of_keys(contract: Contract) -> None:
    touched = re.findall(r"redis\.call\('(\w+)'(?:, ([^,()]+(?:\[[^]]*\])?))?", contract.code)
    assert len(touched) == contract.code.count("redis.call")
    allowed = {*contract.bound_to("KEYS"), "KEYS[key]", "KEYS[key + 1]", "KEYS[key + 2]", "KEYS[key + 3]"}
    assert {key for command, key in touched if command != "TIME"} <= allowed


def test_the_keys_of_claims_packets_are_taken_in_the_headers_order() -> None:
    contract = Contract("claim")
    assert "then four per packet: packet, shares, claims, recipients" in contract.sections["KEYS"]
    assert "for key = 6, #KEYS, 4 do" in contract.code
    kinds = dict(re.findall(r"redis\.call\('(\w+)', KEYS\[key \+ (\d)\]", contract.code))
    assert kinds == {"LRANGE": "1", "LTRIM": "1", "HMGET": "2", "HSET": "2", "SMISMEMBER": "3"}


def test_the_words_it_returns_are_those_of_the_header(contract: Contract) -> None:
    returned = re.findall(r"return \{'(\w+)'", contract.code)
    assert set(returned) == set(contract.replies())
    assert list(dict.fromkeys(returned)) == contract.replies(), "precedence is the order in which it returns"
    assert len(re.findall(r"return \{(?!')", contract.code)) == 0


def test_the_words_are_those_of_the_enumeration_in_the_same_order(name: str, contract: Contract) -> None:
    assert contract.replies() == [reply.value for reply in REPLIES[name]]
    assert [reply.name for reply in REPLIES[name]] == [reply.value for reply in REPLIES[name]]


def test_claims_letters_are_those_of_outcome_in_the_same_order() -> None:
    assert Contract("claim").letters() == [(outcome.value, outcome.name) for outcome in Outcome]


def test_claims_letters_are_those_it_answers_with() -> None:
    contract = Contract("claim")
    answered = set(re.findall(r"(?<![\w%])'([A-Z])'", contract.code))
    assert answered == {letter for letter, _ in contract.letters()}


def field_names(struct: type[msgspec.Struct]) -> list[str]:
    """A record's fields as the headers spell them."""
    spelling = {"version": "1", "packet_id": "packet"}
    return [spelling.get(name, name) for name in struct.__struct_fields__]


@pytest.mark.parametrize(
    ("script", "kind", "record"),
    [("open", "opened", OpenedEvent), ("claim", "claims", ClaimsEvent), ("close", "closed", ClosedEvent)],
)
def test_events_are_the_records_that_read_them(script: str, kind: str, record: type[msgspec.Struct]) -> None:
    contract = Contract(script)
    assert contract.events() == {kind: field_names(record)}
    assert record.__struct_config__.tag == kind
    assert record.__struct_config__.array_like
    packed = re.findall(r"cmsgpack\.pack\(\{'(\w+)', ([^}]*)\}", contract.code)
    spelling = {"now_ms": "at_ms", "event": "packets", "ended": "reason"}
    assert [(name, [spelling.get(field, field) for field in fields.split(", ")]) for name, fields in packed] == [
        (kind, field_names(record))
    ]


def test_the_packets_of_a_claims_event_are_the_record_that_reads_them() -> None:
    contract = Contract("claim")
    (fields,) = re.findall(r"\{\{(.*?)\}", contract.sections["EVENTS"])
    assert fields.split(", ") == field_names(PacketClaims)
    assert "{number, winners, shares, remaining == 0}" in contract.code


def test_it_is_short(contract: Contract) -> None:
    assert len(contract.code.splitlines()) <= LINES_MAX
