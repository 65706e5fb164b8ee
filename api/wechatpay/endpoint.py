"""One call of a WeChat Pay client, from its bytes to its answer: always HTTP 200 and XML, as its clients expect."""

import time
from collections.abc import Mapping
from time import perf_counter

import structlog
from starlette.types import Receive, Scope, Send

from api import bodies
from api.answers import PLAIN, Answer
from api.certificates import Certificates, is_one_of
from api.dispatch import Front, respond
from api.problems import MalformedError, SlowBodyError, TooLargeError, WrongMethodError, answer_to
from api.wechatpay import fields as tables
from api.wechatpay import xml
from api.wechatpay.calls import Asking, CallKind
from api.wechatpay.signatures import SignType, is_signed, sign, string_to_sign
from engine.errors import HongbaoError, NoWechatpayKeyError, UnknownWechatpayMerchantError
from engine.wechatpay.merchants import Keyed, is_mch_id
from engine.wechatpay.refusals import UNPROVEN, Code, RefusalError
from engine.wechatpay.transcript import RecordedCall, shown

XML = ((b"content-type", b"text/xml; charset=utf-8"), *PLAIN[1:])
BODY_BYTES_MAX = 65_536
_CLOSE = (b"connection", b"close")
_LOG = structlog.get_logger()


