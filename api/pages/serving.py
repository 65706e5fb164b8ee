"""Serves the pages: in the reader's language, compressed if the browser takes it, and not again if it has it."""

from collections.abc import Callable, Mapping
from time import perf_counter

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api import bodies, paths
from api.answers import ALWAYS_BUT_POLICY_AND_CACHE, Answer
from api.dispatch import Front, refusing
from api.pages.building import LANGUAGES, Built, built
from api.pages.codes import qr_svg
from api.pages.public_address import origin_of
from api.problems import WrongMethodError, answer_to
from engine.errors import HongbaoError

KINDS = {"p": ("packet", "packet_id"), "c": ("campaign", "campaign_id")}
"""The first part of a page's path -> what it shows, and the name of the number in the path."""
PATHS = tuple(f"/{letter}/{{{name}}}{suffix}" for letter, (_, name) in KINDS.items() for suffix in ("", "/qr.svg"))
_KEPT_S = 300
_KEPT = (b"cache-control", b"public, max-age=%d" % _KEPT_S)
_VARY = (b"vary", b"accept-encoding, accept-language")
_SVG_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_PARTS_MAX = 20
Answering = Callable[[Mapping[str, str], bodies.Headers, bytes], Answer]


def routes(front: Front) -> list[Route]:
    """The routes of all pages. They are no operations of the API: nobody needs a token for them."""
    found = []
    for letter, (kind, name) in KINDS.items():
        path = f"/{letter}/{{{name}}}"
        found.append(Route(path, _PageApp(front, path, _page(front, kind)), name=path))
        found.append(Route(f"{path}/qr.svg", _PageApp(front, f"{path}/qr.svg", _code(front, letter, name))))
    return found


class _PageApp:
    """Everything under one path, as an ASGI application."""

    def __init__(self, front: Front, path: str, answering: Answering) -> None:
        self._front, self._path, self._answering = front, path, answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in every case."""
        started_s, front, method = perf_counter(), self._front, scope["method"]
        is_known = method in ("GET", "HEAD")
        front.in_flight += 1
        try:
            try:
                if not is_known:
                    raise WrongMethodError("GET, HEAD")
                headers = bodies.headers_of(scope)
                answer = self._answering(scope["path_params"], headers, scope["query_string"])
            except Exception as error:
                answer = answer_to(error)
            front.meter.of("GET" if is_known else "other", self._path).note(answer.status, perf_counter() - started_s)
            if answer.status == 304:
                await send({"type": "http.response.start", "status": 304, "headers": list(answer.headers)})
                await send({"type": "http.response.body", "body": b""})
            else:
                await refusing(answer)(scope, receive, send)
        finally:
            front.in_flight -= 1
            if front.in_flight == 0:
                front.idle.set()


def _page(front: Front, kind: str) -> Answering:
    pages = {language: built(kind, language, front.settings.sign_in_url) for language in LANGUAGES}

    def answer(path: Mapping[str, str], headers: bodies.Headers, query: bytes) -> Answer:
        page = pages[language_of(query, headers.get(b"accept-language", b""))]
        is_gzipped = accepts_gzip(headers.get(b"accept-encoding", b""))
        etag = f'"{page.etag}{"-gzip" if is_gzipped else ""}"'.encode()
        shared = (*ALWAYS_BUT_POLICY_AND_CACHE, _KEPT, _VARY, (b"etag", etag))
        if is_among(etag, headers.get(b"if-none-match", b"")):
            return Answer(304, b"", shared)
        # A number that cannot be one has the same page, which says so to people.
        status, body = 200 if _is_number(path) else 404, page.gzipped if is_gzipped else page.body
        return Answer(status, body, (*shared, *_head(page, is_gzipped=is_gzipped)))

    return answer


def _head(page: Built, *, is_gzipped: bool) -> tuple[tuple[bytes, bytes], ...]:
    own = ((b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", page.policy.encode()))
    return (*own, (b"content-encoding", b"gzip")) if is_gzipped else own


def _is_number(path: Mapping[str, str]) -> bool:
    try:
        paths.check(path, [])
    except HongbaoError:
        return False
    return True


def _code(front: Front, letter: str, name: str) -> Answering:
    def answer(path: Mapping[str, str], headers: bodies.Headers, _query: bytes) -> Answer:
        paths.check(path, [])
        address = f"{origin_of(front.settings, headers.get(b'host'))}/{letter}/{path[name]}"
        own = ((b"content-type", b"image/svg+xml"), _SVG_POLICY)
        return Answer(200, qr_svg(address), (*ALWAYS_BUT_POLICY_AND_CACHE, _KEPT, *own))

    return answer


def language_of(query: bytes, accept_language: bytes) -> str:
    """The language of ``?lang`` or, without it, the one that Accept-Language prefers; Chinese if it has neither."""
    for pair in query.split(b"&"):
        if pair in (b"lang=zh", b"lang=en"):
            return pair[-2:].decode()
    weights = {"zh": 0.0, "en": 0.0}
    for name, weight in _weighted(accept_language):
        language = name.partition("-")[0]
        if language in weights:
            weights[language] = max(weights[language], weight)
    return "en" if weights["en"] > weights["zh"] else "zh"


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether a header Accept-Encoding allows gzip."""
    return any(name in ("gzip", "*") and weight > 0 for name, weight in _weighted(accept_encoding))


def is_among(etag: bytes, if_none_match: bytes) -> bool:
    """Whether a header If-None-Match names this answer. A proxy may have made the tag a weak one."""
    named = [part.strip().removeprefix(b"W/") for part in if_none_match.split(b",")[:_PARTS_MAX]]
    return etag in named or b"*" in named


def _weighted(header: bytes) -> list[tuple[str, float]]:
    """The names in a header, in lower case, each with its ``q``."""
    found = []
    for part in header.decode("latin-1").lower().split(",")[:_PARTS_MAX]:
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        is_weight = weight.isascii() and weight.replace(".", "", 1).isdecimal()
        found.append((name, float(weight) if is_weight else 0.0))
    return found
