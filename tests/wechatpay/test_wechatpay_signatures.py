"""Signatures: as wechatpy makes them, for whatever fields, and no other."""

from hypothesis import assume, given
from hypothesis import strategies as st

from api.wechatpay.signatures import SIGN_TYPES, SignType, is_signed, sign, string_to_sign

NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name != "sign"), TEXTS, max_size=8)
KEYS = st.text("abcXYZ019", min_size=32, max_size=32)
TYPES = st.sampled_from(SIGN_TYPES)


@given(FIELDS, KEYS)
def test_they_are_wechatpys(fields: dict[str, str], key: str) -> None:
    from wechatpy.pay.utils import calculate_signature, calculate_signature_hmac

    kept = {name: value for name, value in fields.items() if value}
    assume(kept)
    assert sign(fields, key, "MD5") == calculate_signature(kept, key)
    assert sign(fields, key, "HMAC-SHA256") == calculate_signature_hmac(kept, key)


@given(FIELDS, KEYS, TYPES, TEXTS)
def test_only_the_right_one_is_one(fields: dict[str, str], key: str, sign_type: SignType, other: str) -> None:
    right = sign(fields, key, sign_type)
    assert is_signed({**fields, "sign": right}, key, sign_type)
    assert not is_signed({**fields, "sign": right.lower() + "x"}, key, sign_type)
    assert is_signed({**fields, "sign": other}, key, sign_type) == (other == right)
    assert not is_signed(fields, key, sign_type)


@given(FIELDS, KEYS, TYPES, NAMES, TEXTS)
def test_any_change_breaks_it(fields: dict[str, str], key: str, sign_type: SignType, name: str, value: str) -> None:
    before = {**fields, "sign": sign(fields, key, sign_type)}
    after = {**before, name: value}
    is_same = string_to_sign(before) == string_to_sign(after) and after["sign"] == before["sign"]
    assert is_signed(after, key, sign_type) == is_same


@given(FIELDS, KEYS, KEYS, TYPES)
def test_another_key_makes_another(fields: dict[str, str], key: str, other: str, sign_type: SignType) -> None:
    assert is_signed({**fields, "sign": sign(fields, other, sign_type)}, key, sign_type) == (key == other)


def test_an_example_that_is_published() -> None:
    """From WeChat Pay's page on signatures."""
    fields = {
        "appid": "wxd930ea5d5a258f4f",
        "mch_id": "10000100",
        "device_info": "1000",
        "body": "test",
        "nonce_str": "ibuaiVcKdpRxkhJA",
    }
    key = "192006250b4c09247ec02edce69f6a2d"
    assert sign(fields, key, "MD5") == "9A0A8659F005D6984697E2CA0A9CF3B7"
    assert sign(fields, key, "HMAC-SHA256") == "6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6"
