"""The sandbox: a merchant with money, and amounts that give each error to those who send them."""

from dataclasses import dataclass, field

import asyncpg

from engine.settings import Settings
from engine.wallets.wallets import Wallets
from engine.wechatpay import keys
from engine.wechatpay.merchants import Merchants
from engine.wechatpay.refusals import Code, RefusalError

MCH_ID, APPID, ACCOUNT = "1900000109", "wx8888888888888888", "wechatpay-sandbox"
MONEY_FEN = 100_000_000
AMOUNTS_FEN = {
    10_001: Code.NO_AUTH,
    10_002: Code.SENDNUM_LIMIT,
    10_003: Code.ILLEGAL_APPID,
    10_004: Code.MONEY_LIMIT,
    10_005: Code.SEND_FAILED,
    10_006: Code.FATAL_ERROR,
    10_007: Code.CA_ERROR,
    10_008: Code.SIGN_ERROR,
    10_009: Code.SYSTEMERROR,
    10_010: Code.XML_ERROR,
    10_011: Code.FREQ_LIMIT,
    10_012: Code.NOTENOUGH,
    10_013: Code.OPENID_ERROR,
    10_014: Code.PROCESSING,
    10_015: Code.PARAM_ERROR,
    10_016: Code.SENDAMOUNT_LIMIT,
    10_017: Code.RCVDAMOUNT_LIMIT,
    10_018: Code.AMOUNT_LIMIT,
    10_019: Code.NAME_MISMATCH,
    10_020: Code.NOT_FOUND,
}
"""What a merchant of the sandbox is answered who sends this much."""
GOES_ON = (Code.SYSTEMERROR, Code.PROCESSING)
"""With these the order is carried out all the same, as it may be at WeChat Pay: only the same number again is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMerchant:
    """What a client needs."""

    mch_id: str
    appid: str
    v2_key: str = field(repr=False)
    v3_key: str = field(repr=False)


def refusal_for(amount_fen: int) -> RefusalError | None:
    """What this amount asks for."""
    code = AMOUNTS_FEN.get(amount_fen)
    return None if code is None else RefusalError(code)


async def make_merchant(pool: asyncpg.Pool, settings: Settings) -> SandboxMerchant:
    """The sandbox's merchant with money, made once. Its keys stay the same. Raises as ``Merchants.put`` does."""
    merchants = Merchants(pool, keys.load(settings))
    await merchants.put(MCH_ID, ACCOUNT, appids=[APPID], is_sandbox=True)
    await Wallets(pool, settings).deposit(
        ACCOUNT, min(MONEY_FEN, settings.deposit_fen_max), idempotency_key="wechatpay sandbox", request_hash=b"sandbox"
    )
    keyed = await merchants.keyed(MCH_ID)
    return SandboxMerchant(mch_id=MCH_ID, appid=APPID, v2_key=keyed.v2_key, v3_key=keyed.v3_key)
