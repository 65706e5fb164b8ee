"""Builds a page once, from its template, styles, scripts and texts, into bytes that are ready to be sent."""

import base64
import gzip
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

LANGUAGES = ("zh", "en")
"""In the order of the two texts of each key in sources/words.*.json."""
_SOURCES = files("api.pages") / "sources"
_SHARED_SCRIPTS = ("words", "caller", "requests", "elements", "faces", "share", "proof")
_STYLES = {"packet": ("shared", "packet"), "campaign": ("shared", "campaign")}
_SCRIPTS = {"packet": ("packet", "claims_list"), "campaign": ("campaign_clock", "sky", "campaign")}
_TEMPLATES = Environment(
    loader=PackageLoader("api.pages", "sources"), autoescape=True, undefined=StrictUndefined, auto_reload=False
)
_FULL_LINE_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_STYLE_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INDENT = re.compile(r"\n\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A page in one language. ``policy``: its content security policy, which allows only its own style and script."""

    body: bytes
    gzipped: bytes
    etag: str
    policy: str


@cache
def built(kind: str, language: str, sign_in_url: str | None) -> Built:
    """The page of a ``packet`` or a ``campaign``. ``sign_in_url``: where it sends users without a token."""
    words = _words(kind)
    style, script = _style(kind), _script(kind, words)
    template = _TEMPLATES.get_template(f"{kind}.html")
    place = LANGUAGES.index(language)
    page = template.render(
        language="zh-CN" if language == "zh" else "en",
        words={key: texts[place] for key, texts in words.items()},
        sign_in_url=sign_in_url or "",
        style=Markup(style),  # noqa: S704  # files of ours, without a value in them
        script=Markup(script),  # noqa: S704  # the same
    )
    body = _INDENT.sub("\n", page).encode()
    return Built(
        body=body,
        gzipped=gzip.compress(body, compresslevel=9, mtime=0),
        etag=hashlib.sha256(body).hexdigest()[:32],
        policy=(
            f"default-src 'none'; script-src {_hash_of(script)}; style-src {_hash_of(style)}; img-src 'self' data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    )


def _words(kind: str) -> dict[str, Sequence[str]]:
    """key -> the Chinese and the English text."""
    words: dict[str, Sequence[str]] = {}
    for part in ("shared", kind):
        words |= orjson.loads((_SOURCES / f"words.{part}.json").read_bytes())
    return words


def _style(kind: str) -> str:
    text = "\n".join(_read(f"{name}.css") for name in _STYLES[kind])
    return _INDENT.sub("\n", _STYLE_COMMENT.sub("", text)).strip()


def _script(kind: str, words: dict[str, Sequence[str]]) -> str:
    """All scripts in one function, so that nothing of them is global. Lines stay, so that an error names one."""
    # No text can end the element that the script is in.
    texts = orjson.dumps(words).decode().replace("<", "\\u003c")
    parts = [f"const WORDS = {texts};", *(_read(f"{name}.js") for name in (*_SHARED_SCRIPTS, *_SCRIPTS[kind]))]
    joined = "\n".join(["(function () {", '"use strict";', *parts, "}());"])
    return _INDENT.sub("\n", _FULL_LINE_COMMENT.sub("", joined))


def _read(name: str) -> str:
    return (_SOURCES / name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
