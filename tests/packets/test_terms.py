from datetime import date
from typing import Any

import pytest

from engine.errors import InvalidFieldsError
from engine.ids import is_user_id
from engine.packets.terms import terms_from
from engine.records import Ack, SplitKind
from engine.settings import Settings

SETTINGS = Settings.model_construct(
    merchant_count_max=1_000, recipients_max=5, greeting_length_max=10, ack=Ack.FSYNC, festivals=""
)
FESTIVE = SETTINGS.model_copy(update={"festivals": "02-14,05-20,qixi"})


def bad_fields(**changes: Any) -> list[str]:  # noqa: ANN401
    """The fields that are named when a good request is changed like this."""
    asked: dict[str, Any] = {"total_fen": 1_000, "count": 10, "split": SplitKind.LUCKY, **changes}
    try:
        terms_from(settings=SETTINGS, **asked)
    except InvalidFieldsError as error:
        return sorted({problem.field for problem in error.problems})
    return []


def test_what_is_left_out_is_the_default() -> None:
    terms = terms_from(settings=SETTINGS, total_fen=1_000, count=10, split=SplitKind.LUCKY)
    assert (terms.min_fen, terms.max_fen, terms.ttl_s) == (1, 20_000, 86_400)
    assert (terms.greeting, terms.recipients) == ("", ())


def test_what_is_given_is_kept() -> None:
    terms = terms_from(
        settings=SETTINGS,
        total_fen=1_000,
        count=2,
        split=SplitKind.EQUAL,
        min_fen=5,
        max_fen=600,
        ttl_s=60,
        greeting="恭喜发财",
        recipients=["ada", "bob"],
    )
    assert (terms.min_fen, terms.max_fen, terms.ttl_s) == (5, 600, 60)
    assert (terms.greeting, terms.recipients) == ("恭喜发财", ("ada", "bob"))


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1_000, "total_fen": 1_000},
        {"total_fen": 10},
        {"total_fen": 200_000},
        {"min_fen": 100, "max_fen": 100},
        {"ttl_s": 1},
        {"ttl_s": 86_400},
        {"greeting": "红" * 10},
        {"recipients": ["a", "b"], "count": 2},
        {"recipients": ["a", "b", "c"], "count": 2},
        {"recipients": list("abcde"), "count": 5},
        {"ack": Ack.FSYNC},
        {"ack": Ack.LEDGER},
    ],
)
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    assert bad_fields(**changes) == []


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"count": 0}, ["count"]),
        ({"count": -1}, ["count"]),
        ({"count": 1_001, "total_fen": 10_000}, ["count"]),
        ({"total_fen": 9}, ["total_fen"]),
        ({"total_fen": 0}, ["total_fen"]),
        ({"total_fen": -5}, ["total_fen"]),
        ({"total_fen": 200_001}, ["total_fen"]),
        ({"total_fen": 10**30}, ["total_fen"]),
        ({"split": SplitKind.EQUAL, "total_fen": 1_001}, ["total_fen"]),
        ({"min_fen": 0}, ["min_fen"]),
        ({"max_fen": 20_001}, ["max_fen"]),
        ({"min_fen": 60, "max_fen": 50}, ["max_fen", "min_fen"]),
        ({"ttl_s": 0}, ["ttl_s"]),
        ({"ttl_s": 86_401}, ["ttl_s"]),
        ({"greeting": "x" * 11}, ["greeting"]),
        ({"greeting": "a\x00b"}, ["greeting"]),
        ({"greeting": "a\nb"}, ["greeting"]),
        ({"greeting": "\ud800"}, ["greeting"]),
        ({"recipients": list("abcdef"), "count": 1}, ["recipients"]),
        ({"recipients": ["a", "a"], "count": 1}, ["recipients"]),
        ({"recipients": ["a", "b c", ""], "count": 1}, ["recipients[1]", "recipients[2]"]),
        ({"recipients": ["a"], "count": 2}, ["count"]),
        ({"ack": Ack.MEMORY}, ["ack"]),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], fields: list[str]) -> None:
    assert bad_fields(**changes) == fields


def test_every_bad_field_is_named_at_once() -> None:
    changes = {"count": 2_000, "min_fen": 0, "max_fen": 99_999, "ttl_s": -1, "greeting": "\x07", "recipients": ["?"]}
    assert bad_fields(**changes) == ["count", "greeting", "max_fen", "min_fen", "recipients[0]", "ttl_s"]


@pytest.mark.parametrize("user_id", ["a", "A.b_c:d@e-f", "0", "x" * 64, "-", "..."])
def test_user_ids(user_id: str) -> None:
    assert is_user_id(user_id)


@pytest.mark.parametrize("user_id", ["", "x" * 65, "a b", "a\n", "é", "用户", "a/b", "{a}", "a\x00", "٣", "a,b"])
def test_what_is_no_user_id(user_id: str) -> None:
    assert not is_user_id(user_id)


@pytest.mark.parametrize("day", ["2026-02-14", "2026-05-20", "2026-08-19", "2027-08-08"])
def test_on_a_festival_a_share_may_be_larger(day: str) -> None:
    terms = terms_from(settings=FESTIVE, total_fen=52_000, count=1, split=SplitKind.EQUAL, day=date.fromisoformat(day))
    assert terms.max_fen == 52_000
    with pytest.raises(InvalidFieldsError, match="total_fen"):
        terms_from(settings=FESTIVE, total_fen=52_001, count=1, split=SplitKind.EQUAL, day=date.fromisoformat(day))
    with pytest.raises(InvalidFieldsError, match="max_fen: must be at most 52000"):
        terms_from(
            settings=FESTIVE,
            total_fen=1_000,
            count=1,
            split=SplitKind.EQUAL,
            max_fen=52_001,
            day=date.fromisoformat(day),
        )


@pytest.mark.parametrize("day", ["2026-02-13", "2026-02-15", "2026-05-21", "2026-08-18", "2026-08-20", "2027-08-19"])
def test_on_any_other_day_it_may_not(day: str) -> None:
    with pytest.raises(InvalidFieldsError, match="total_fen"):
        terms_from(settings=FESTIVE, total_fen=20_001, count=1, split=SplitKind.EQUAL, day=date.fromisoformat(day))


def test_a_timed_packet_is_open_for_a_minute() -> None:
    terms = terms_from(settings=SETTINGS, total_fen=1_000, count=10, split=SplitKind.LUCKY, is_timed=True)
    assert terms.ttl_s == 60
    assert bad_fields(is_timed=True, ttl_s=60) == ["ttl_s"]


def test_an_exclusive_packet_is_one_share_for_one_recipient() -> None:
    one: dict[str, Any] = {"total_fen": 520, "split": SplitKind.EQUAL, "is_exclusive": True}
    terms = terms_from(settings=SETTINGS, count=1, recipients=["ada"], **one)
    assert (terms.count, terms.recipients) == (1, ("ada",))
    assert bad_fields(**one, count=2, recipients=["ada", "bob"]) == ["count"]
    assert bad_fields(**one, count=1) == ["recipients"]
    assert bad_fields(**one, count=1, recipients=["ada", "bob"]) == ["recipients"]


def test_a_label_is_formed_as_a_user_id() -> None:
    assert bad_fields(label="family-7") == []
    assert bad_fields(label="") == ["label"]
    assert bad_fields(label="a b") == ["label"]
    assert bad_fields(label="a" * 65) == ["label"]
