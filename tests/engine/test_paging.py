import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidFieldsError
from engine.paging import parse


def test_without_a_cursor_it_starts_at_the_start() -> None:
    assert parse(None, parts=2, start=(7, 8)) == (7, 8)


@given(st.integers(0, 10**18 - 1), st.integers(0, 2**63 - 1))
def test_what_a_page_gave_is_read(first: int, second: int) -> None:
    assert parse(str(first), parts=1, start=(0,)) == (first,)
    assert parse(f"{first}-{second}", parts=2, start=(0, 0)) == (first, second)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    "cursor",
    ["", "-", "1-", "-1", "1-2-3", "x", "1.0", "1e3", " 1", "1\n", "+1", "٣", "9" * 19, f"1-{2**63}", "1--2", "9" * 99],
)
def test_what_is_no_cursor_is_named(cursor: str, parts: int) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        parse(cursor, parts=parts, start=(0,) * parts)
    assert [problem.field for problem in caught.value.problems] == ["after"]


@pytest.mark.parametrize(("cursor", "parts"), [("1", 2), ("1-2", 1)])
def test_a_cursor_of_another_listing_is_none(cursor: str, parts: int) -> None:
    with pytest.raises(InvalidFieldsError):
        parse(cursor, parts=parts, start=(0,) * parts)
