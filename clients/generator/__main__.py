"""``make client``: write the generated modules of the Python client anew."""

import subprocess
import sys
from pathlib import Path

import orjson

from api.documents.openapi import document
from api.routes import ROUTES
from clients.generator.methods import index, methods, module
from clients.generator.names import NOUNS
from clients.generator.schemas import Json, Schemas

PACKAGE = Path(__file__).parents[1] / "python" / "src" / "hongbao_client"


def files() -> dict[str, str]:
    """Each generated file of the package, by its path, with its text."""
    api: Json = orjson.loads(document(ROUTES))
    schemas = Schemas(api)
    listed = methods(api, schemas)
    made = {"models.py": schemas.module(api), "nouns/__init__.py": index()}
    made |= {f"nouns/{noun}.py": module(noun, listed, schemas) for noun in NOUNS}
    return {name: formatted(text) for name, text in made.items()}


def formatted(text: str) -> str:
    """The text as ``make format`` writes it: imports that are used, in their order."""
    for words in (("check", "--select", "F401,I", "--fix", "--quiet"), ("format", "--quiet")):
        ruff = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(PACKAGE / "models.py"), "-"]
        done = subprocess.run(ruff, input=text, capture_output=True, encoding="utf-8", check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout)
        text = done.stdout
    return text


if __name__ == "__main__":
    for name, text in files().items():
        (PACKAGE / name).write_text(text, encoding="utf-8")
