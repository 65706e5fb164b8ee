"""Our style, scripts and vendored libraries: read once, compressed once, served under their hashes for a year."""

import gzip
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from starlette.responses import Response

CACHED = "public, max-age=31536000, immutable"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_BASE_STYLE, _OWN_STYLE = "vendor/pico-2.1.1.min.css", "console.css"
_CHARSET = b'@charset "UTF-8";'


class _File(NamedTuple):
    body: bytes
    compressed: bytes
    media_type: str


class StaticFiles:
    """All files below ``static/`` that a browser may ask for."""

    def __init__(self) -> None:
        bodies = {name: body for name, body in _read().items() if _type_of(name)}
        # One request, and ours above theirs whatever the selectors are.
        bodies[_OWN_STYLE] = b"@layer base{" + bodies[_BASE_STYLE].removeprefix(_CHARSET) + b"}\n" + bodies[_OWN_STYLE]
        self._paths, self._files = {}, {}
        for name, body in bodies.items():
            path = f"/static/{sha256(body).hexdigest()[:16]}/{name}"
            self._paths[name] = path
            self._files[path] = _File(body, gzip.compress(body, mtime=0), _type_of(name))

    def path(self, name: str) -> str:
        """The path of a file, for a page. Raises KeyError if there is none."""
        return self._paths[name]

    def answer(self, path: str, accepted: str) -> Response | None:
        """A file, or None if there is none with this path."""
        file = self._files.get(path)
        if file is None:
            return None
        headers = {"cache-control": CACHED, "vary": "accept-encoding"}
        if "gzip" in accepted:
            headers["content-encoding"] = "gzip"
            return Response(file.compressed, media_type=file.media_type, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)


def _read() -> dict[str, bytes]:
    """The files by name. The folders are one level deep."""
    found = {}
    for entry in files("api.console").joinpath("static").iterdir():
        for file in entry.iterdir() if entry.is_dir() else [entry]:
            found[f"{entry.name}/{file.name}" if entry.is_dir() else file.name] = file.read_bytes()
    return found


def _type_of(name: str) -> str:
    return _TYPES.get(f".{name.rpartition('.')[2]}", "")
