"""What may name a user, in text and as bytes off the wire."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.ids import are_user_ids, is_user_id, user_id_in

LETTERS = b"ABCXYZabcxyz0189._:@-"


@given(
    text=st.binary(max_size=70)
    | st.text(LETTERS.decode(), max_size=70).map(str.encode)
    | st.tuples(
        st.text(LETTERS.decode(), max_size=40), st.binary(max_size=2), st.text(LETTERS.decode(), max_size=40)
    ).map(lambda parts: parts[0].encode() + parts[1] + parts[2].encode())
)
@example(text=b"")
@example(text=b"a" * 64)
@example(text=b"a" * 65)
@example(text=b"bob\n")
@example(text=b".")
@example(text=b"..")
def test_the_bytes_name_who_the_text_names(text: bytes) -> None:
    read = text.decode("latin-1")  # as headers are read
    assert user_id_in(text) == (read if is_user_id(read) else None)


words = st.text(LETTERS.decode(), min_size=1, max_size=8)
odd = st.text(max_size=3) | st.sampled_from(
    [".", "..", "a" * 64, "a" * 65, "", "bob\n", "b\u00fcb", "\uff11", "\ud800"]
)


@given(texts=st.lists(words, max_size=5), others=st.lists(odd, max_size=1))
def test_many_are_judged_as_one_by_one(texts: list[str], others: list[str]) -> None:
    texts += others
    if texts:
        assert are_user_ids(texts) == all(map(is_user_id, texts))


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_is_judged_alike(byte: int) -> None:
    for text in (bytes([byte]), b"a" + bytes([byte]), bytes([byte]) + b"a", b"a" * 62 + bytes([byte]) + b"a"):
        read = text.decode("latin-1")
        assert user_id_in(text) == (read if is_user_id(read) else None)


def test_some_name_a_user_and_some_do_not() -> None:
    assert [user_id_in(text) for text in (b"bob", b"a.b_c:d@e-f", b"a" * 64)] == ["bob", "a.b_c:d@e-f", "a" * 64]
    assert [user_id_in(text) for text in (b"", b"a" * 65, b"a b", b"\xe6\x81\xad", b"a,b", b"a/b")] == [None] * 6


@pytest.mark.parametrize("text", [".", ".."])
def test_what_means_a_folder_in_a_path_names_nobody(text: str) -> None:
    """A client or a proxy would ask for another resource: /v1/wallets/../deposits."""
    assert not is_user_id(text)
    assert user_id_in(text.encode()) is None
    assert not are_user_ids(["bob", text])


@pytest.mark.parametrize("text", ["...", ".a", "..a", "a.", "a..", "._", ".:@-", "b" * 64, "." * 64])
def test_dots_beside_anything_else_name_somebody(text: str) -> None:
    assert is_user_id(text)
    assert not is_user_id(text + "x" * 64)
