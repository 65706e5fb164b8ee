"""Every command that the documents show, as a stranger types it.

Commands are found in the indented blocks, so a new one is run here, or named in ``NOT_RUN`` with the reason, or fails.
"""

import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import asyncpg
import httpx
import orjson
import pytest

from engine.access import tokens
from engine.embedded import data_dir as data_dirs
from engine.embedded import servers
from engine.settings import Settings
from tests.support.commands import Up, environment, upped
from tests.support.needs import needs_program
from tests.support.repository import ROOT
from tests.support.warm import started

pytestmark = pytest.mark.long

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PROGRAMS = frozenset(
    (".", "curl", "export", "hongbao", "locust", "make", "printf", "python", "redis-cli")  # and NAME=...
) | frozenset(
    ("cd", "docker", "helm", "install", "kubectl", "systemctl", "systemd-run", "npx", "openapi-python-client")
)
OTHER_BLOCKS = {
    "what is printed": r" *(ok|problem|warning|FAILED|lane|Starting|Load|ready) |\(in part\)|\d+  \d{4}-|[0-9a-f]{64}$",
    "HTTP": r"(GET|POST|PUT|DELETE) +/|webhook-id:",
    "JSON": r"[{\"]",
    "Python": r"import ",
    "SQL": r"SELECT ",
    "a drawing or a formula": r"send ->|processing ──>|funded ──>|SHAKE-256\(|rounding\[|\d+ into \d+",
}
"""Blocks that are no commands, and what is printed below commands, by how they begin."""
NOT_RUN = {
    r"make (setup|demo|check|test|bench|bench-quick|load|chaos)\b.*": "takes minutes; `make -n` reads it below",
    r"make serve": "stays; test_load.py does the same, and `make -n` reads it below",
    r"hongbao up .*": "the engine that all others are run on",
    r"hongbao console --port 8081": "stays; test_console_process.py keeps it running",
    r"hongbao persist": "stays; test_cli.py keeps it running",
    r"python -m benchmarks\b.*": "takes minutes; test_benchmarks_*.py run the parts",
    r"python -m loadtest\.coupons": "takes minutes; test_coupon_drop.py plays a smaller one",
    r"locust .*": "needs other machines; test_load.py runs locust on this one",
    r"(cd|docker|helm|install|kubectl|systemctl|systemd-run)\b.*": "needs a daemon, a cluster, root: tests/deploy",
    r"(npx|openapi-python-client) .*": "test_generators.py runs both generators",
    r"python -m venv /opt/.*": "installs for the whole machine",
    r"\. \.venv/bin/activate": "the tests' own Python is on the PATH",
}
EXIT_CODES = {
    r"hongbao lanes (move|place).*": (1,),  # this Redis is no cluster; test_lane_moves.py has one
    r"hongbao doctor": (0, 1),  # what is wrong with this machine is not the command's fault
    r"hongbao quarantine (retry|write-off) .*": (1,),  # there is no row with this number: nothing here breaks a rule
    r"hongbao coupons (upload|show) .*": (1,),  # nobody has made a batch here; test_cli_coupons.py has some
    r"hongbao wechatpay (keys|platform).*": (0, 1),  # the key is of another block; test_wechatpay_log.py has one
    r"python -m deploy\.dashboards": (0, 1),  # the checkout may be somebody else's
    r"hongbao quarantine set-aside .*": (1,),  # nothing stops a lane here; test_cli_bad_entry.py has one that is
}
"""Where it is not 0."""
DEFINED = re.compile(r"[A-Z_]+=\$?\S")
CHINA = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Block:
    """An indented block of a page, without its indentation."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def paragraphs(self) -> list[str]:
        """A block may show commands, an empty line, and what is printed."""
        return re.split(r"\n\n+", self.text.strip("\n"))

    @property
    def lines(self) -> list[str]:
        """The lines of the paragraphs that begin with a command: those that are continued in one, without comments."""
        commands = [paragraph for paragraph in self.paragraphs if is_command(paragraph)]
        lines = re.sub(r" \\\n\s*", " ", "\n".join(commands)).splitlines()
        return [bare for line in lines if (bare := re.sub(r"(^|\s+)#\s.*", "", line))]


def is_command(text: str) -> bool:
    return text.split(maxsplit=1)[0] in PROGRAMS or DEFINED.match(text) is not None


def blocks() -> Iterator[Block]:
    """Runs of lines that a Markdown reader shows as they are: indented by four, or by more below a list's item."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"(?:(?<=\n\n)|\A)( {4,})\S.*\n(?:(?:\1.*|)\n)*(?:\1.*\n)?", text):
            shown = re.sub(rf"^{found[1]}", "", found[0].rstrip() + "\n", flags=re.MULTILINE)
            yield Block(str(page.relative_to(ROOT)), text.count("\n", 0, found.start()) + 1, shown)


