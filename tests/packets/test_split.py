import hashlib
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import InvalidFieldsError
from engine.packets import doubling
from engine.packets.split import TOTAL_FEN_MAX, check, commitment, luckiest_slot, new_seed, split
from engine.records import SplitKind
from tests.support.repository import ROOT

DOCUMENT = (ROOT / "docs" / "split.md").read_text(encoding="utf-8")
ZERO_SEED = bytes(32)
PACKET_ID = "1000000000000000000"
LUCKY, EQUAL = SplitKind.LUCKY, SplitKind.EQUAL

Bounds = tuple[int, int, int, int]  # total_fen, count, min_fen, max_fen


def reference(total: int, count: int, least: int, most: int, seed: bytes) -> list[int]:
    """docs/split.md in plain Python; shares no code with the engine."""
    stream = b""
    while len(stream) < 24 * count:
        number = len(stream) // 2**20
        block = hashlib.shake_256(b"hongbao split 1\n" + seed + number.to_bytes(8, "little"))
        stream += block.digest(2**20 if 24 * count - len(stream) > 2**20 else 24 * count - len(stream))
    words = [int.from_bytes(stream[start : start + 8], "little") for start in range(0, 24 * count, 8)]
    rounding, pick, key = words[:count], words[count : 2 * count], words[2 * count :]
    surplus, cap = total - count * least, most - least
    drawn: list[int] = []
    n = count
    while n > 1:
        size = max(1, n // 64)
        mirrored = 2 * surplus > n * cap
        pool = n * cap - surplus if mirrored else surplus
        left = pool
        for _ in range(size):
            i = len(drawn)
            high = (2 * pool + ((rounding[i] * n) >> 64)) // n
            part = min(left, (pick[i] * (high + 1)) >> 64)
            left = left - part
            drawn.append(least + cap - part if mirrored else least + part)
        n = n - size
        surplus = n * cap - left if mirrored else left
    drawn.append(least + surplus)
    return [share for _, _, share in sorted((key[i], i, drawn[i]) for i in range(count))]


@st.composite
def fillable(draw: st.DrawFn, count_max: int = 3_000) -> Bounds:
    """Terms that can be filled, the edges (total at a bound, min = max, huge amounts) as likely as the middle."""
    count = draw(st.one_of(st.integers(1, 20), st.integers(1, count_max)))
    mean_max = TOTAL_FEN_MAX // count
    min_fen = draw(st.one_of(st.just(1), st.integers(1, min(30, mean_max)), st.integers(1, mean_max)))
    max_fen = draw(st.one_of(st.integers(min_fen, min_fen + 3), st.integers(min_fen, 10**16)))
    lowest, highest = count * min_fen, min(count * max_fen, TOTAL_FEN_MAX)
    near_lowest = st.integers(lowest, min(highest, lowest + 2 * count))
    near_highest = st.integers(max(lowest, highest - 2 * count), highest)
    total_fen = draw(st.one_of(near_lowest, near_highest, st.integers(lowest, highest)))
    return total_fen, count, min_fen, max_fen


seeds = st.binary(min_size=32, max_size=32)

EXTREMES: list[Bounds] = [
    (1, 1, 1, 1),
    (20_000, 1, 1, 20_000),
    (100, 18, 1, 20_000),
    (100, 100, 1, 20_000),
    (2_000_000, 100, 1, 20_000),
    (1_999_999, 100, 1, 20_000),
    (101, 100, 1, 20_000),
    (1_400, 100, 10, 15),
    (5_003, 5_000, 1, 20_000),
    (14_999, 5_000, 1, 3),
    (7_500, 5_000, 1, 2),
    (10**15, 2, 1, 10**15),
    (10**15, 127, 1, 10**15),
    (10**15, 128, 1, 10**15),
    (10**15, 1_000, 1, 10**15),
    (10**15, 1_001, 1, 10**15),
    (10**15, 5_000, 1, 2 * 10**11 + 1),
    (10**15, 5_000, 10**11, 10**30),
    (50_000_000, 50_000, 1, 20_000),  # more than one block of the stream
]


def assert_fills(shares: NDArray[np.int64], bounds: Bounds) -> None:
    total_fen, count, min_fen, max_fen = bounds
    amounts = shares.tolist()
    assert len(amounts) == count
    assert sum(amounts) == total_fen
    assert min(amounts) >= min_fen
    assert max(amounts) <= max_fen
    assert all(type(amount) is int for amount in amounts)


def bad_fields(split_kind: SplitKind, *bounds: int) -> dict[str, str]:
    with pytest.raises(InvalidFieldsError) as caught:
        check(split_kind, *bounds)
    return {problem.field: problem.message for problem in caught.value.problems}


@given(fillable(), seeds)
@settings(deadline=None)
def test_lucky_fills_any_fillable_terms_exactly_and_again_the_same(bounds: Bounds, seed: bytes) -> None:
    shares = split(LUCKY, *bounds, seed)
    assert_fills(shares, bounds)
    assert split(LUCKY, *bounds, seed).tolist() == shares.tolist()


@given(fillable(count_max=1_600), seeds)
@settings(deadline=None)
def test_lucky_is_what_the_document_says(bounds: Bounds, seed: bytes) -> None:
    assert split(LUCKY, *bounds, seed).tolist() == reference(*bounds, seed)


@pytest.mark.parametrize("bounds", EXTREMES, ids=str)
def test_extremes_fill_and_are_what_the_document_says(bounds: Bounds) -> None:
    for number in range(3):
        seed = number.to_bytes(32, "big")
        shares = split(LUCKY, *bounds, seed)
        assert_fills(shares, bounds)
        assert shares.tolist() == reference(*bounds, seed)


@pytest.mark.parametrize(
    "bounds",
    [
        (2_000_000, 1_000_000, 1, 3),
        (1_000_001, 1_000_000, 1, 3),
        (2_999_999, 1_000_000, 1, 3),
        (1_000_000_000, 1_000_000, 1, 20_000),
        (TOTAL_FEN_MAX, 1_000_000, 1, TOTAL_FEN_MAX),
    ],
    ids=str,
)
def test_a_million_shares(bounds: Bounds) -> None:
    assert_fills(split(LUCKY, *bounds, ZERO_SEED), bounds)


@pytest.mark.long
def test_a_million_shares_are_what_the_document_says() -> None:
    bounds = (1_300_000, 1_000_000, 1, 3)
    assert split(LUCKY, *bounds, ZERO_SEED).tolist() == reference(*bounds, ZERO_SEED)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_block_that_draws_more_than_the_pool_is_held_to_it(mirrored: bool) -> None:
    """The largest words draw 1 fen for each of the first block's 78 shares, out of a pool of 20."""
    surplus_fen = 5_000 * 3 - 20 if mirrored else 20
    words = [2**64 - 1] * 5_000
    parts = doubling._draw_plain(surplus_fen, 5_000, 3, words, words)
    assert parts == ([2] * 20 + [3] * 4_980 if mirrored else [1] * 20 + [0] * 4_980)
    array = np.array(words, dtype=np.uint64)
    assert doubling._draw_vectorised(surplus_fen, 5_000, 3, array, array).tolist() == parts


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**63 - 1)), min_size=1),
    st.integers(0, 2**64 - 1),
)
def test_multiply_high_is_exact(pairs: list[tuple[int, int]], other: int) -> None:
    pairs = [*pairs, (2**64 - 1, 2**63 - 1), (other, 2**32), (other, 2**32 - 1)]
    words, bounds = (np.array(column, dtype=np.uint64) for column in zip(*pairs, strict=True))
    assert doubling._multiply_high(words, bounds).tolist() == [word * bound >> 64 for word, bound in pairs]