class Endpoint:
    """One path as an ASGI application."""

    def __init__(self, front: Front, kind: CallKind, certificates: Certificates) -> None:
        self._front, self._kind, self._certificates = front, kind, certificates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in every case."""
        front, started_s, reader = self._front, perf_counter(), bodies.Reader(receive)
        front.in_flight += 1
        try:
            try:
                answer = await self._answer(scope, reader)
            except bodies.DisconnectedError:
                return
            has_body = bodies.has_body(dict(scope["headers"]))
            if has_body and not reader.complete and not await reader.discard():
                answer = answer._replace(headers=(*answer.headers, _CLOSE))
            method = "POST" if scope["method"] == "POST" else "other"
            front.meter.of(method, self._kind.path).note(answer.status, perf_counter() - started_s)
            await respond(answer, send)
        finally:
            front.in_flight -= 1
            if front.in_flight == 0:
                front.idle.set()

    async def _answer(self, scope: Scope, reader: bodies.Reader) -> Answer:
        if scope["method"] != "POST":
            return answer_to(WrongMethodError("POST"))
        started_s, call = perf_counter(), _Call(self._front, self._kind, self._certificates)
        try:
            body = await _body(scope, reader)
            found = await call.answer(scope, body)
            fields: dict[str, xml.Value] = {"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS"}
            fields |= {**call.echo(), **found}
            if self._kind.is_signed and call.merchant is not None:
                texts = {name: str(value) for name, value in fields.items()}
                fields["sign"] = sign(texts, call.merchant.v2_key, call.sign_type)
            code = "SUCCESS"
        except RefusalError as refusal:
            fields, code = call.refused(refusal), refusal.err_code.value
        rendered = xml.rendered(fields)
        call.record(code, rendered, int((perf_counter() - started_s) * 1000))
        return Answer(200, rendered, XML)


async def _body(scope: Scope, reader: bodies.Reader) -> bytes:
    try:
        headers = bodies.headers_of(scope)
        if not bodies.has_body(headers):
            raise RefusalError(Code.XML_ERROR, "输入xml参数格式错误：请求没有内容")
        return await reader.read(headers, bytes_max=BODY_BYTES_MAX)
    except TooLargeError:
        raise RefusalError(Code.XML_ERROR, f"输入xml参数格式错误：最多{BODY_BYTES_MAX}字节") from None
    except (SlowBodyError, MalformedError):
        raise RefusalError(Code.XML_ERROR, "输入xml参数格式错误：请求不完整") from None


class _Call:
    """One call while it is answered. ``merchant``: None until it is found."""

    def __init__(self, front: Front, kind: CallKind, certificates: Certificates) -> None:
        self._front, self._kind, self._certificates = front, kind, certificates
        self._fields: Mapping[str, str] = {}
        self._signed: str | None = None
        self._is_checked = False
        self.merchant: Keyed | None = None
        self.sign_type: SignType = "MD5"

    async def answer(self, scope: Scope, body: bytes) -> Mapping[str, xml.Value]:
        """The answer's own fields. Raises RefusalError."""
        self._fields = fields = xml.parsed(body)
        try:
            self.merchant = merchant = await self._merchant()
            self._check_certificate(scope, merchant)
            self._check_sign(merchant)
            tables.check(fields, self._kind.rules)
            self._is_checked = True
            if fields[self._kind.appid_field] not in merchant.merchant.appids:
                raise RefusalError(Code.ILLEGAL_APPID)
            address = self._front.limits.address_of(scope)
            return await self._kind.answer(
                Asking(engine=self._front.engine, merchant=merchant, fields=fields, address=address)
            )
        except RefusalError:
            raise
        except HongbaoError as error:
            _LOG.warning("wechatpay_call_failed", path=self._kind.path, error=str(error))
            raise RefusalError(Code.SYSTEMERROR) from None
        except Exception:
            _LOG.exception("wechatpay_call_failed", path=self._kind.path)
            raise RefusalError(Code.SYSTEMERROR) from None

    async def _merchant(self) -> Keyed:
        name = self._kind.merchant_field
        tables.check_one(self._fields, name, tables.MERCHANT)
        try:
            merchant = await self._front.engine.wechatpay_merchants.keyed(self._fields[name])
        except (UnknownWechatpayMerchantError, NoWechatpayKeyError) as error:
            if isinstance(error, NoWechatpayKeyError):
                _LOG.error("wechatpay_key_missing", error=str(error))
            raise RefusalError(Code.NO_AUTH) from None
        is_for_trying = merchant.merchant.is_sandbox and self._front.settings.wechatpay_production
        if merchant.merchant.is_closed or is_for_trying:
            raise RefusalError(Code.NO_AUTH)
        return merchant

    def _check_certificate(self, scope: Scope, merchant: Keyed) -> None:
        known = merchant.merchant.certificates
        if not (known or self._front.settings.wechatpay_production):
            return  # not in production: a merchant without a certificate needs none
        if not is_one_of(self._certificates.of(scope), known):
            raise RefusalError(Code.CA_ERROR)

    def _check_sign(self, merchant: Keyed) -> None:
        asked = self._fields.get("sign_type") or "MD5"
        if asked not in ("MD5", "HMAC-SHA256"):
            raise RefusalError(Code.SIGN_ERROR, "签名错误：sign_type必须是MD5或HMAC-SHA256")
        self.sign_type = "MD5" if asked == "MD5" else "HMAC-SHA256"
        if not is_signed(self._fields, merchant.v2_key, self.sign_type):
            self._signed = f"{string_to_sign(self._fields)}&key=（商户API密钥）"
            raise RefusalError(Code.SIGN_ERROR)

    def echo(self) -> dict[str, xml.Value]:
        """The fields that come back. Nothing of a call comes back that is not proven and checked."""
        if not self._is_checked:
            return {}
        return {name: self._fields[name] for name in self._kind.echoed if self._fields.get(name)}

    def refused(self, refusal: RefusalError) -> dict[str, xml.Value]:
        """The fields of a refusal."""
        return_code = "FAIL" if refusal.err_code in UNPROVEN else "SUCCESS"
        fields: dict[str, xml.Value] = {
            "return_code": return_code,
            "return_msg": str(refusal),
            "result_code": "FAIL",
            "err_code": refusal.err_code.value,
            "err_code_des": str(refusal),
        }
        fields |= self.echo()
        amount = self._fields.get("total_amount")
        if self._is_checked and amount is not None:
            fields["total_amount"] = int(amount)
        return fields

    def record(self, code: str, answer: bytes, took_ms: int) -> None:
        """Record the call for its merchant, if it names one that is known: others cannot fill the log."""
        name = self._fields.get(self._kind.merchant_field, "")
        if self.merchant is None or not is_mch_id(name):
            return
        secrets = (self.merchant.v2_key, self.merchant.v3_key)
        asked = "\n".join(f"{name}={value}" for name, value in self._fields.items() if name != "sign")
        self._front.engine.wechatpay_transcript.note(
            RecordedCall(
                mch_id=name,
                at_ms=int(time.time() * 1000),
                path=self._kind.path,
                code=code,
                request=shown(asked, secrets),
                signed=None if self._signed is None else shown(self._signed, secrets),
                answer=shown(answer.decode(), secrets),
                took_ms=took_ms,
            )
        )
