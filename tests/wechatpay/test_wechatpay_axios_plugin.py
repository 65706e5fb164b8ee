"""wechatpay-axios-plugin, as it is at npm, against a real server: the lines that docs/wechat-pay.md prints."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.engine import Engine
from engine.settings import Settings
from engine.wechatpay import keys
from engine.wechatpay.sandbox import make_merchant
from tests.support.front import serving
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

PACKAGE = "wechatpay-axios-plugin@0.9.6"
NPM_S_MAX, NODE_S_MAX = 120, 60
SNIPPET = re.compile(r"```js\n(.+?)```", re.DOTALL)


def npm_package() -> Path:
    """A folder with the client, fetched once; the test is skipped without it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        skip_without_tool("node and npm", "apt-get install nodejs npm")
    folder = ROOT / ".venv" / "npm" / re.sub(r"\W+", "-", PACKAGE)
    if not (folder / "node_modules" / "wechatpay-axios-plugin" / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=NPM_S_MAX)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            skip_without_tool(f"{PACKAGE} from npm's registry", f"npm install {PACKAGE}")
    return folder


def run(folder: Path, script: str) -> str:
    words = [shutil.which("node") or "node", "-e", script]
    done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", timeout=NODE_S_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.long
async def test_the_documents_lines_send_a_packet(settings: Settings) -> None:
    """By the sandbox's merchant, with its limits. That `up` makes it and prints its keys: test_wechatpay_log.py."""
    folder = npm_package()
    (snippet,) = SNIPPET.findall((ROOT / "docs" / "wechat-pay.md").read_text(encoding="utf-8"))
    keys.make_for_sandbox(settings)
    async with Engine.open(settings) as engine, serving(settings) as (client, _):
        merchant = await make_merchant(engine.pool, settings)
        here = snippet.replace("http://127.0.0.1:8080/", f"{str(client.http.base_url).rstrip('/')}/")
        assert here != snippet
        number = await asyncio.to_thread(run, folder, f'const API_KEY = "{merchant.v2_key}";\n{here}')
        assert re.fullmatch(r"[0-9]{19}", number), number
        again = await asyncio.to_thread(run, folder, f'const API_KEY = "{merchant.v2_key}";\n{here}')
        assert again == number, "the same number is the same packet"
        with pytest.raises(AssertionError, match="SIGN_ERROR"):
            await asyncio.to_thread(run, folder, f'const API_KEY = "{"x" * 32}";\n{here}')
