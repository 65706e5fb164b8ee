"""The usual generators make a client of the OpenAPI document, for Python and for TypeScript, and it works."""

import importlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from api.documents.openapi import document
from api.documents.openapi_30 import document_30
from api.routes import ROUTES
from engine.settings import Settings
from tests.support.front import Json, serving
from tests.support.needs import skip_without_tool
from tests.support.repository import ROOT

DOCUMENT: Json = orjson.loads(document(ROUTES))
NAME = "generated_hongbao"
NPM = ("openapi-typescript@7.13.0", "typescript@5.9.3")
NPM_S_MAX = 120
TYPESCRIPT = (
    # A field with a default may be left out of a body; without the option it would have to be sent.
    ("openapi-typescript", "openapi.json", "--default-non-nullable=false", "--output", "api.ts"),
    ("tsc", "--noEmit", "--strict", "--exactOptionalPropertyTypes", "use.ts", "api.ts"),
)
"""As docs/client.md shows it, and then the compiler."""
USE = """
import type { components, operations, paths } from "./api";

const body: components["schemas"]["PacketBody"] = { total_fen: 1000, count: 3, split: "lucky" };
type Sent = operations["send_packet"]["responses"][201]["content"]["application/json"];
type Path = paths["/v1/packets"]["post"];
export function numberOf(sent: Sent): string {
  return sent.packet_id;
}
export const code: components["schemas"]["Problem"]["code"] = "insufficient_funds";
export const header: Path["parameters"]["header"]["Idempotency-Key"] = "a new one for each request";
// @ts-expect-error -- amounts are numbers
export const wrong: typeof body = { total_fen: "1000", count: 3, split: "lucky" };
"""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package that openapi-python-client makes, where it can be imported."""
    folder = tmp_path_factory.mktemp("generated")
    source, package = folder / "openapi.json", folder / NAME
    source.write_bytes(document(ROUTES))
    config = ConfigFile(post_hooks=[], project_name_override=NAME, package_name_override=NAME)
    found = Config.from_sources(
        config, MetaType.NONE, document_source=source, file_encoding="utf-8", overwrite=True, output_path=package
    )
    assert [str(error) for error in generate(config=found)] == []
    sys.path.insert(0, str(folder))
    try:
        yield package
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


@pytest.mark.long
def test_a_python_client_has_every_operation_once_and_can_be_imported(generated: Path) -> None:
    made = Counter(path.stem for path in (generated / "api").rglob("*.py") if path.stem != "__init__")
    assert made == Counter(row.name for row in ROUTES)
    for path in sorted((generated / "api").rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(generated.parent).with_suffix("").parts))
    models = {path.stem for path in (generated / "models").glob("*.py")}
    assert len(models) < 2 * len(DOCUMENT["components"]["schemas"])  # and not one for each answer with an error


@pytest.mark.long
async def test_a_call_of_a_generated_python_client_works(generated: Path, settings: Settings) -> None:
    client_module = importlib.import_module(f"{NAME}.client")
    models = importlib.import_module(f"{NAME}.models")
    send = importlib.import_module(f"{NAME}.api.packets.send_packet")
    async with serving(settings) as (server, _):
        await server.deposit("alice", 1_000)
        token = server.as_user("alice")["authorization"].removeprefix("Bearer ")
        made = client_module.AuthenticatedClient(base_url=str(server.http.base_url), token=token)
        body = models.PacketBody(total_fen=1_000, count=3, split=models.PacketBodySplit.LUCKY)
        async with made as client:
            first = await send.asyncio(client=client, body=body, idempotency_key="one")
            again = await send.asyncio(client=client, body=body, idempotency_key="one")
            refused = await send.asyncio(client=client, body=body, idempotency_key="two")
    assert (first.total_fen, first.packet_id) == (1_000, again.packet_id)
    assert (type(refused).__name__, refused.code) == ("Problem", "insufficient_funds")


def npm_packages() -> Path:
    """A folder with the generator for TypeScript and the compiler, fetched once; the test is skipped without them."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        skip_without_tool("node and npm", "apt-get install nodejs npm")
    folder = ROOT / ".venv" / "npm" / re.sub(r"\W+", "-", "-".join(NPM))
    if not (folder / "node_modules" / ".bin" / "tsc").exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *NPM]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=NPM_S_MAX)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            skip_without_tool("openapi-typescript from npm's registry", f"npm install {' '.join(NPM)}")
    return folder


@pytest.mark.long
def test_a_typescript_client_is_made_and_checked(tmp_path: Path) -> None:
    folder = npm_packages()
    (tmp_path / "openapi.json").write_bytes(document(ROUTES))
    (tmp_path / "use.ts").write_text(USE, encoding="utf-8")
    bin_folder = folder / "node_modules" / ".bin"
    for program, *words in TYPESCRIPT:
        done = subprocess.run(
            [bin_folder / program, *words],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    made = (tmp_path / "api.ts").read_text(encoding="utf-8")
    assert all(re.search(rf"\b{row.name}: {{", made) for row in ROUTES)


def test_names_stand_by_themselves() -> None:
    """A name with a module's path in it is two models of one name: some generators drop one of them."""
    names = [*DOCUMENT["components"]["schemas"]]
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z]+", name)] == []
    assert len({name.lower() for name in names}) == len(names)


@pytest.mark.long
def test_the_document_of_version_30_says_what_that_version_can_say(tmp_path: Path) -> None:
    """Generators for Go read 3.0 only: one schema for each type, no null beside it, and no constants."""
    made = document_30()
    assert made["openapi"] == "3.0.3"
    assert [node for node in nodes(made) if node.get("type") == "null" or ("const" in node and "type" in node)] == []
    assert [node for node in nodes(made) if isinstance(node.get("type"), list)] == []
    assert made["paths"].keys() == DOCUMENT["paths"].keys()
    source = tmp_path / "openapi.json"
    source.write_bytes(orjson.dumps(made))
    config = ConfigFile(post_hooks=[], project_name_override=NAME, package_name_override=NAME)
    found = Config.from_sources(
        config,
        MetaType.NONE,
        document_source=source,
        file_encoding="utf-8",
        overwrite=True,
        output_path=tmp_path / NAME,
    )
    assert [str(error) for error in generate(config=found)] == []


def nodes(value: object) -> Iterator[Json]:
    """All objects of a part of the document, without the examples."""
    if isinstance(value, dict):
        yield value
        value = [each for name, each in value.items() if name not in ("example", "default")]
    if isinstance(value, list):
        for each in value:
            yield from nodes(each)
