"""Codes: the same from the same key, read back, found out when they are mistyped, and told apart from guesses."""

import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.coupons import codes, keys
from engine.coupons.keys import BatchKeys, CouponKeys
from engine.errors import NoCouponKeyError, OperatorError
from engine.settings import Settings
from tests.support.coupons import with_keys

KEYS = BatchKeys(b"k" * 32, 7)
NUMBERS = st.integers(1, codes.COUNT_MAX)


@given(NUMBERS, st.integers(0, 100))
def test_a_code_is_made_again_and_read_back(number: int, moves: int) -> None:
    code = codes.derived(KEYS, number, moves)
    assert re.fullmatch(r"[A-HJ-NP-Z2-9]{6}(-[A-HJ-NP-Z2-9]{6}){2}", code)
    assert code == codes.derived(BatchKeys(b"k" * 32, 7), number, moves)
    assert codes.number_in(KEYS, code) == codes.number_in(KEYS, code.lower().replace("-", " ")) == number
    assert codes.is_same(code, code.replace("-", "").lower())


@given(NUMBERS, NUMBERS, st.integers(0, 3), st.integers(0, 3))
def test_codes_differ_by_number_moves_batch_and_key(number: int, other: int, moves: int, later: int) -> None:
    code = codes.derived(KEYS, number, moves)
    assert (code == codes.derived(KEYS, other, later)) == ((number, moves) == (other, later))
    assert code != codes.derived(BatchKeys(b"k" * 32, 8), number, moves)
    assert code != codes.derived(BatchKeys(b"s" * 32, 7), number, moves)


def test_a_wrong_character_or_a_swap_is_noticed() -> None:
    chance, swapped, noticed = Random(1), 0, 0
    for number in range(1, 200):
        code = codes.derived(KEYS, number, 0).replace("-", "")
        place = chance.randrange(len(code))
        for other in codes.ALPHABET.replace(code[place], ""):
            assert codes.number_in(KEYS, f"{code[:place]}{other}{code[place + 1 :]}") is None
        place = chance.randrange(len(code) - 1)
        if code[place] != code[place + 1]:
            swapped += 1
            noticed += codes.number_in(KEYS, f"{code[:place]}{code[place + 1]}{code[place]}{code[place + 2 :]}") is None
    assert noticed / swapped > 0.98


def test_a_guess_is_never_a_code() -> None:
    """Also one with the right check character: its number, if it has one, has another code."""
    chance, read = Random(2), 0
    for _ in range(20_000):
        text = "".join(chance.choice(codes.ALPHABET) for _ in range(17))
        guess = text + codes._check_character(text)
        number = codes.number_in(KEYS, guess)
        if number is not None:
            read += 1
            assert not codes.is_same(guess, codes.derived(KEYS, number, 0))
    assert read > 1_000


def test_codes_tell_nothing_of_their_numbers() -> None:
    made = [codes.derived(KEYS, number, 0).replace("-", "") for number in range(1, 3_001)]
    assert len(set(made)) == 3_000
    for place in range(18):
        assert {code[place] for code in made} == set(codes.ALPHABET)
    # Neighbours agree in one character of 32, as any two codes do.
    agreeing = sum(a == b for one, two in pairwise(made) for a, b in zip(one, two, strict=True))
    assert 0.025 < agreeing / (18 * 2_999) < 0.038


def test_what_is_no_derived_code() -> None:
    for text in ("", "A", "I" * 18, "A" * 17, "A" * 19, "ＡＢＣ" * 6, "\x00" * 18, codes.derived(KEYS, 1, 0)[:-1]):
        assert codes.number_in(KEYS, text) is None


@pytest.mark.parametrize(
    ("text", "is_code"),
    [
        ("ABCD", True), ("a1.b_c:d/e+f=-", True), ("x" * 64, True), ("abc", False), ("x" * 65, False),
        ("with blank", False), ("逢年过节", False), ("abcd\n", False), ("", False), ('"abcd"', False), ("ab,cd", False),
    ],
)  # fmt: skip
def test_what_can_be_uploaded(text: str, is_code: bool) -> None:
    assert codes.is_code(text) is is_code


def test_sealed_codes_are_read_by_their_key_for_their_number() -> None:
    sealed = KEYS.seal(3, "ABCD-1")
    assert KEYS.unseal(3, sealed) == "ABCD-1"
    assert b"ABCD" not in sealed
    assert KEYS.seal(3, "ABCD-1") != sealed
    changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
    for keys_of, number, text in ((KEYS, 4, sealed), (KEYS, 3, changed), (OTHER, 3, sealed)):
        with pytest.raises(NoCouponKeyError, match="was not sealed"):
            keys_of.unseal(number, text)


OTHER = BatchKeys(b"k" * 32, 8)


def test_hashes_are_keyed() -> None:
    assert KEYS.hash(b"ABCD") == BatchKeys(b"k" * 32, 7).hash(b"ABCD") != OTHER.hash(b"ABCD")
    assert len(KEYS.hash(b"ABCD")) == 16


def test_the_first_key_is_for_new_batches_and_each_is_found(settings: Settings) -> None:
    loaded = keys.load(with_keys(settings, f"new:{'n' * 32},old:{'o' * 32}"))
    assert loaded.first == "new"
    assert loaded.of_batch("old", 1).hash(b"x") == BatchKeys(b"o" * 32, 1).hash(b"x")
    with pytest.raises(NoCouponKeyError, match="The key older of coupon batch 1 is missing"):
        loaded.of_batch("older", 1)
    with pytest.raises(NoCouponKeyError, match="must set HONGBAO_COUPON_KEYS"):
        _ = CouponKeys({}).first


@pytest.mark.parametrize("text", ["k" * 32, f"a:{'k' * 31}", f"a:{'k' * 32},a:{'s' * 32}", f"a b:{'k' * 32}"])
def test_bad_keys_are_refused_without_being_shown(settings: Settings, text: str) -> None:
    with pytest.raises(OperatorError, match="HONGBAO_COUPON_KEYS") as caught:
        keys.load(with_keys(settings, text))
    assert "kkk" not in str(caught.value)


def test_there_are_at_most_sixteen_keys(settings: Settings) -> None:
    many = ",".join(f"key{number}:{'k' * 32}" for number in range(17))
    with pytest.raises(OperatorError, match="17 keys"):
        keys.load(with_keys(settings, many))
