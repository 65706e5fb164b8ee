"""One call of the third version, from its bytes to its signed answer."""

import time
from time import perf_counter

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from api import bodies
from api.answers import JSON, Answer, Headers
from api.dispatch import Front, respond
from api.problems import MalformedError, SlowBodyError, TooLargeError, WrongMethodError, answer_to
from api.wechatpay.authorization import Authorization, authorization_in
from api.wechatpay.bills import BillCall, BillPath, Json
from engine.errors import HongbaoError, NoWechatpayKeyError, UnknownWechatpayMerchantError
from engine.wechatpay.merchants import Keyed, is_mch_id
from engine.wechatpay.platform import PlatformKey
from engine.wechatpay.refusals import Code, RefusalError
from engine.wechatpay.transcript import RecordedCall, shown

BODY_BYTES_MAX = 65_536
STATUSES = {
    Code.SIGN_ERROR: (401, "SIGN_ERROR"),
    Code.NO_AUTH: (403, "NO_AUTH"),
    Code.CA_ERROR: (401, "SIGN_ERROR"),
    Code.NOTENOUGH: (403, "NOT_ENOUGH"),
    Code.NOT_FOUND: (404, "NOT_FOUND"),
    Code.FATAL_ERROR: (400, "ALREADY_EXISTS"),
    Code.FREQ_LIMIT: (429, "FREQUENCY_LIMIT_EXCEED"),
    Code.SENDNUM_LIMIT: (403, "QUOTA_EXCEED"),
    Code.MONEY_LIMIT: (403, "QUOTA_EXCEED"),
    Code.SENDAMOUNT_LIMIT: (403, "QUOTA_EXCEED"),
    Code.RCVDAMOUNT_LIMIT: (403, "QUOTA_EXCEED"),
    Code.SYSTEMERROR: (500, "SYSTEM_ERROR"),
    Code.PROCESSING: (500, "SYSTEM_ERROR"),
    Code.SEND_FAILED: (400, "INVALID_REQUEST"),
    Code.AMOUNT_LIMIT: (400, "INVALID_REQUEST"),
    Code.NAME_MISMATCH: (400, "INVALID_REQUEST"),
}
"""The status and the code of each refusal in the third version. Any other is 400 PARAM_ERROR."""
_CLOSE = (b"connection", b"close")
_LOG = structlog.get_logger()


