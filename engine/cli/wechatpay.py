"""`hongbao wechatpay`: merchants of WeChat Pay's calls, their keys, and what they have called."""

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import orjson
import typer

from engine.calendar.china_time import CHINA
from engine.cli.common import DataDirOption, JsonOption, on_ledger, show

if TYPE_CHECKING:
    from engine.connected import Connected
    from engine.wechatpay.merchants import MerchantKept, Merchants, MerchantsPage
    from engine.wechatpay.sandbox import SandboxMerchant
    from engine.wechatpay.transcript import RecordedCall

app = typer.Typer(help="WeChat Pay's calls: merchants, their keys, and their last calls.", no_args_is_help=True)
MchIdArgument = Annotated[str, typer.Argument(metavar="MCH_ID", help="The merchant's number: 6 to 32 digits.")]
_LISTED_MAX = 1_000
Found = TypeVar("Found")


@app.command()
def add_merchant(
    mch_id: MchIdArgument,
    *,
    account: Annotated[str, typer.Option("--account", help="The user of ours who pays.")],
    appid: Annotated[list[str], typer.Option("--appid", help="An appid that it may send for; may be repeated.")],
    certificate: Annotated[
        list[str] | None, typer.Option("--certificate", help="SHA-256 of a client certificate; may be repeated.")
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="For trying: amounts give errors.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a merchant and print its keys, which nobody can see again; or change one. Needs HONGBAO_WECHATPAY_KEYS."""

    async def work(merchants: "Merchants") -> "MerchantKept":
        certificates = certificate or []
        return await merchants.put(mch_id, account, appids=appid, certificates=certificates, is_sandbox=sandbox)

    _tell(_with(data_dir, work), as_json)


@app.command(name="list")
def list_merchants(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show the merchants, up to 1,000, without their keys."""

    async def work(merchants: "Merchants") -> "MerchantsPage":
        return await merchants.page(after=None, limit=_LISTED_MAX)

    found = _with(data_dir, work).merchants
    if as_json:
        show(orjson.dumps([dataclasses.asdict(merchant) for merchant in found]).decode())
    elif not found:
        show("there is no merchant")
    for merchant in [] if as_json else found:
        marks = (", sandbox" if merchant.is_sandbox else "") + (", closed" if merchant.is_closed else "")
        show(f"merchant {merchant.mch_id}  {merchant.account} pays  {' '.join(merchant.appids)}{marks}")


@app.command()
def keys(
    mch_id: MchIdArgument,
    key: Annotated[Literal["v2", "v3", "rsa"], typer.Option("--key", help="Which key.")] = "v2",
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new API key and print it, once. The one before is refused from then on."""

    async def work(merchants: "Merchants") -> "MerchantKept":
        return await merchants.renew_key(mch_id, key)

    _tell(_with(data_dir, work), as_json)


@app.command()
def log(
    mch_id: Annotated[str | None, typer.Option("--mch-id", help="Of one merchant.")] = None,
    code: Annotated[str | None, typer.Option("--code", help="With one err_code, or SUCCESS.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=_LISTED_MAX, help="How many calls.")] = 10,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last calls, the newest last: what was sent and answered; of SIGN_ERROR the string that is signed."""
    from engine.wechatpay import transcript

    async def look(connected: "Connected") -> "list[RecordedCall]":
        return await transcript.newest(connected.pool, mch_id=mch_id, code=code, limit=count)

    found = on_ledger("wechatpay", data_dir, look)[::-1]
    if as_json:
        show(orjson.dumps([dataclasses.asdict(call) for call in found]).decode())
    elif not found:
        show("no call is recorded")
    for call in [] if as_json else found:
        at = datetime.fromtimestamp(call.at_ms / 1000, UTC).astimezone(CHINA)
        show(f"{at:%Y-%m-%d %H:%M:%S}  {call.mch_id}  {call.path}  {call.code}  {call.took_ms} ms")
        for line in call.request.splitlines():
            show(f"  > {line}")
        for line in call.answer.splitlines():
            show(f"  < {line}")
        if call.signed is not None:
            show(f"  signed: {call.signed}")


@app.command()
def platform(
    *,
    make_next: Annotated[bool, typer.Option("--next", help="Make the next key, which is published at once.")] = False,
    signs_after_h: Annotated[
        int, typer.Option("--signs-after-h", min=0, max=2_160, help="When the next key begins to sign, in hours.")
    ] = 24,
    retire: Annotated[str | None, typer.Option("--retire", metavar="SERIAL_NO", help="Retire a former key.")] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the public keys that verify answers and notices of the third version (微信支付公钥)."""
    from engine.wechatpay import keys as sealing
    from engine.wechatpay.platform import Platform, PlatformKeys

    async def look(connected: "Connected") -> PlatformKeys:
        keeper = Platform(connected.pool, sealing.load(connected.settings))
        if make_next:
            await keeper.make_next(signs_after_h * 3_600)
        if retire is not None:
            await keeper.retire(retire)
        return await keeper.keys()

    found = on_ledger("wechatpay", data_dir, look).keys
    if as_json:
        names = ("public_key_id", "public_key", "serial_no", "certificate", "signs_from_ms")
        show(orjson.dumps([{name: getattr(key, name) for name in names} for key in found]).decode())
    for key in [] if as_json else found:
        show(f"public_key_id  {key.public_key_id}")
        show(key.public_key.strip())
        show(f"certificate serial_no  {key.serial_no}")
        show(f"signs from  {datetime.fromtimestamp(key.signs_from_ms / 1000, UTC).astimezone(CHINA):%Y-%m-%d %H:%M:%S}")


def tell_sandbox(merchant: "SandboxMerchant", base_url: str) -> None:
    """Print what a client of the sandbox needs."""
    show(f"wechatpay base_url={base_url}/")
    show(f"wechatpay mch_id={merchant.mch_id} appid={merchant.appid}")
    show(f"wechatpay api_key={merchant.v2_key}")
    show(f"wechatpay api_v3_key={merchant.v3_key}")


def _tell(kept: "MerchantKept", as_json: bool) -> None:
    if as_json:
        show(orjson.dumps(dataclasses.asdict(kept)).decode())
        return
    merchant = kept.merchant
    show(f"merchant {merchant.mch_id}  {merchant.account} pays  {' '.join(merchant.appids)}")
    for name, key in (("v2", kept.v2_key), ("v3", kept.v3_key)):
        if key is not None:
            show(f"{name} key  {key}")
    if kept.rsa_key is not None:
        show(f"serial_no  {merchant.serial_no}")
        show(kept.rsa_key.strip())
    if kept.v2_key is None and kept.v3_key is None and kept.rsa_key is None:
        show("its keys stay as they are; `hongbao wechatpay keys` makes new ones")


def _with(data_dir: Path | None, work: "Callable[[Merchants], Awaitable[Found]]") -> Found:
    from engine.wechatpay import keys as sealing
    from engine.wechatpay.merchants import Merchants

    async def connected_work(connected: "Connected") -> Found:
        return await work(Merchants(connected.pool, sealing.load(connected.settings)))

    return on_ledger("wechatpay", data_dir, connected_work)