def test_equal_keys_keep_the_order_drawn() -> None:
    keys = np.array([2**48, 1, 2**48, 0, 2**63, 1, 2**16, 2**32] * 300, dtype=np.uint64)
    order = doubling._stable_order(keys).tolist()
    assert order == sorted(range(len(keys)), key=keys.tolist().__getitem__)


def test_one_yuan_into_18() -> None:
    for number in range(2_000):
        amounts = split(LUCKY, 100, 18, 1, 20_000, number.to_bytes(32, "big")).tolist()
        assert (len(amounts), sum(amounts)) == (18, 100)
        assert min(amounts) >= 1


@given(st.integers(1, 3_000), st.integers(1, 20_000), seeds)
def test_equal_shares_are_all_the_same(count: int, share_fen: int, seed: bytes) -> None:
    assert split(EQUAL, count * share_fen, count, 1, 20_000, seed).tolist() == [share_fen] * count


@pytest.mark.parametrize(
    ("bounds", "fields"),
    [
        ((17, 18, 1, 20_000), {"total_fen"}),
        ((0, 1, 1, 20_000), {"total_fen"}),
        ((-5, 1, 1, 20_000), {"total_fen"}),
        ((20_001, 1, 1, 20_000), {"total_fen"}),
        ((61, 10, 3, 6), {"total_fen"}),
        ((TOTAL_FEN_MAX + 1, 1, 1, 10**16), {"total_fen"}),
        ((100, 0, 1, 20_000), {"count"}),
        ((100, -1, 1, 20_000), {"count"}),
        ((100, 10, 0, 20_000), {"min_fen"}),
        ((100, 10, 11, 10), {"min_fen", "max_fen"}),
        ((100, 10, 1, 0), {"min_fen", "max_fen"}),
        ((TOTAL_FEN_MAX + 1, 0, 0, -1), {"total_fen", "count", "min_fen", "max_fen"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_unfillable_terms_name_every_bad_field(bounds: Bounds, fields: set[str]) -> None:
    for split_kind in SplitKind:
        assert bad_fields(split_kind, *bounds).keys() == fields
        with pytest.raises(InvalidFieldsError):
            split(split_kind, *bounds, ZERO_SEED)


@given(fillable(), st.integers(1, 10**6))
def test_a_total_outside_the_bounds_is_refused_with_the_nearest_that_would_do(bounds: Bounds, distance: int) -> None:
    _, count, min_fen, max_fen = bounds
    assert str(count * min_fen) in bad_fields(LUCKY, count * min_fen - distance, count, min_fen, max_fen)["total_fen"]
    if count * max_fen + distance <= TOTAL_FEN_MAX:
        message = bad_fields(LUCKY, count * max_fen + distance, count, min_fen, max_fen)["total_fen"]
        assert str(count * max_fen) in message


def test_an_equal_split_that_leaves_a_rest_names_the_totals_that_would_do() -> None:
    assert bad_fields(EQUAL, 100, 18, 1, 20_000) == {"total_fen": "must be a multiple of count, 18: 90 or 108 would do"}
    check(EQUAL, 90, 18, 1, 20_000)
    check(EQUAL, 108, 18, 1, 20_000)
    check(LUCKY, 100, 18, 1, 20_000)


@given(fillable())
def test_the_totals_named_for_an_equal_split_would_do(bounds: Bounds) -> None:
    total_fen, count, min_fen, max_fen = bounds
    if total_fen % count == 0:
        check(EQUAL, *bounds)
        return
    named = re.findall(r"\d+", bad_fields(EQUAL, *bounds)["total_fen"].partition(":")[2])
    assert named
    for named_fen in named:
        check(EQUAL, int(named_fen), count, min_fen, max_fen)


def test_an_equal_split_names_no_total_above_the_largest() -> None:
    assert bad_fields(EQUAL, TOTAL_FEN_MAX, 3, 1, TOTAL_FEN_MAX) == {
        "total_fen": "must be a multiple of count, 3: 999999999999999 would do"
    }


def test_a_seed_has_32_bytes() -> None:
    assert len(new_seed()) == 32
    assert new_seed() != new_seed()
    for seed in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            split(LUCKY, 100, 10, 1, 20_000, seed)
        with pytest.raises(ValueError, match="32 bytes"):
            commitment(PACKET_ID, LUCKY, 100, 10, 1, 20_000, seed)


@pytest.mark.parametrize("count", [10, 5_000])
def test_every_seed_gives_another_split(count: int) -> None:
    splits = {tuple(split(LUCKY, count * 10_000, count, 1, 20_000, bytes([n]) * 32).tolist()) for n in range(100)}
    assert len(splits) == 100


def test_luckiest_is_the_largest_and_of_equals_the_first() -> None:
    assert luckiest_slot([5]) == 0
    assert luckiest_slot([1, 7, 3, 7]) == 1
    assert luckiest_slot(np.array([4, 4, 4])) == 0
    assert type(luckiest_slot(np.array([1, 2]))) is int


def test_the_commitment_differs_with_every_term_and_the_seed() -> None:
    variants = [
        commitment(PACKET_ID, LUCKY, 1_000, 5, 10, 400, ZERO_SEED),
        commitment("1000000000000000001", LUCKY, 1_000, 5, 10, 400, ZERO_SEED),
        commitment(PACKET_ID, EQUAL, 1_000, 5, 10, 400, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_001, 5, 10, 400, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_000, 6, 10, 400, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_000, 51, 0, 400, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_000, 5, 11, 400, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_000, 5, 10, 401, ZERO_SEED),
        commitment(PACKET_ID, LUCKY, 1_000, 5, 10, 400, ZERO_SEED[:-1] + b"\x01"),
    ]
    assert len(set(variants)) == len(variants)
    assert {len(variant) for variant in variants} == {32}


packet_ids = st.integers(0, 10**17 - 1).map(lambda digits: f"10{digits:017d}")
committed = st.tuples(packet_ids, st.sampled_from(SplitKind), fillable(), seeds)


@given(st.lists(committed, min_size=2, max_size=2, unique=True))
def test_different_packets_have_different_commitments(pair: list[tuple[str, SplitKind, Bounds, bytes]]) -> None:
    one, other = (commitment(packet_id, kind, *bounds, seed) for packet_id, kind, bounds, seed in pair)
    assert one != other


def test_a_commitment_needs_a_packet_number() -> None:
    for packet_id in ("", "1000000000000000000\n", "10000000000000000000", "x"):
        with pytest.raises(ValueError, match="packet number"):
            commitment(packet_id, LUCKY, 100, 10, 1, 20_000, ZERO_SEED)


def test_commitments_never_change() -> None:
    assert commitment(PACKET_ID, LUCKY, 1_000, 5, 10, 400, ZERO_SEED).hex() == (
        "7050c5dbaf1080b5c6401ebb42d805fc57c885c7e2bbbe611a7f95beb6ac72d0"
    )
    assert (
        commitment("1000112345678901234", EQUAL, 10**15, 10**6, 1, 10**9, bytes(range(32))).hex()
        == "031737cb104caa193c9c49affba824ae02f6b8c0453dc7980ff4ff6012a16eb9"
    )


def test_the_document_has_the_commitment_of_its_example() -> None:
    assert commitment(PACKET_ID, LUCKY, 1_000, 5, 10, 400, ZERO_SEED).hex() in DOCUMENT


def test_the_document_has_the_shares_of_its_examples() -> None:
    examples = re.findall(r"^    (\d+) into (\d+), (\d+) to (\d+): ([\d ]+)$", DOCUMENT, re.MULTILINE)
    assert len(examples) == 4
    for total_fen, count, min_fen, max_fen, shares in examples:
        drawn = split(LUCKY, int(total_fen), int(count), int(min_fen), int(max_fen), ZERO_SEED).tolist()
        assert drawn == [int(share) for share in shares.split()]


def test_the_document_has_the_steps_of_its_example() -> None:
    rows = re.findall(r"^\| (\d) \| (\d) \| (\d+) \|.* (\d+) \|$", DOCUMENT, re.MULTILINE)
    steps = [[int(cell) for cell in row] for row in rows]
    drawn, keys = doubling.draw(1_000, 5, 10, 400, ZERO_SEED)
    assert [step[3] for step in steps] == list(drawn)
    assert [step[1] for step in steps] == [5, 4, 3, 2, 1]
    for before, after in pairwise(steps):
        assert before[2] - (before[3] - 10) == after[2]
    assert all(str(key) in DOCUMENT for key in keys)