BLOCKS = list(blocks())


def reason_not_run(command: str) -> str | None:
    return next((why for words, why in NOT_RUN.items() if re.fullmatch(words, command)), None)


def scripts() -> dict[str, Block]:
    """What is run, each once: a block's commands go together, as what one defines is used by the next."""
    found: dict[str, Block] = {}
    for block in BLOCKS:
        kept = [command for command in block.lines if reason_not_run(command) is None]
        defines = any(DEFINED.match(command) for command in kept)
        for script in ["\n".join(kept)] if defines else kept:
            found.setdefault(script, block)
    return found


SCRIPTS = scripts()


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the stranger sits: an engine that runs, a folder, and the variables of their shell."""

    up: Up
    folder: Path
    variables: dict[str, str]

    def run(self, script: str) -> "subprocess.CompletedProcess[str]":
        for theirs, ours in self._replaced().items():
            script = script.replace(theirs, ours)
        words = ["bash", "-e", "-u", "-o", "pipefail", "-c", script]
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.variables,
            pass_fds=[started().requests.fileno()],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def _replaced(self) -> dict[str, str]:
        """What the pages name, and what it is here."""
        yesterday = datetime.now(CHINA).date() - timedelta(days=1)
        return {
            "localhost:8080": self.up.base_url,
            "--data-dir ./data": f"--data-dir {shlex.quote(str(self.up.data_dir))}",
            "/var/lib/node_exporter/textfile": shlex.quote(str(self.folder)),
            "/elsewhere/audit-of-yesterday.json": "audit.json",
            "/elsewhere/the-last-clean-one.json": "audit.json",
            "2026-11-21": yesterday.isoformat(),
            # As it is but for how long: 20 seconds measure a machine. It says so itself if a book is wrong.
            "python -m loadtest.wechatpay": "python -m loadtest.wechatpay --seconds 3 --warm-up-seconds 1",
        }


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, quick_folder: Path) -> Iterator[Desk]:
    """An engine with a settled packet, of which proof and receipt are in the folder, and the result of an audit."""
    folder, data_dir = tmp_path_factory.mktemp("desk"), quick_folder / "documented"
    programs = folder / "bin"
    programs.mkdir()
    put(programs / "hongbao", f"exec {started().program()}")
    put(programs / "python", f'exec {sys.executable} "$@"')
    redis = f"redis.Redis(unix_socket_path={str(data_dirs.redis_socket(data_dir))!r}, protocol=2)"
    ask = f"import redis, sys; print({redis}.execute_command(*sys.argv[1:]))"
    put(programs / "redis-cli", f'exec {sys.executable} -c "{ask}" "$@"')
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    variables = environment(PATH=path, HONGBAO_DATA_DIR=str(data_dir))
    try:
        with upped(data_dir) as up:
            yield Desk(up, folder, variables)
    finally:
        servers.remove(data_dir)


def put(program: Path, line: str) -> None:
    program.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def papers(desk: Desk) -> None:
    """What a stranger has in their folder after a while: the proof and the receipt of a packet, a clean audit."""
    secret = tokens.load_secret(Settings(data_dir=desk.up.data_dir, auth_secret=None))

    def of(user: str, *scopes: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens.issue(secret, user, scopes, 3_600)}", "Idempotency-Key": "papers"}

    with httpx.Client(base_url=desk.up.base_url) as http:
        deposit = http.post("/v1/wallets/dora/deposits", json={"amount_fen": 10}, headers=of("root", "admin"))
        sent = http.post(
            "/v1/packets", json={"total_fen": 10, "count": 1, "split": "lucky"}, headers=of("dora", "send")
        )
        number = sent.json()["packet_id"]
        claimed = http.post(f"/v1/packets/{number}/claims", headers=of("bob", "claim"))
        assert (deposit.status_code, sent.status_code, claimed.status_code) == (201, 201, 200)
        for name, at in (("proof", f"packets/{number}/proof"), ("receipt", f"transactions/{number}/receipt")):
            _fetched(http, f"/v1/{at}", of("dora"), desk.folder / f"{name}.json")
    audited = desk.run("hongbao audit --json > audit.json")
    assert audited.returncode == 0, audited.stderr


def _fetched(http: httpx.Client, path: str, headers: dict[str, str], into: Path) -> None:
    """Ask until the packet is settled."""
    deadline_s = time.monotonic() + 30
    while (answer := http.get(path, headers=headers)).status_code == 409:
        assert time.monotonic() < deadline_s, answer.text
    assert answer.status_code == 200, answer.text
    into.write_bytes(answer.content)


def test_each_block_is_commands_or_something_else_that_is_known() -> None:
    unknown = [
        f"{block}: {paragraph.splitlines()[0]}"
        for block in BLOCKS
        for paragraph in (block.paragraphs if is_command(block.text) else block.paragraphs[:1])
        if not is_command(paragraph) and not any(re.match(begins, paragraph) for begins in OTHER_BLOCKS.values())
    ]
    unknown += [f"{block}: {line}" for block in BLOCKS for line in block.lines if not is_command(line)]
    assert unknown == [], "a new program belongs into PROGRAMS, what is no command into OTHER_BLOCKS"


def test_no_reason_is_left_over() -> None:
    lines = {line for block in BLOCKS for line in block.lines}
    kept = [*NOT_RUN, *EXIT_CODES]
    assert [words for words in kept if not any(re.fullmatch(words, line) for line in lines)] == []
    assert PROGRAMS - {line.split(maxsplit=1)[0] for line in lines} == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: f"{SCRIPTS[script]} {script.splitlines()[0][:40]}")
@pytest.mark.usefixtures("papers")
def test_it_runs(desk: Desk, script: str, tmp_path: Path) -> None:
    for program in ("curl", "sha256sum"):
        if program in script:
            needs_program(program)
    if script == "hongbao rotate-secret":  # not the one that all others sign with
        desk = replace(desk, variables={**desk.variables, "HONGBAO_DATA_DIR": str(tmp_path)})
    if re.fullmatch(r"hongbao console (reset|disable)-operator ann", script):
        desk.run("hongbao console add-operator ann --role finance")  # unless the block above has run here
    ended = desk.run(script)
    codes = next((codes for words, codes in EXIT_CODES.items() if re.fullmatch(words, script)), (0,))
    assert ended.returncode in codes, f"{SCRIPTS[script]}\n{ended.stdout}{ended.stderr}"
    assert ended.returncode == 0 or "dashboards" not in script or ended.stderr.startswith("The dashboards cannot be")
    assert "Usage:" not in ended.stderr
    assert "Traceback" not in ended.stderr
    if "/claims" in script:
        assert re.search(r'{"outcome":"claimed","amount_fen":\d+,"packet_id":"10\d+","user_id":"alice"}$', ended.stdout)


def test_what_is_shown_to_be_printed_is() -> None:
    """The commitment in docs/split.md: a command, "prints", the digits."""
    needs_program("sha256sum")
    (script,) = [script for script in SCRIPTS if "sha256sum" in script]
    (shown,) = [block.text.strip() for block in BLOCKS if re.fullmatch(r"[0-9a-f]{64}\s*", block.text)]
    printed = subprocess.run(
        ["bash", "-c", script], capture_output=True, encoding="utf-8", timeout=60, check=True
    ).stdout
    assert printed.split()[0] == shown


@pytest.mark.usefixtures("papers")
def test_the_python_that_is_shown_makes_a_receipts_hash(desk: Desk) -> None:
    blocks = [block for block in BLOCKS if re.match(OTHER_BLOCKS["Python"], block.text)]
    # tests/campaigns/test_rain.py and tests/cards/test_drawing.py run the others.
    assert sorted(block.page for block in blocks) == ["docs/campaigns.md", "docs/cards.md", "docs/receipt.md"]
    (code,) = [block.text for block in blocks if block.page == "docs/receipt.md"]
    printed = desk.run(f"python - <<'end'\n{code}end\n")
    receipt = orjson.loads((desk.folder / "receipt.json").read_bytes())
    assert printed.stdout.strip() == receipt["hash"], printed.stderr


async def test_the_sql_that_is_shown_is_understood(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for statement in [block.text for block in BLOCKS if re.match(OTHER_BLOCKS["SQL"], block.text)]:
            assert await connection.fetch(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("line", sorted({line for block in BLOCKS for line in block.lines if line.startswith("make ")}))
def test_make_knows_the_target_and_its_variables(line: str) -> None:
    variables = [word.partition("=")[0] for word in line.split()[2:]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [name for name in variables if f"$({name}" not in makefile and f"$(if $({name}" not in makefile] == []
    words = ["make", "--dry-run", "--no-print-directory", *line.split()[1:]]
    planned = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert planned.returncode == 0, planned.stderr
