"""The console's vendored files, by ``vendor.json``. ``python -m tests.support.vendored`` fetches them by npm."""

import base64
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from hashlib import sha256, sha512
from pathlib import Path

import orjson

from tests.support.repository import ROOT

FOLDER = ROOT / "api" / "console" / "static" / "vendor"
LIST = FOLDER / "vendor.json"


@dataclass(frozen=True, slots=True)
class Library:
    """One library at npm. ``integrity``: of its archive. ``files``: each with its path in it and its SHA-256."""

    name: str
    version: str
    integrity: str
    licence: str
    files: dict[str, tuple[str, str]]


def libraries() -> list[Library]:
    """What the list says."""
    return [
        Library(
            row["name"],
            row["version"],
            row["integrity"],
            row["licence"],
            {file["file"]: (file["from"], file["sha256"]) for file in row["files"]},
        )
        for row in orjson.loads(LIST.read_bytes())
    ]


def hash_of(body: bytes) -> str:
    """As the list has it."""
    return sha256(body).hexdigest()


def fetch(library: Library, folder: Path) -> None:
    """Put a library's files into the vendor folder. Whatever differs from the list ends the program."""
    words = ["npm", "pack", f"{library.name}@{library.version}", "--json"]
    packed = orjson.loads(subprocess.run(words, cwd=folder, check=True, capture_output=True).stdout)
    archive = folder / packed[0]["filename"]
    digest = "sha512-" + base64.b64encode(sha512(archive.read_bytes()).digest()).decode()
    if digest != library.integrity:
        sys.exit(f"{library.name} {library.version}: the archive is not the one that vendor.json names")
    with tarfile.open(archive) as opened:
        for name, (source, expected) in library.files.items():
            member = opened.extractfile(f"package/{source}")
            body = b"" if member is None else member.read()
            if hash_of(body) != expected:
                sys.exit(f"{name}: it is not the file that vendor.json names")
            (FOLDER / name).write_bytes(body)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for each in libraries():
            fetch(each, Path(made))
