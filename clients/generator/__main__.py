"""``make client``: write the generated modules of the Python client anew."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from api.documents.openapi import document
from api.routes import ROUTES
from clients.generator.methods import index, methods, module
from clients.generator.names import NOUNS
from clients.generator.schemas import Json, Schemas

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "python" / "src" / "hongbao_client"


def files() -> dict[str, str]:
    """Each generated file of the package, by its path, with its text."""
    api: Json = orjson.loads(document(ROUTES))
    schemas = Schemas(api)
    listed = methods(api, schemas)
    made = {"models.py": schemas.module(api), "nouns/__init__.py": index()}
    made |= {f"nouns/{noun}.py": module(noun, listed, schemas) for noun in NOUNS}
    return formatted(made)


def formatted(made: dict[str, str]) -> dict[str, str]:
    """The files as ``make format`` writes them, with the imports that they use."""
    with TemporaryDirectory() as folder:
        for name, text in made.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for words in (("check", "--select", "F401,I", "--fix", "--quiet"), ("format", "--quiet")):
            ruff = [
                sys.executable,
                "-m",
                "ruff",
                *words,
                "--no-cache",
                "--config",
                str(ROOT / "pyproject.toml"),
                folder,
            ]
            subprocess.run(ruff, check=True)  # noqa: S603
        return {name: Path(folder, name).read_text(encoding="utf-8") for name in made}


if __name__ == "__main__":
    for name, text in files().items():
        (PACKAGE / name).write_text(text, encoding="utf-8")
