"""Who calls in the third version: the header Authorization, its signature, its time, and that it comes only once."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from engine.wechatpay import rsa_keys
from engine.wechatpay.platform import ALGORITHM
from engine.wechatpay.refusals import Code, RefusalError

WINDOW_S = 300
"""How far a call's time may be from ours."""
_HEADER_MAX = 2_000
_PART = re.compile(r'\s*([a-z_]{1,20})="([^"\\]{0,1000})"\s*')
_NAMES = frozenset({"mchid", "nonce_str", "signature", "timestamp", "serial_no"})
_NONCE = re.compile(r"[!-~]{1,64}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A well-formed header. Nothing in it is proven."""

    mchid: str
    nonce_str: str
    signature: str
    timestamp: str
    serial_no: str

    def message(self, method: str, target: str, body: bytes) -> bytes:
        """What is signed. ``target``: path and query, as they came."""
        lines = f"{method}\n{target}\n{self.timestamp}\n{self.nonce_str}\n".encode()
        return lines + body + b"\n"

    def check(self, public: str, message: bytes) -> None:
        """Raise RefusalError (SIGN_ERROR) unless the call is of now, and signed by this key."""
        if abs(time.time() - int(self.timestamp)) > WINDOW_S:
            raise RefusalError(Code.SIGN_ERROR, f"Authorization中的timestamp与当前时间相差超过{WINDOW_S}秒")
        if not rsa_keys.is_signed(public, message, self.signature):
            raise RefusalError(Code.SIGN_ERROR, "签名错误，请检查后再试")


def authorization_in(headers: Mapping[bytes, bytes]) -> Authorization:
    """The header of a call. Raises RefusalError: SIGN_ERROR."""
    text = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, rest = text.partition(" ")
    if scheme != ALGORITHM or len(text) > _HEADER_MAX:
        raise RefusalError(Code.SIGN_ERROR, f"Http头Authorization认证类型必须是{ALGORITHM}")
    found: dict[str, str] = {}
    for part in rest.split(","):
        matched = _PART.fullmatch(part)
        if matched is None or matched[1] in found:
            raise RefusalError(Code.SIGN_ERROR, "Http头Authorization格式错误")
        found[matched[1]] = matched[2]
    if found.keys() != _NAMES:
        raise RefusalError(Code.SIGN_ERROR, f"Http头Authorization必须有{'、'.join(sorted(_NAMES))}")
    if not (_NONCE.fullmatch(found["nonce_str"]) and _SECONDS.fullmatch(found["timestamp"])):
        raise RefusalError(Code.SIGN_ERROR, "Http头Authorization中的nonce_str或timestamp格式错误")
    return Authorization(**found)
