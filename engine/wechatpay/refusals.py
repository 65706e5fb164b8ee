"""What a call can be refused with: WeChat Pay's codes, with its sentences."""

from enum import StrEnum

from engine.errors import HongbaoError


class Code(StrEnum):
    """The codes of `err_code`, as WeChat Pay has published them."""

    NO_AUTH = "NO_AUTH"
    SENDNUM_LIMIT = "SENDNUM_LIMIT"
    ILLEGAL_APPID = "ILLEGAL_APPID"
    MONEY_LIMIT = "MONEY_LIMIT"
    AMOUNT_LIMIT = "AMOUNT_LIMIT"
    SENDAMOUNT_LIMIT = "SENDAMOUNT_LIMIT"
    RCVDAMOUNT_LIMIT = "RCVDAMOUNT_LIMIT"
    SEND_FAILED = "SEND_FAILED"
    FATAL_ERROR = "FATAL_ERROR"
    CA_ERROR = "CA_ERROR"
    SIGN_ERROR = "SIGN_ERROR"
    SYSTEMERROR = "SYSTEMERROR"
    XML_ERROR = "XML_ERROR"
    FREQ_LIMIT = "FREQ_LIMIT"
    NOTENOUGH = "NOTENOUGH"
    OPENID_ERROR = "OPENID_ERROR"
    NAME_MISMATCH = "NAME_MISMATCH"
    PROCESSING = "PROCESSING"
    PARAM_ERROR = "PARAM_ERROR"
    NOT_FOUND = "NOT_FOUND"


SENTENCES = {
    Code.NO_AUTH: "商户号没有权限：请确认商户号已登记、未停用，且账户可以付款",
    Code.SENDNUM_LIMIT: "该用户今日领取红包个数超过限制",
    Code.ILLEGAL_APPID: "非法appid，请确认appid已登记在该商户号下",
    Code.MONEY_LIMIT: "红包金额发放限制",
    Code.AMOUNT_LIMIT: "付款金额超出限制",
    Code.SENDAMOUNT_LIMIT: "您的商户号今日发放金额超过限制",
    Code.RCVDAMOUNT_LIMIT: "该用户今日领取金额超过限制",
    Code.SEND_FAILED: "发放失败，请更换单号再重试",
    Code.FATAL_ERROR: "单号重复，且参数与原始单不一致，请更换单号",
    Code.CA_ERROR: "商户API证书校验出错",
    Code.SIGN_ERROR: "签名错误",
    Code.SYSTEMERROR: "请求已受理，请稍后使用原单号查询或重试",
    Code.XML_ERROR: "输入xml参数格式错误",
    Code.FREQ_LIMIT: "超过频率限制，请稍后再试",
    Code.NOTENOUGH: "账号余额不足，请充值后用原单号重试",
    Code.OPENID_ERROR: "openid和appid不匹配",
    Code.NAME_MISMATCH: "收款人身份校验不通过：本系统不保存真实姓名，请使用NO_CHECK",
    Code.PROCESSING: "请求已受理，请稍后使用原单号查询发放结果",
    Code.PARAM_ERROR: "参数错误",
    Code.NOT_FOUND: "指定单号数据不存在",
}
UNPROVEN = frozenset({Code.XML_ERROR, Code.SIGN_ERROR, Code.CA_ERROR})
"""Refusals of calls that were not proven to be the merchant's."""


class RefusalError(HongbaoError):
    """A call is refused with one of the codes."""

    def __init__(self, code: Code, text: str | None = None) -> None:
        super().__init__(text or SENTENCES[code])
        self.err_code = code
