"""Sentences of the engine in Chinese: those that are frequent are known, and what is known is what the engine says."""

import re
from pathlib import Path

import pytest

from api.console import sentences
from api.console.texts import Texts
from engine.recovery.epochs import WHY
from tests.support.repository import ROOT

CHINESE = Texts().of("zh").gettext
ENGLISH = Texts().of("en").gettext
_IS_CHINESE = re.compile("[一-鿿]")


def told(sentence: str) -> str:
    return sentences.in_language(CHINESE, sentence)


@pytest.mark.parametrize("known", sentences.KNOWN)
def test_each_is_translated_and_still_said(known: str) -> None:
    translated = CHINESE(known)
    assert _IS_CHINESE.search(translated), known
    assert translated.count("{}") == known.count("{}")
    assert sentences.in_language(ENGLISH, known.replace("{}", "7")) == known.replace("{}", "7")
    assert sentences.in_language(CHINESE, known.replace("{}", "7")) == translated.replace("{}", "7")
    beginning = max(re.split(r"\{\}|: ", known), key=len)
    assert beginning in _sources(), f"nobody says {known!r} any more: remove it, or bring it up to date"


def _sources() -> str:
    if not SOURCES:
        files = [*(ROOT / "engine").rglob("*.py"), *(ROOT / "api").rglob("*.py")]
        SOURCES.append("".join(path.read_text(encoding="utf-8") for path in files if path.name != "sentences.py"))
    return SOURCES[0]


SOURCES: list[str] = []


def test_every_reason_for_which_a_lane_does_not_serve_is_known() -> None:
    for why in WHY.values():
        sentence = why.removeprefix("is ").removesuffix(".")
        assert _IS_CHINESE.search(told(sentence)), sentence


def test_every_rule_that_a_change_can_break_is_known() -> None:
    source = Path(ROOT / "engine" / "ledger" / "posting.py").read_text(encoding="utf-8")
    rules = re.findall(r'(?:_expect\(.*, |RuleBrokenError\()f?"([^"]+)"\)', source)
    assert len(rules) >= 5
    for rule in rules:
        assert _IS_CHINESE.search(told(rule)), rule


def test_a_sentence_in_a_sentence_is_told_as_well() -> None:
    assert told("it still breaks a rule: the packet is not open") == "仍然违反规则：红包不在可领取状态"
    assert told("it still breaks a rule: {} % {0}") == "仍然违反规则：{} % {0}"


def test_fields_keep_their_names() -> None:
    wrong = "packet: must be a packet's number of 19 digits; row: must be a whole number from 1 to 9"
    assert sentences.fields_in_language(CHINESE, wrong) == "packet: 请填写 19 位红包单号; row: 请填写 1 至 9 之间的整数"
    assert sentences.fields_in_language(ENGLISH, wrong) == wrong


@pytest.mark.parametrize("other", ["", "nobody knows this", "Redis does not answer: 127.0.0.1:6379", "x" * 10_000])
def test_what_is_not_known_stays_as_it_is(other: str) -> None:
    assert told(other) == other
    assert sentences.fields_in_language(CHINESE, other) == other
