"""The command line: what each command prints, and each mistake as one plain sentence."""

import asyncio
import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import jwt
import orjson
import pytest

from engine.access.keyring import Keyring, Secret, load
from engine.access.tokens import Verifier, load_secret
from engine.embedded import servers as embedded
from engine.settings import Settings
from tests.support.commands import Up, hongbao, hongbao_code, kept, sentence, upped
from tests.support.waiting import wait_until

pytestmark = pytest.mark.long

COMMANDS = ["up", "serve", "persist", "sweep", "migrate", "token", "rotate-secret", "audit", "doctor"]


@pytest.fixture
def servers(settings: Settings) -> dict[str, str]:
    """The variables that name the tests' own servers."""
    return {"HONGBAO_REDIS_URL": settings.redis_url or "", "HONGBAO_DATABASE_URL": settings.database_url or ""}


@pytest.fixture
def data_dir(quick_path: Path) -> Iterator[Path]:
    """A data directory that may get embedded servers."""
    path = quick_path / "data"
    yield path
    embedded.remove(path)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def execute(url: str | None, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def secret_of(data_dir: Path) -> bytes:
    return load_secret(Settings(data_dir=data_dir, auth_secret=None))


def test_a_start_does_without_rich_and_without_threads(tmp_path: Path) -> None:
    """Which structlog imports and numpy begins where nobody keeps them from it: a fifth of a start."""
    code = (
        "import os, sys, psutil; os.environ.pop('OPENBLAS_NUM_THREADS', None)\n"
        "from engine.__main__ import main\n"
        "try: main()\n"
        "finally:\n"
        "    import engine.engine, numpy\n"
        "    print([name for name in sys.modules if name.startswith('rich')], psutil.Process().num_threads())"
    )
    finished = hongbao_code(code, "token", "--user", "bob", "--data-dir", tmp_path)
    assert finished.stdout.splitlines()[-1] == "[] 1", finished.stderr


def test_help_names_every_command() -> None:
    asked, bare = hongbao("--help"), hongbao()
    assert (asked.returncode, bare.returncode) == (0, 2)
    for command in COMMANDS:
        assert f" {command} " in asked.stdout
        of_it = hongbao(command, "--help")
        assert of_it.returncode == 0
        assert "--data-dir" in of_it.stdout
        assert "--report" not in of_it.stdout
    assert asked.stdout.split() == bare.stdout.split()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["up", "--port", "65536"],
        ["up", "--port", "x"],
        ["up", "--workers", "0"],
        ["token"],
        ["audit", "x"],
    ],
)
def test_a_wrong_command_line_exits_with_2(words: list[str]) -> None:
    finished = hongbao(*words)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "Usage: hongbao" in finished.stderr
    assert "Traceback" not in finished.stderr


MISTAKES = [
    ({"HONGBAO_LANES": "abc"}, "HONGBAO_LANES cannot be used"),
    ({"HONGBAO_LANES": "0"}, "HONGBAO_LANES cannot be used"),
    (
        {"HONGBAO_ACK": "whatever"},
        "HONGBAO_ACK cannot be used: Input should be 'memory', 'fsync', 'replica' or 'ledger'",
    ),
    ({"HONGBAO_REDIS_URL": "http://127.0.0.1"}, "HONGBAO_REDIS_URL cannot be used: it must begin with redis://"),
    ({"HONGBAO_REDIS_URL": "nonsense"}, "HONGBAO_REDIS_URL cannot be used: it must begin with redis://"),
    ({"HONGBAO_REDIS_URL": "redis://u:hidden@h:x/0"}, "HONGBAO_REDIS_URL cannot be used: its port"),
    ({"HONGBAO_DATABASE_URL": "mysql://h/x"}, "HONGBAO_DATABASE_URL cannot be used: it must begin with postgresql://"),
    ({"HONGBAO_DATABASE_URL": "postgresql://u:hidden@a:1,b:x/x"}, "HONGBAO_DATABASE_URL cannot be used: its port"),
    ({"HONGBAO_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/x"}, "Postgres does not answer"),
    ({"HONGBAO_HOST": "localhost"}, "HONGBAO_HOST must be an IP address, not 'localhost'"),
    ({"HONGBAO_HOST": "192.0.2.1"}, f"HONGBAO_HOST 192.0.2.1 cannot be used: {os.strerror(errno.EADDRNOTAVAIL)}"),
    ({"HONGBAO_AUTH_SECRET": "hidden"}, "HONGBAO_AUTH_SECRET has 6 bytes; it needs at least 32"),
]


