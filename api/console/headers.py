"""The headers of every answer of the console."""

from starlette.responses import Response

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing that is written into a page runs, and no other page may frame it. ``data:`` is for the QR code."""
ALWAYS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "max-age=31536000"
NO_STORE = "no-store"


def finish(response: Response, *, is_https: bool) -> Response:
    """Give an answer the headers that all have. One that is not a static file is kept nowhere."""
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("cache-control", NO_STORE)
    if is_https:
        response.headers["strict-transport-security"] = HSTS
    return response
