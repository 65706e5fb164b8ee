"""The fields of each call: which are required, how long they are, what they may be. docs/wechat-pay.md lists them.

Lengths are in characters. Fields that are not named here are signed like all others, and otherwise ignored.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.text import is_readable
from engine.wechatpay.refusals import Code, RefusalError

_NUMBER = re.compile(r"[0-9A-Za-z]+", re.ASCII)
_OPENID = re.compile(r"[0-9A-Za-z_-]{1,32}", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,15}", re.ASCII)
_SCENES = tuple(f"PRODUCT_{number}" for number in range(1, 9))


@dataclass(frozen=True, slots=True)
class Rule:
    """One field. ``is_valid`` None: any readable text."""

    length_max: int
    is_required: bool = True
    is_valid: Callable[[str], bool] | None = None
    sentence: str = ""
    code: Code = Code.PARAM_ERROR


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _one_of(*allowed: str) -> Callable[[str], bool]:
    return lambda text: text in allowed


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _number(length_max: int) -> Rule:
    return Rule(length_max, True, _matches(_NUMBER), "只能由数字和字母组成")


NONCE, SIGN = Rule(32), Rule(64)
MERCHANT = Rule(32, True, _matches(re.compile(r"[0-9]{6,32}", re.ASCII)), "必须是6至32位数字")
SIGN_TYPE = Rule(32, False, _one_of("MD5", "HMAC-SHA256"), "必须是MD5或HMAC-SHA256")
APPID = Rule(32)
OPENID = Rule(32, True, _matches(_OPENID), "不是合法的openid", Code.OPENID_ERROR)
INTEGER = Rule(15, True, _matches(_INTEGER), "必须是整数")
NOT_SUPPORTED = Rule(0, False, lambda _: False, "不支持：请以商户自己的名义调用", Code.NO_AUTH)
SENDREDPACK: Mapping[str, Rule] = {
    "nonce_str": NONCE,
    "mch_billno": _number(28),
    "mch_id": MERCHANT,
    "wxappid": APPID,
    "send_name": Rule(32),
    "re_openid": OPENID,
    "total_amount": INTEGER,
    "total_num": INTEGER,
    "wishing": Rule(128),
    "client_ip": Rule(15, True, _is_ipv4, "必须是IPv4地址"),
    "act_name": Rule(32),
    "remark": Rule(256),
    "scene_id": Rule(32, False, _one_of(*_SCENES), "必须是PRODUCT_1至PRODUCT_8"),
    "risk_info": Rule(128, False),
    "sub_mch_id": NOT_SUPPORTED,
    "msgappid": NOT_SUPPORTED,
    "consume_mch_id": NOT_SUPPORTED,
    "sign_type": SIGN_TYPE,
}
SENDGROUPREDPACK: Mapping[str, Rule] = {
    **{name: rule for name, rule in SENDREDPACK.items() if name != "client_ip"},
    "amt_type": Rule(32, True, _one_of("ALL_RAND"), "必须是ALL_RAND"),
    "client_ip": Rule(15, False, _is_ipv4, "必须是IPv4地址"),
}
GETHBINFO: Mapping[str, Rule] = {
    "nonce_str": NONCE,
    "mch_billno": _number(28),
    "mch_id": MERCHANT,
    "appid": APPID,
    "bill_type": Rule(32, True, _one_of("MCHT"), "必须是MCHT"),
    "sub_mch_id": NOT_SUPPORTED,
    "sign_type": SIGN_TYPE,
}
TRANSFERS: Mapping[str, Rule] = {
    "mch_appid": APPID,
    "mchid": MERCHANT,
    "device_info": Rule(32, False),
    "nonce_str": NONCE,
    "partner_trade_no": _number(32),
    "openid": OPENID,
    "check_name": Rule(16, True, _one_of("NO_CHECK", "OPTION_CHECK", "FORCE_CHECK"), "必须是NO_CHECK或FORCE_CHECK"),
    "re_user_name": Rule(64, False),
    "amount": INTEGER,
    "desc": Rule(100),
    "spbill_create_ip": Rule(32, False, _is_ipv4, "必须是IPv4地址"),
    "sub_mch_id": NOT_SUPPORTED,
    "sign_type": SIGN_TYPE,
}
GETTRANSFERINFO: Mapping[str, Rule] = {
    "nonce_str": NONCE,
    "partner_trade_no": _number(32),
    "mch_id": MERCHANT,
    "appid": APPID,
    "sub_mch_id": NOT_SUPPORTED,
    "sign_type": SIGN_TYPE,
}


def check(fields: Mapping[str, str], rules: Mapping[str, Rule]) -> None:
    """Raise RefusalError (mostly PARAM_ERROR), naming the first field that breaks its rule, in the table's order."""
    for name, rule in rules.items():
        check_one(fields, name, rule)


def check_one(fields: Mapping[str, str], name: str, rule: Rule) -> None:
    """The same for one field."""
    value = fields.get(name, "")
    if not value:
        if rule.is_required:
            raise RefusalError(Code.PARAM_ERROR, f"{name}字段必填")
        return
    if rule.is_valid is not None and rule.length_max == 0:
        raise RefusalError(rule.code, f"{name}{rule.sentence}")
    if len(value) > rule.length_max:
        raise RefusalError(rule.code, f"{name}字段最多{rule.length_max}个字符")
    if rule.is_valid is None and not is_readable(value):
        raise RefusalError(rule.code, f"{name}字段含有不可见的字符")
    if rule.is_valid is not None and not rule.is_valid(value):
        raise RefusalError(rule.code, f"{name}{rule.sentence}")