class BillEndpoint:
    """All methods of one path as an ASGI application."""

    def __init__(self, front: Front, rows: list[BillPath]) -> None:
        self._front, self._path = front, rows[0].path
        self._rows = {row.method: row for row in rows}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in every case."""
        front, started_s, reader = self._front, perf_counter(), bodies.Reader(receive)
        front.in_flight += 1
        try:
            row = self._rows.get(scope["method"])
            try:
                if row is None:
                    answer = answer_to(WrongMethodError(", ".join(sorted(self._rows))))
                else:
                    answer = await self._answer(row, scope, reader)
            except bodies.DisconnectedError:
                return
            has_body = bodies.has_body(dict(scope["headers"]))
            if has_body and not reader.complete and not await reader.discard():
                answer = answer._replace(headers=(*answer.headers, _CLOSE))
            method = "other" if row is None else row.method
            front.meter.of(method, self._path).note(answer.status, perf_counter() - started_s)
            await respond(answer, send)
        finally:
            front.in_flight -= 1
            if front.in_flight == 0:
                front.idle.set()

    async def _answer(self, row: BillPath, scope: Scope, reader: bodies.Reader) -> Answer:
        started_s, proving = perf_counter(), _Proving(self._front, row, scope)
        status, code = 200, "SUCCESS"
        try:
            found = await proving.answer(await _body(scope, reader))
        except RefusalError as refusal:
            status, code = STATUSES.get(refusal.err_code, (400, "PARAM_ERROR"))
            found = {"code": code, "message": str(refusal)}
        body = orjson.dumps(found)
        proving.record(code, body, int((perf_counter() - started_s) * 1000))
        return Answer(status, body, (*JSON, *proving.headers(body)))


async def _body(scope: Scope, reader: bodies.Reader) -> bytes:
    try:
        headers = bodies.headers_of(scope)
        return await reader.read(headers, bytes_max=BODY_BYTES_MAX) if bodies.has_body(headers) else b""
    except TooLargeError:
        raise RefusalError(Code.PARAM_ERROR, f"请求体最多{BODY_BYTES_MAX}字节") from None
    except (SlowBodyError, MalformedError):
        raise RefusalError(Code.PARAM_ERROR, "请求不完整") from None


class _Proving:
    """One call while it is answered. ``_key``: the platform's, once the merchant is known."""

    def __init__(self, front: Front, row: BillPath, scope: Scope) -> None:
        self._front, self._row, self._scope = front, row, scope
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        query: bytes = scope["query_string"]
        self._target = (raw + (b"?" + query if query else b"")).decode("latin-1")
        self._merchant: Keyed | None = None
        self._key: PlatformKey | None = None
        self._serial, self._body, self._signed = "", b"", None

    _signed: str | None

    async def answer(self, body: bytes) -> Json:
        """The answer. Raises RefusalError."""
        self._body = body
        try:
            headers = bodies.headers_of(self._scope)
            asked = authorization_in(headers)
            merchant = self._merchant = await self._known(asked)
            keys = await self._front.engine.wechatpay_platform.keys()
            named = headers.get(b"wechatpay-serial", b"").decode("latin-1")
            self._key, self._serial = keys.for_merchant(named, int(time.time() * 1000))
            await self._prove(asked, merchant)
            call = BillCall(
                engine=self._front.engine,
                merchant=merchant,
                keys=keys,
                path=self._scope["path_params"],
                body=body,
                address=self._front.limits.address_of(self._scope),
                serial=self._serial,
            )
            return await self._row.answer(call)
        except RefusalError:
            raise
        except MalformedError as error:
            raise RefusalError(Code.PARAM_ERROR, str(error)) from None
        except HongbaoError as error:
            _LOG.warning("wechatpay_call_failed", path=self._row.path, error=str(error))
            raise RefusalError(Code.SYSTEMERROR) from None
        except Exception:
            _LOG.exception("wechatpay_call_failed", path=self._row.path)
            raise RefusalError(Code.SYSTEMERROR) from None

    async def _known(self, asked: Authorization) -> Keyed:
        try:
            if not is_mch_id(asked.mchid):
                raise UnknownWechatpayMerchantError("It has not the form of one.")
            keyed = await self._front.engine.wechatpay_merchants.keyed(asked.mchid)
        except UnknownWechatpayMerchantError:
            raise RefusalError(Code.SIGN_ERROR, "商户号不存在") from None
        except NoWechatpayKeyError as error:
            _LOG.error("wechatpay_key_missing", error=str(error))
            raise RefusalError(Code.SYSTEMERROR) from None
        return keyed

    async def _prove(self, asked: Authorization, merchant: Keyed) -> None:
        if merchant.rsa_public is None or asked.serial_no.upper() != (merchant.merchant.serial_no or "").upper():
            raise RefusalError(Code.SIGN_ERROR, "serial_no不是该商户号登记的证书序列号")
        message = asked.message(self._row.method, self._target, self._body)
        try:
            asked.check(merchant.rsa_public, message)
        except RefusalError:
            self._signed = message.decode(errors="replace")
            raise
        is_for_trying = merchant.merchant.is_sandbox and self._front.settings.wechatpay_production
        if merchant.merchant.is_closed or is_for_trying:
            raise RefusalError(Code.NO_AUTH)
        at_ms = int(time.time() * 1000)
        if not await self._front.engine.wechatpay_orders.use_nonce(merchant.merchant.mch_id, asked.nonce_str, at_ms):
            raise RefusalError(Code.SIGN_ERROR, "nonce_str重复：请求不能重放")

    def headers(self, body: bytes) -> Headers:
        """The headers that sign the answer, once it is known for whom it is."""
        if self._key is None:
            return ()
        signed = self._key.headers(body, self._serial)
        return tuple((name.encode(), value.encode()) for name, value in signed.items())

    def record(self, code: str, answer: bytes, took_ms: int) -> None:
        """Record the call for its merchant, if it names one that is known."""
        if self._merchant is None:
            return
        secrets = (self._merchant.v2_key, self._merchant.v3_key)
        asked = f"{self._row.method} {self._target}\n{self._body.decode(errors='replace')}"
        self._front.engine.wechatpay_transcript.note(
            RecordedCall(
                mch_id=self._merchant.merchant.mch_id,
                at_ms=int(time.time() * 1000),
                path=self._row.path,
                code=code,
                request=shown(asked, secrets),
                signed=None if self._signed is None else shown(self._signed, secrets),
                answer=shown(answer.decode(), secrets),
                took_ms=took_ms,
            )
        )