@pytest.mark.parametrize(("variables", "expected"), MISTAKES, ids=[f"{list(v.items())}" for v, _ in MISTAKES])
def test_a_wrong_setting_is_one_sentence_that_names_it(
    tmp_path: Path, variables: dict[str, str], expected: str
) -> None:
    # Servers that are not there: that is found last, and none of ours is started for nothing.
    nowhere = {"HONGBAO_REDIS_URL": "redis://127.0.0.1:1", "HONGBAO_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    said = sentence(hongbao("up", "--port", "0", "--data-dir", tmp_path / "data", **nowhere | variables))
    assert said.startswith(expected)
    assert "hidden" not in said


def test_an_empty_variable_is_no_setting(tmp_path: Path) -> None:
    printed = hongbao("token", "--user", "bob", "--data-dir", tmp_path, HONGBAO_REDIS_URL="", HONGBAO_PORT="")
    assert (printed.returncode, printed.stderr) == (0, "")


def test_a_server_that_is_silent_is_not_waited_for_for_ever(
    tmp_path: Path, servers: dict[str, str], silent_port: int
) -> None:
    words = ("persist", "--data-dir", tmp_path)
    mute_redis = {"HONGBAO_REDIS_URL": f"redis://127.0.0.1:{silent_port}", "HONGBAO_REDIS_TIMEOUT_S": "0.2"}
    assert sentence(hongbao(*words, **servers | mute_redis)).startswith("Redis does not answer: ")
    mute_postgres = {"HONGBAO_DATABASE_URL": f"postgresql://127.0.0.1:{silent_port}/x?sslmode=disable"}
    said = sentence(hongbao(*words, **servers | mute_postgres))
    assert re.fullmatch(r"Postgres does not answer: \S.*", said)


def test_a_port_that_is_taken(tmp_path: Path, servers: dict[str, str], silent_port: int) -> None:
    said = sentence(hongbao("up", "--port", str(silent_port), "--data-dir", tmp_path / "data", **servers))
    assert said.startswith(f"Port {silent_port} of 127.0.0.1 cannot be used ({os.strerror(errno.EADDRINUSE)})")


@pytest.mark.parametrize("command", ["up", "audit", "migrate"])
def test_a_data_directory_in_use(tmp_path: Path, command: str) -> None:
    with embedded.hold(tmp_path) as held:
        (held.path / "postgres").mkdir()
        said = sentence(hongbao(command, "--data-dir", tmp_path, HONGBAO_PORT="0"))
    assert said.startswith(f"The data directory {tmp_path} is in use by another hongbao (process ")


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        said = sentence(hongbao("up", "--port", "0", "--data-dir", path))
        assert said.startswith(f"The data directory {path} cannot be used: ")
        assert str(path) in sentence(hongbao("token", "--user", "bob", "--data-dir", path))


async def test_a_database_of_a_newer_release_is_refused(tmp_path: Path, servers: dict[str, str]) -> None:
    await execute(servers["HONGBAO_DATABASE_URL"], "INSERT INTO schema_versions VALUES (9999)")
    for command in ("up", "migrate", "serve", "persist", "sweep", "audit"):
        finished = await asyncio.to_thread(hongbao, command, "--data-dir", tmp_path, **servers, HONGBAO_PORT="0")
        assert "version 9999, newer than this release's" in sentence(finished), command


def test_migrate_applies_once(tmp_path: Path, empty_database_url: str, redis_url: str) -> None:
    variables = {"HONGBAO_DATABASE_URL": empty_database_url, "HONGBAO_REDIS_URL": redis_url}
    words = ("--data-dir", tmp_path)
    assert "run `hongbao migrate` first" in sentence(hongbao("audit", *words, **variables))
    assert hongbao("migrate", *words, **variables).stdout.startswith("applied 1")
    assert hongbao("migrate", *words, **variables).stdout == "nothing to apply\n"
    assert orjson.loads(hongbao("migrate", "--json", *words, **variables).stdout) == {"applied": []}
    assert hongbao("audit", *words, **variables).returncode == 0


def test_a_token_speaks_for_its_user_with_its_scopes(tmp_path: Path) -> None:
    words = ("token", "--user", "bob", "--data-dir", tmp_path / "data")
    plain, several = hongbao(*words), hongbao(*words, "--scope", "admin", "--scope", "act", "--ttl-s", "60", "--json")
    assert (plain.returncode, plain.stderr, plain.stdout.count("\n")) == (0, "", 1)
    verifier = Verifier(Keyring([Secret("0", secret_of(tmp_path / "data"))]))
    claims = verifier.verify(plain.stdout.strip().encode())
    assert (claims.user_id, set(claims.scopes)) == ("bob", {"send", "claim"})
    printed = orjson.loads(several.stdout)
    assert printed | {"token": ""} == {"token": "", "user": "bob", "scopes": ["admin", "act"]}
    short = verifier.verify(printed["token"].encode())
    assert short.scopes == {"admin", "act"}
    assert 86_300 < claims.expires_at_s - short.expires_at_s < 86_400
    assert (tmp_path / "data" / "auth-secrets" / "0").stat().st_mode & 0o777 == 0o600


def test_a_token_that_cannot_be(tmp_path: Path) -> None:
    words = ("token", "--data-dir", tmp_path)
    assert sentence(hongbao(*words, "--user", "a b")).startswith("The user 'a b' must be")
    said = sentence(hongbao(*words, "--user", "bob", "--scope", "claim", "--scope", "root"))
    assert said == "There is no scope 'root'; the scopes are send, claim, act, admin."
    assert hongbao(*words, "--user", "bob", "--ttl-s", "0").returncode == 2
    assert sentence(hongbao(*words, "--user", "bob", "--ttl-s", "2592001")).startswith(
        "A token's lifetime can be at most"
    )
    assert sentence(hongbao(*words, "--user", "bob", "--key-id", "new")).startswith("No secret has the key id 'new'")


def test_a_new_secret_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    words = ("token", "--user", "bob", "--data-dir", data_dir)
    tokens = [hongbao(*words).stdout.strip()]
    told = hongbao("rotate-secret", "--data-dir", data_dir)
    assert (told.returncode, told.stderr) == (0, "")
    first = told.stdout.split()[1]
    tokens.append(hongbao(*words).stdout.strip())
    printed = orjson.loads(hongbao("rotate-secret", "--data-dir", data_dir, "--json").stdout)
    assert printed["in_force"] == [printed["signs"], first, "0"]
    assert printed["signs"] > first
    tokens += [hongbao(*words).stdout.strip(), hongbao(*words, "--key-id", first).stdout.strip()]
    keys = load(Settings(data_dir=data_dir, auth_secret=None))
    assert [Verifier(keys).verify(token.encode()).user_id for token in tokens] == ["bob"] * 4
    assert [jwt.get_unverified_header(token).get("kid") for token in tokens] == ["0", first, printed["signs"], first]
    for secret in keys.secrets:
        assert secret.value.decode() not in told.stdout
    given = hongbao("rotate-secret", "--data-dir", data_dir, HONGBAO_AUTH_SECRET="e" * 32)
    assert "HONGBAO_AUTH_SECRETS" in sentence(given)
    assert len(load(Settings(data_dir=data_dir, auth_secret=None)).secrets) == 3


def test_secrets_that_cannot_be_used_are_not_told(tmp_path: Path) -> None:
    words = ("token", "--user", "bob", "--data-dir", tmp_path)
    for variables in ({"HONGBAO_AUTH_SECRETS": "hush" * 10}, {"HONGBAO_AUTH_SECRET": "hush"}):
        assert "hush" not in sentence(hongbao(*words, **variables))
    (tmp_path / "auth-secrets").mkdir()
    (tmp_path / "auth-secrets" / "0").write_text("hush" * 10, encoding="utf-8")
    (tmp_path / "auth-secrets" / "0").chmod(0o644)  # whatever the umask is
    said = sentence(hongbao(*words))
    assert "chmod 600" in said
    assert "hush" not in said


OTHER_SERVERS = {
    **{f"{scheme}_proxy": "http://127.0.0.1:1" for scheme in ("http", "https", "all")},
    "PGHOST": "other.invalid",
    "PGPORT": "1",
    "PGUSER": "other",
    "PGPASSWORD": "other",
    "PGDATABASE": "other",
    "PGSSLMODE": "verify-full",
    "PGTARGETSESSIONATTRS": "standby",
    "REDIS_URL": "redis://127.0.0.1:1",
}
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def test_whatever_the_shell_is_set_to_everything_comes_up(quick_path: Path) -> None:
    shell = OTHER_SERVERS | ASCII_ONLY
    data_dir = quick_path / os.fsdecode("红包 of the house".encode())  # also if these tests run in ASCII
    with upped(data_dir, **shell) as up:
        client = up.client()
        async with client.http:
            await client.deposit("bob", 500)
        assert (await asyncio.to_thread(hongbao, "doctor", "--data-dir", data_dir, **shell)).stderr == ""
        assert up.end() == (0, "")
    audited = await asyncio.to_thread(hongbao, "audit", "--data-dir", data_dir, **shell)
    assert (audited.returncode, audited.stderr) == (0, "")
    embedded.remove(data_dir)


def test_audit_makes_nothing_where_nothing_is(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        assert sentence(hongbao("audit", "--data-dir", path)).startswith(f"There are no books in {path}: ")
    assert list(tmp_path.iterdir()) == []


def test_audit_starts_the_servers_it_needs_and_stops_them(data_dir: Path) -> None:
    assert hongbao("migrate", "--data-dir", data_dir).stdout.startswith("applied 1")
    audited = hongbao("audit", "--data-dir", data_dir)
    assert (audited.returncode, audited.stderr.count("\n")) == (0, 1)
    assert audited.stderr.endswith(": there is no secret to sign it with.\n")  # which only a process makes
    assert list((data_dir / "auth-secrets").glob("*")) == []
    assert embedded.running(data_dir) == (None, None)


async def test_audit_exits_with_1_and_names_what_is_wrong(tmp_path: Path, servers: dict[str, str]) -> None:
    """And a token made before the first start is as good as one made while the engine runs."""
    words = ("token", "--user", "bob", "--data-dir", tmp_path / "data")
    before = hongbao(*words).stdout.strip()
    with upped(tmp_path / "data", **servers) as up:
        client = up.client()
        async with client.http:
            await client.deposit("bob", 500)
            for token in (before, hongbao(*words).stdout.strip()):
                answer = await client.http.get("/v1/wallets/bob", headers={"authorization": f"Bearer {token}"})
                assert answer.json()["balance_fen"] == 500
        assert up.end() == (0, "")
    await execute(servers["HONGBAO_DATABASE_URL"], "UPDATE accounts SET balance_fen = 501 WHERE owner = 'bob'")
    audited = await asyncio.to_thread(hongbao, "audit", "--data-dir", tmp_path, **servers)
    assert audited.returncode == 1
    failed = [line for line in audited.stdout.splitlines() if line.startswith("FAILED")]
    assert [line.split(" (")[0] for line in failed] == [
        "FAILED all balances sum to zero",
        "FAILED each balance is the sum of its entries",
    ]
    printed = await asyncio.to_thread(hongbao, "audit", "--json", "--data-dir", tmp_path, **servers)
    assert printed.returncode == 1
    broken = {finding["invariant"] for finding in orjson.loads(printed.stdout) if not finding["holds"]}
    assert broken == {"balances_sum_to_zero", "balances_equal_transfers"}


async def test_processes_of_their_own_do_the_work_together(tmp_path: Path, servers: dict[str, str], port: int) -> None:
    """And each says of a setting that is none that it is ignored."""
    data_dir, servers = tmp_path / "data", {**servers, "HONGBAO_SWEEP_INTERVAL_S": "1"}
    with (
        kept("persist", data_dir=data_dir, **servers) as persist,
        kept("sweep", data_dir=data_dir, **servers) as sweep,
        kept("serve", "--port", str(port), data_dir=data_dir, **servers) as serve,
    ):
        base_url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            try:
                return httpx.get(f"{base_url}/readyz").is_success
            except httpx.TransportError:  # a probe on a busy machine may also take too long
                return False

        await wait_until(is_ready, timeout_s=60, what="the API")
        client = Up(serve.process, data_dir, serve.log_path, base_url).client()
        for process in (serve, sweep, persist):
            ignored = [line["why"] for line in process.log() if line["event"] == "a setting is ignored"]
            assert ignored == ["HONGBAO_SWEEP_INTERVAL_S is not a setting."]
        for process in (serve, sweep, persist):  # which reads files again where there are some, and ends nothing
            process.process.send_signal(signal.SIGHUP)
        async with client.http:
            packet_id = await client.send("alice", count=2, total_fen=200, ttl_s=1)
            told = await client.claim(packet_id, "bob")

            async def is_refunded() -> bool:
                answer = await client.http.get("/v1/wallets/alice", headers=client.as_user("alice"))
                return bool(answer.json()["balance_fen"] == 200 - told["amount_fen"])

            await wait_until(is_refunded, timeout_s=10, what="the refund")
        for process in (serve, sweep, persist):
            assert process.end(signal.SIGTERM) == (0, "")
    assert hongbao("audit", "--data-dir", data_dir, **servers).returncode == 0


@pytest.mark.parametrize("command", ["up", "serve", "persist", "sweep", "console"])
def test_files_to_be_read_again_during_a_start_end_nothing(tmp_path: Path, command: str) -> None:
    """Here the signal comes while the process looks for its libraries, long before it has a loop."""
    hangs_up = (
        "import os, signal, sys\n"
        "from engine.cli import main\n"
        "from engine.running import libraries\n"
        "libraries.check = lambda: [os.kill(os.getpid(), signal.SIGHUP), print('goes on'), sys.exit(3)]\n"
        f"sys.argv = ['hongbao', {command!r}, '--data-dir', {str(tmp_path)!r}]\n"
        "main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", hangs_up], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (3, "goes on\n"), done.stderr


@pytest.mark.parametrize("command", ["serve", "persist", "sweep"])
def test_a_process_without_servers_says_what_to_set(tmp_path: Path, command: str) -> None:
    said = sentence(hongbao(command, "--data-dir", tmp_path / "data"))
    assert said == "HONGBAO_REDIS_URL and HONGBAO_DATABASE_URL are not set, and no `hongbao up` is running."
