"""EasyWeChat: its form of a request, and, where PHP has the package, the lines that docs/wechat-pay.md prints."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.embedded import servers
from engine.engine import Engine
from engine.settings import Settings
from tests.support.commands import upped
from tests.support.front import open_front
from tests.support.repository import ROOT
from tests.support.wechatpay import SENDREDPACK, merchant_of, packet, sandbox_words, signed, told, with_sealing

PACKAGE = "w7corp/easywechat:^6.8"
COMPOSER_S_MAX, PHP_S_MAX = 180, 60
SNIPPET = re.compile(r"```php\n(.+?)```", re.DOTALL)


def in_its_form(fields: dict[str, str]) -> bytes:
    """Texts in CDATA, numbers without, and the nonce first."""
    lines = [
        f"<{name}>{value if value.isdecimal() else f'<![CDATA[{value}]]>'}</{name}>" for name, value in fields.items()
    ]
    return f"<xml>{''.join(lines)}</xml>".encode()


async def test_its_form_of_a_request_sends_a_packet(settings: Settings) -> None:
    settings = with_sealing(settings)
    async with open_front(settings) as client, Engine.open(settings) as engine:
        client.http.event_hooks = {}  # these answers are WeChat Pay's, not the OpenAPI document's
        key = (await merchant_of(engine)).v2_key or ""
        headers = {"content-type": "text/xml", "accept": "application/json", "user-agent": "easywechat-sdk"}
        fields, numbers = {"nonce_str": "Zr2hPpQ9vW0aLk3B", **packet(wishing="恭喜 发财 & 好运")}, set()
        for wrong in ("", "", "x"):
            body = in_its_form(signed(fields, key + wrong))
            answer = told((await client.http.post(SENDREDPACK, content=body, headers=headers)).content)
            assert answer["return_code"] == ("FAIL" if wrong else "SUCCESS"), answer
            numbers.add(answer.get("send_listid"))
        assert len(numbers - {None}) == 1, "the same number is the same packet"


def php_package() -> Path:
    """A folder with the client, fetched once; the test is skipped without it."""
    composer = shutil.which("composer")
    if composer is None or shutil.which("php") is None:
        pytest.skip("PHP and Composer are not here")
    folder = ROOT / ".venv" / "composer"
    if not (folder / "vendor" / "autoload.php").exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [composer, "require", "--no-interaction", "--quiet", "--working-dir", str(folder), PACKAGE]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=COMPOSER_S_MAX)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip(f"Composer cannot get {PACKAGE} here")
    return folder


@pytest.mark.long
def test_the_documents_lines_send_a_packet(quick_path: Path) -> None:
    folder, data_dir = php_package(), quick_path / "data"
    (snippet,) = SNIPPET.findall((ROOT / "docs" / "wechat-pay.md").read_text(encoding="utf-8"))
    with upped(data_dir, "--wechatpay-sandbox") as up:
        words = sandbox_words(up)
        here = snippet.replace("http://127.0.0.1:8080/", words["base_url"])
        script = f"require '{folder}/vendor/autoload.php';\n$apiKey = '{words['api_key']}';\n{here}"
        # `use` must come first in a script.
        use, rest = re.search(r"use .+;\n", script), re.sub(r"use .+;\n", "", script)
        assert use is not None
        php = [shutil.which("php") or "php", "-r", use[0] + rest]
        done = subprocess.run(php, capture_output=True, encoding="utf-8", timeout=PHP_S_MAX, check=False)
        assert re.fullmatch(r"[0-9]{19}", done.stdout.strip()), done.stdout + done.stderr
    servers.remove(data_dir)
